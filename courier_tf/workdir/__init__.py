"""What lies in a workdir: artefacts, records, and how files are written whole or not at all."""
