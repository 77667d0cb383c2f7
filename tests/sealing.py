"""Artefacts whose files a test has changed."""

import json
from pathlib import Path

from courier_tf.workdir import artefacts, checksums


def seal_again(directory: Path, keep_fingerprint: bool = False) -> None:
    """Makes the files of an artefact pass for those that the stage wrote.

    Args:
        directory: directory of the artefact.
        keep_fingerprint: let the stages after it take it for what they were made from.
    """
    file = directory / artefacts.ARTEFACT_FILE
    states = checksums.states_below(directory, artefacts.NOT_CONTENT)
    content = json.loads(file.read_text())
    content["files"] = states
    if not keep_fingerprint:
        content["fingerprint"] = checksums.fingerprint_of_states(states)
    file.write_text(json.dumps(content))
    seal_description(directory)


def seal_description(directory: Path) -> None:
    """Makes the description of an artefact pass for what the stage wrote."""
    file = directory / artefacts.ARTEFACT_FILE
    content = json.loads(file.read_text())
    file.write_text(json.dumps(content | {artefacts.CHECKSUM: artefacts.checksum_of_description(content)}))
