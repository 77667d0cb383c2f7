"""The ladder: how much each step from no visual feature to the best encoder is worth.

Its rungs are variants of a grid, from the lowest to the highest. Each has two figures, both for candidates new to the
user: the held-out score of its encoder, and the gain of the best visual feature in the ranker. Each is compared with
the rungs below it. The best visual feature is chosen on valid, so its gain on valid is a little too high.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import matplotlib
import pandas as pd

from courier_tf.escaping import printable
from courier_tf.experiment.differences import Differences, Rankers
from courier_tf.experiment.grid import Grid
from courier_tf.experiment.held_out import EncoderDifferences
from courier_tf.experiment.markdown import interval, line, rule
from courier_tf.experiment.run import Key
from courier_tf.ranking.evaluation import NEW_TO_USER
from courier_tf.ranking.intervals import NO_INTERVAL, Gain
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE, is_control
from courier_tf.workdir.atomic import write_file

LADDER_FILE, PLOT_FILE = "ladder.csv", "ladder.png"
GROUND = "no visual feature"  # Below the lowest rung: a held-out score of 0.5, and the ranker `none`.
HELD_OUT, RANKER = "held-out score", "ranker"
CHANCE = 0.5


@dataclasses.dataclass(frozen=True)
class Rung:
    """A rung, as far as it was run.

    Attributes:
        name: its name in the grid.
        variant: the variant that was kept for it.
        seeds: its seeds.
        mode: the best visual feature in the ranker; None where no ranker was run.
        ranked: the seeds that have rankers.
    """

    name: str
    variant: str
    seeds: list[int]
    mode: str | None
    ranked: list[int]


def rungs_of(grid: Grid, rows: pd.DataFrame, kept: Sequence[str]) -> list[Rung]:
    """The rungs of a grid's ladder, from the lowest to the highest.

    Args:
        grid: the grid that was run.
        rows: rows of `results.csv`.
        kept: names of the variants that were kept.
    """
    kept_of = {variant.without(grid.tuned).name: variant.name for variant in grid.variants() if variant.name in kept}
    rungs = []
    for name, untuned in grid.ladder.items():
        part = rows[rows["variant"] == kept_of[untuned]]
        features = [
            mode for mode in part["mode"].dropna().unique() if mode != NO_VISUAL_FEATURE and not is_control(mode)
        ]
        ranked = part[part["mode"].isin(features)]
        gains = ranked.groupby("mode", sort=False)[f"valid_gain {NEW_TO_USER}"].mean() if features else pd.Series()
        rungs.append(
            Rung(
                name,
                kept_of[untuned],
                sorted(part["seed"].unique().tolist()),
                str(gains.astype(float).idxmax()) if gains.notna().any() else None,
                sorted(ranked["seed"].unique().tolist()),
            )
        )
    return rungs


class Difference(NamedTuple):
    """How much a rung is above another one, in AUC.

    Attributes:
        rung, less: names of the rungs; the lower one may be `GROUND`.
        figure: `HELD_OUT` or `RANKER`.
        seeds: number of seeds.
        mode: the best visual feature of the higher rung.
        gain: the difference.
        low, high, error: its interval and standard error; None where there is no interval.
    """

    rung: str
    less: str
    figure: str
    seeds: int
    mode: str | None
    gain: float
    low: float | None
    high: float | None
    error: float | None


def differences_of(rungs: Sequence[Rung], directories: Mapping[Key, Path], split: str | None) -> list[Difference]:
    """The differences of each rung from all below it, the ground among them. A pair that cannot be compared has none.

    Args:
        rungs: from the lowest to the highest.
        directories: workdir of each run.
        split: span of the rankers; None where none were run.
    """
    encoders = EncoderDifferences(directories)
    with_rankers = {(rung.variant, seed) for rung in rungs for seed in rung.ranked}
    of_ranked = {key: workdir for key, workdir in directories.items() if (key.variant, key.seed) in with_rankers}
    rankers = Differences(of_ranked, split) if split else None
    compared: list[Difference] = []

    def add(rung: Rung, below: str, figure: str, gain: Gain | None) -> None:
        if gain:
            seeds = rung.seeds if figure == HELD_OUT else rung.ranked
            compared.append(Difference(rung.name, below, figure, len(seeds), rung.mode, **gain))

    for place, rung in enumerate(rungs):
        add(rung, GROUND, HELD_OUT, encoders.gain(rung.variant, None, rung.seeds))
        for below in rungs[:place]:
            if encoders.comparable(rung.variant, below.variant):
                add(rung, below.name, HELD_OUT, encoders.gain(rung.variant, below.variant, rung.seeds))
        if rankers is None or rung.mode is None:
            continue
        best = Rankers(rung.variant, rung.mode)
        ground = Rankers(rung.variant, NO_VISUAL_FEATURE)
        add(rung, GROUND, RANKER, rankers.gain(NEW_TO_USER, best, ground, rung.ranked))
        for below in rungs[:place]:
            if below.mode is not None:
                other = Rankers(below.variant, below.mode)
                add(rung, below.name, RANKER, rankers.gain(NEW_TO_USER, best, other, rung.ranked))
    return compared


def table_of(rungs: Sequence[Rung], differences: Sequence[Difference]) -> str:
    """Markdown tables in points: the rungs; and for both figures each rung less every rung below it.

    Args:
        rungs: from the lowest to the highest.
        differences: of `differences_of`.
    """
    by_pair = {(row.rung, row.less, row.figure): row for row in differences}

    def shown(rung: str, less: str, figure: str) -> str:
        row = by_pair.get((rung, less, figure))
        return interval(row.gain, row.low, row.high) if row else ""

    figures = _figures(differences)
    head = ["rung", "seeds", "held-out score, new to user (95 %)", "less the rung below (95 %)"]
    if RANKER in figures:
        head += ["best visual feature", "gain over none, new to user (95 %)", "ranker less the rung below (95 %)"]
    lines = [line(head), rule(len(head)), line([GROUND, "", "50.00", *[""] * (len(head) - 3)])]
    below = GROUND
    for rung in rungs:
        row = by_pair.get((rung.name, GROUND, HELD_OUT))
        cells = [rung.name, str(len(rung.seeds)), _score(row) if row else "", shown(rung.name, below, HELD_OUT)]
        if RANKER in figures:
            cells += [rung.mode or "", shown(rung.name, GROUND, RANKER), shown(rung.name, below, RANKER)]
        lines.append(line(cells))
        below = rung.name
    lower = [rung.name for rung in rungs[:-1]]
    for figure in figures:
        lines += ["", line([f"{figure}, less", *lower]), rule(1 + len(lower))]
        lines += [line([rung.name, *(shown(rung.name, name, figure) for name in lower)]) for rung in rungs[1:]]
    return "\n".join(lines) + "\n\n"


def _score(over_ground: Difference) -> str:
    """A held-out score with its interval, in points."""
    score = f"{100 * (CHANCE + over_ground.gain):.2f}"
    if over_ground.low is None or over_ground.high is None:
        return f"{score} ({NO_INTERVAL})"
    return f"{score} ({100 * (CHANCE + over_ground.low):.2f} to {100 * (CHANCE + over_ground.high):.2f})"


def _figures(differences: Sequence[Difference]) -> list[str]:
    return [figure for figure in (HELD_OUT, RANKER) if any(row.figure == figure for row in differences)]


def write_ladder(
    grid: Grid, rows: pd.DataFrame, kept: Sequence[str], directories: Mapping[Key, Path], folder: Path
) -> str:
    """Writes `ladder.csv` and `ladder.png`; returns the tables for `results.md`.

    Args:
        grid: a grid with a ladder.
        rows: rows of `results.csv`.
        kept: names of the variants that were kept.
        directories: workdir of each run.
        folder: of the results.
    """
    rungs = rungs_of(grid, rows, kept)
    variants = {rung.variant for rung in rungs}
    of_rungs = {key: workdir for key, workdir in directories.items() if key.variant in variants}
    splits = rows["split"].dropna()
    split = str(splits.iloc[0]) if len(splits) else None
    differences = differences_of(rungs, of_rungs, split)
    write_file(folder / LADDER_FILE, pd.DataFrame(differences, columns=Difference._fields).to_csv(index=False))
    draw(rungs, differences, split or "valid", folder / PLOT_FILE)
    return table_of(rungs, differences)


def draw(rungs: Sequence[Rung], differences: Sequence[Difference], split: str, file: Path) -> None:
    """Draws the held-out score and the ranker's gain of each rung side by side, with intervals; the highest on top.

    Args:
        rungs: from the lowest to the highest.
        differences: of `differences_of`.
        split: span of the rankers.
        file: image to write.
    """
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figures = _figures(differences)
    heights = {rung.name: height for height, rung in enumerate(rungs, start=1)}
    size = 3 + 5 * len(figures), 1.2 + 0.55 * (1 + len(rungs))
    figure, axes = pyplot.subplots(1, len(figures), figsize=size, sharey=True, squeeze=False, layout="constrained")
    titles = {
        HELD_OUT: ("held-out score, valid", "AUC in points, new to user"),
        RANKER: (f"best visual feature in the ranker, {split}", "gain in AUC over none, points, new to user"),
    }
    for axis, name in zip(axes.flat, figures, strict=True):
        start = 100 * CHANCE if name == HELD_OUT else 0.0
        axis.plot(start, 0, "o", color="grey")
        for row in differences:
            if row.figure != name or row.less != GROUND:
                continue
            place = start + 100 * row.gain, heights[row.rung]
            sides = None
            if row.low is not None and row.high is not None:
                sides = [[100 * (row.gain - row.low)], [100 * (row.high - row.gain)]]
            axis.errorbar(*place, xerr=sides, fmt="o", color="tab:blue", capsize=4)
            text = printable(f"{place[0]:.1f}" if name == HELD_OUT else f"{place[0]:+.1f} {row.mode}")
            axis.annotate(text, place, (0, 7), textcoords="offset points", ha="center", fontsize=8, parse_math=False)
        axis.axvline(start, color="grey", linewidth=0.8)
        axis.grid(axis="x", alpha=0.3)
        axis.margins(x=0.12)
        axis.set_ylim(-0.5, len(rungs) + 0.7)
        axis.set(title=titles[name][0], xlabel=titles[name][1])
    axes[0, 0].set_yticks(range(1 + len(rungs)), [GROUND, *(printable(rung.name) for rung in rungs)], parse_math=False)
    figure.savefig(file, dpi=120)
    pyplot.close(figure)
