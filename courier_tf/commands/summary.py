"""What a run says at its end: the verdict, and where the rest stands."""

import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from courier_tf import schema, tracking
from courier_tf.commands.report_file import write_report
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import StorePlace
from courier_tf.ranking.metrics_file import METRICS_FILE
from courier_tf.ranking.soundness import popularity_warning
from courier_tf.ranking.verdict import WIDEST, verdict

TRACKED = ("ranking", "gain_over_none", "held_out")  # Parts of `metrics.json` whose numbers are recorded.


def report(metrics: Mapping[str, Any], workdir: Path, place: StorePlace | None = None) -> None:
    """Prints the verdict of a run, and writes its table into a file of the workdir.

    Args:
        metrics: content of `metrics.json`.
        workdir: workdir of the run, or the folder of its copies.
        place: the workdir on a store, which gets the table, too.
    """
    console = Console(markup=False, emoji=False, highlight=False)
    file = write_report(metrics, workdir)
    if place:
        transfer.upload(file, place / file.name)
    tracking.figures("result", tracking.numbers_in({name: metrics[name] for name in TRACKED}), step=0)
    tracking.file(workdir / METRICS_FILE)
    for line in verdict_lines(metrics):
        console.print(line, soft_wrap=True)
    names = {
        "All slices": file.name,
        "All figures": METRICS_FILE,
        "Model card": f"{schema.BUNDLE_FOLDER}/{schema.MODEL_CARD}",
        "SavedModels for TF Serving": schema.MODELS_FOLDER,
    }
    for what, name in names.items():
        if (workdir / name).exists():  # `courier rank` exports nothing.
            shown = printable((place or workdir) / name, limit=4096)  # A path is cut nowhere.
            console.print(f"{what}: {shown}", soft_wrap=True)


def verdict_lines(metrics: Mapping[str, Any]) -> Iterator[str]:
    """The verdict and what must be known beside it, in lines of at most `WIDEST` characters.

    Args:
        metrics: content of `metrics.json`.
    """
    judged = verdict(metrics)
    yield from _wrapped(judged.sentence)
    yield from judged.rows
    for split, guard in metrics["popularity"].items():
        data = metrics["data"]
        if warning := popularity_warning(guard["auc"], split, data["negatives"], data.get("pool_days")):
            yield from _wrapped(f"Warning: {warning}")


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, WIDEST, break_on_hyphens=False)
