"""The section on provenance: what each stage was made from, and by which code."""

import json
from collections.abc import Iterator
from typing import Any

from courier_tf.escaping import printable
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.metrics_file import READINGS_FILE, readings_of
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.workdir.artefacts import Artefact
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK, SUPERVISED, Stage

STAGES: tuple[Stage[Any], ...] = (INGEST, SUPERVISED, PRETRAIN, EMBED, CLUSTER, RANK)


def blocks(work: Workdir) -> Iterator[Block]:
    """Fingerprints and settings of the stages, and how often the test span was read."""
    finished: dict[str, Artefact[Any]] = {}
    for stage in STAGES:
        try:
            finished[stage] = work.read(stage)
        except Missing:
            continue  # It has not run, or the encoder needed no supervised pre-training.
    if not finished:
        raise Missing("No stage is finished.")
    yield Table(
        "Stages: equal fingerprints, equal content",
        ("stage", "fingerprint", "code version", "made from"),
        [
            (
                name,
                artefact.fingerprint,
                artefact.made_by.code_version,
                ", ".join(f"{what} {fingerprint}" for what, fingerprint in artefact.made_by.inputs.items()),
            )
            for name, artefact in finished.items()
        ],
        texts=4,
    )
    for name, artefact in finished.items():
        settings = [
            (printable(setting), printable(json.dumps(value, default=str)))
            for setting, value in artefact.made_by.settings.items()
        ]
        yield Table(f"Settings of {name}", ("setting", "value"), settings, texts=2, folded=True)
    yield Paragraph(_readings(work))


def _readings(work: Workdir) -> str:
    file = work.path / READINGS_FILE
    try:
        number = len(readings_of(file)) if file.exists() else 0
    except RankingError as error:
        return f"How often the test span was read is not known: {error}."
    times = "once" if number == 1 else f"{number:,} times"
    return f"The test span was read {times}. Choices made after many readings are worth less."
