"""What the encoders of an experiment have learned: a table of their held-out scores, and their loss curves."""

from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from courier_tf.escaping import printable
from courier_tf.experiment.markdown import groups_of, line, mean_over_origins, rule, spread
from courier_tf.experiment.run import Key

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
    "held_out_best_new_to_user": ("SimScore best, new to user", 100, 2),
    "held_out_mean_new_to_user": ("SimScore mean, new to user", 100, 2),
    "held_out_reconstruction_new_to_user": ("cos(e_j, r_j), new to user", 100, 2),
    "seconds_pretrain": ("pre-training, s", 1, 0),
}


def table_of(rows: pd.DataFrame) -> str:
    """A line per variant: mean (deviation) over its seeds. AUC is in points, on the valid span; of several, the mean.

    Args:
        rows: rows of `results.csv`.
    """
    known = {column: figure for column, figure in FIGURES.items() if column in rows}
    runs = mean_over_origins(rows.drop_duplicates(["variant", "seed", "origin"]), list(known))
    lines = [line(["encoder", "seeds", *(heading for heading, _, _ in known.values())]), rule(2 + len(known))]
    for (variant,), part in groups_of(runs, "variant"):
        cells = [spread(part[column], factor, digits) for column, (_, factor, digits) in known.items()]
        lines.append(line([variant, str(len(part)), *cells]))
    return "\n".join(lines) + "\n"


def draw(directories: Mapping[Key, Path], file: Path) -> None:
    """Draws the loss curves. Each variant has a plot of its own, as losses of objectives cannot be compared.

    Args:
        directories: workdir of each run.
        file: image to write; not written where no run has a curve.
    """
    logs: dict[str, dict[str, pd.DataFrame]] = {}
    for key, workdir in directories.items():
        log = workdir / "pretrain" / "logs" / "steps.csv"
        if log.exists():
            name = f"seed {key.seed}" + (f", {key.origin}" if key.origin else "")
            logs.setdefault(key.variant, {})[name] = pd.read_csv(log)
    if not logs:
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    columns = min(4, len(logs))
    lines = -(-len(logs) // columns)
    figure, axes = pyplot.subplots(
        lines, columns, figsize=(4 * columns, 3 * lines), squeeze=False, layout="constrained"
    )
    for axis, (variant, curves) in zip(axes.flat, logs.items(), strict=False):
        for name, curve in curves.items():
            axis.plot(np.arange(1, len(curve) + 1), curve["loss"], marker="o", label=name)
        axis.set_title(printable(variant), fontsize=9, parse_math=False)
        axis.set(xlabel="checkpoints", ylabel="loss")
        axis.legend()
    for axis in list(axes.flat)[len(logs) :]:
        axis.set_axis_off()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
