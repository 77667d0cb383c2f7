"""What is watched while versions are served: a canary beside the stable version, other policies, drift."""
