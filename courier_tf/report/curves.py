"""The section on training: losses, spread and held-out score of the encoder, log loss of the rankers."""

import csv
from collections.abc import Iterator
from pathlib import Path

from courier_tf.pretrain.fit import STEPS_FILE
from courier_tf.ranking.comparison import start_directory
from courier_tf.ranking.fit import PASSES_FILE
from courier_tf.report import charts, encoder_scores
from courier_tf.report.blocks import Block, Paragraph, Table
from courier_tf.report.workdir import Missing, Workdir
from courier_tf.typed_json import JsonError, read_json, require_kind
from courier_tf.workdir.stages import PRETRAIN, SUPERVISED

#: Column of the log -> what it is, in the order of the charts.
DRAWN = {
    "loss": "loss",
    "recall@1": "share of targets that are recalled first",
    "accuracy": "share of columns that are told right",
    "effective_rank": "effective rank of the embeddings",
}


def blocks(work: Workdir) -> Iterator[Block]:
    """Charts of supervised pre-training, the objective and the rankers, as far as they were trained, and the scores."""
    for stage, words in ((SUPERVISED, "supervised pre-training"), (PRETRAIN, "pre-training on clicks")):
        file = work.path / stage / "logs" / STEPS_FILE
        if not file.exists():
            yield Paragraph(f"No curve of {words}: it was not trained here.")
            continue
        logged = read_log(file)
        for column, what in DRAWN.items():
            if column in logged:
                yield charts.lines(
                    f"{words[0].upper()}{words[1:]}: {what}",
                    f"From {logged[column][0][1]:.4g} in the first epoch to {logged[column][-1][1]:.4g} in the last.",
                    {what: logged[column]},
                    "epoch",
                    column,
                )
    scores = list(encoder_scores.rows(work.metrics["held_out"]))
    yield Table(encoder_scores.TITLE, ("", *encoder_scores.COLUMNS), scores)
    yield from _rankers(work)


def read_log(file: Path) -> dict[str, list[tuple[float, float]]]:
    """Column of a log of Keras -> (epoch from 1 on, value); values that are no numbers are left out."""
    series: dict[str, list[tuple[float, float]]] = {}
    with file.open(newline="") as stream:
        for row in csv.DictReader(stream):
            for column, text in row.items():
                try:
                    series.setdefault(column, []).append((int(row["epoch"]) + 1, float(text)))
                except (TypeError, ValueError):
                    continue
    return series


def _rankers(work: Workdir) -> Iterator[Block]:
    ranked = work.rank
    series: dict[str, list[tuple[float, float]]] = {}
    for mode in ranked.facts.modes:
        start = ranked.facts.best_start[mode]
        file = start_directory(ranked.path, mode, start) / PASSES_FILE
        try:
            losses = read_json(file)
            require_kind("the content", losses, list[float])
        except (JsonError, OSError) as error:
            raise Missing(f"The passes of the ranker {mode} cannot be read: {error}.") from error
        series[mode] = [(number, loss) for number, loss in enumerate(losses, start=1)]
    yield charts.lines(
        "Rankers: log loss on valid after each pass",
        "Of the best start of each rank mode. The pass with the lowest log loss is kept.",
        series,
        "pass",
        "log loss",
    )
