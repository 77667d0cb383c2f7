"""What the encoders of an experiment learned: a table of their held-out scores, and their loss curves."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

CHOSEN_BY = "mean_new_to_user"  # The held-out score by which encoders are chosen.
#: Column -> heading, factor, digits.
FIGURES = {
    "loss_1": ("loss, first third", 1, 3),
    "loss_2": ("second", 1, 3),
    "loss_3": ("last", 1, 3),
    "held_out_alignment": ("alignment", 1, 3),
    "held_out_uniformity": ("uniformity", 1, 3),
    "held_out_effective_rank": ("effective rank", 1, 1),
    "held_out_best": ("SimScore best", 100, 2),
    "held_out_mean": ("SimScore mean", 100, 2),
    "held_out_best_new_to_user": ("SimScore best, repeats left out", 100, 2),
    "held_out_mean_new_to_user": ("SimScore mean, repeats left out", 100, 2),
    "held_out_reconstruction_new_to_user": ("cos(e_j, r_j), repeats left out", 100, 2),
    "seconds_pretrain": ("pre-training, s", 1, 0),
}


def spread(values: pd.Series, factor: float = 100, digits: int = 2) -> str:
    """Mean (deviation over the seeds) times the factor; empty where a figure is not defined."""
    values = factor * values.astype(float)
    if values.isna().any():
        return ""
    return f"{values.mean():.{digits}f}" + (f" ({values.std(ddof=1):.{digits}f})" if len(values) > 1 else "")


def table_of(rows: pd.DataFrame) -> str:
    """A line per run, mean (deviation) over its seeds; AUC in points, on the valid span.

    Args:
        rows: of `results.csv`.
    """
    once = rows.drop_duplicates(["run", "seed"])
    known = {name: figure for name, figure in FIGURES.items() if name in once}
    lines = [f"| encoder | seeds | {' | '.join(heading for heading, _, _ in known.values())} |"]
    lines.append("|" + "---|" * (2 + len(known)))
    for run, part in once.groupby("run", sort=False):
        cells = [spread(part[name], factor, digits) for name, (_, factor, digits) in known.items()]
        lines.append(f"| {run} | {len(part)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(directories: Mapping[tuple[str, int], Path], file: Path) -> None:
    """The loss curves: a small plot per run, as losses of objectives have nothing to do with each other.

    Args:
        directories: workdir of each run, by (run, seed).
        file: where the plot is written; not written where no run has a curve.
    """
    logs: dict[str, dict[int, pd.DataFrame]] = {}
    for (run, seed), workdir in directories.items():
        log = workdir / "pretrain" / "logs" / "steps.csv"
        if log.exists():
            logs.setdefault(run, {})[seed] = pd.read_csv(log)
    if not logs:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(4, len(logs))
    lines = -(-len(logs) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False, layout="constrained"
    )
    for axis, (run, curves) in zip(axes.flat, logs.items(), strict=False):
        for seed, curve in curves.items():
            axis.plot(np.arange(1, len(curve) + 1), curve["loss"], marker="o", label=f"seed {seed}")
        axis.set_title(run, fontsize=9)
        axis.set(xlabel="checkpoints", ylabel="loss")
        axis.legend()
    for axis in list(axes.flat)[len(logs) :]:
        axis.set_axis_off()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
