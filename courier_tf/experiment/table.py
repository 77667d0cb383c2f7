"""The rows of an experiment as a Markdown table with paired intervals, and as a plot."""

import itertools
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from courier_tf.chain import SETTINGS_FILE
from courier_tf.experiment.encoders import spread
from courier_tf.experiment.grid_run import FOUND_FILE, PREDICTIONS_FILE
from courier_tf.ranking.evaluation import NEW_TO_USER, NEW_TO_USER_RARE, RARE, Evaluation, read_evaluation
from courier_tf.ranking.intervals import paired_gain
from courier_tf.schema import CATEGORY
from courier_tf.settings import Settings
from courier_tf.settings.rank_modes import NO_IMAGE_FEATURE
from courier_tf.workdir import artefacts, records

GATES_SHOWN = 3
PARTS = {
    "all": "all",
    NEW_TO_USER: "repeats left out",
    NEW_TO_USER_RARE: "repeats left out, 0 to 4 events",
    RARE: "0 to 4 events",
}
OF_CATEGORIES = f"{NEW_TO_USER}+{CATEGORY}/"


def table_of(rows: pd.DataFrame, directories: Mapping[tuple[str, int], Path]) -> str:
    """Tables of what each run and mode achieves, of what it gains, and of how modes of a run differ, all in points.

    Figures are means (deviations over the seeds). All differences are paired, and their intervals over users and seeds:
    the gain over `none` of the same run, the difference from the first run with the same mode, and from other modes.

    Args:
        rows: of `results.csv`.
        directories: workdir of each run, by (run, seed).
    """
    first, scored = rows["run"].iloc[0], _Scored(directories, rows["split"].iloc[0])
    figures = [
        "seeds",
        *(f"AUC {name}" for name in PARTS.values()),
        "GAUC",
        "log loss",
        "learning rates",
        "rankers that it trained, s",
    ]
    gains = [f"gain over none, {name} (95 %)" for name in scored.parts.values()]
    gains += ["GAUC gain over none, all (95 %)", f"less the first run, {PARTS[NEW_TO_USER]} (95 %)"]
    achieved, gained = ([_line(["run", "mode", *head]), "|" + "---|" * (2 + len(head))] for head in (figures, gains))
    for (run, mode), part in rows.groupby(["run", "mode"], sort=False):
        seeds = part["seed"].tolist()
        cells = [str(len(part)), *(spread(part["auc" if name == "all" else f"auc {name}"]) for name in PARTS)]
        cells += [spread(part["gauc"]), spread(part["logloss"], 1, 4), ", ".join(part["learning_rates"].astype(str))]
        cells += [f"{part['seconds_rank'].mean():.0f}"]
        achieved.append(_line([run, mode, *cells]))
        base = None if mode == NO_IMAGE_FEATURE else (run, NO_IMAGE_FEATURE)
        cells = [scored.difference(name, (run, mode), base, seeds) for name in scored.parts]
        cells += [scored.difference("all", (run, mode), base, seeds, "gauc")]
        cells += [scored.difference(NEW_TO_USER, (run, mode), None if run == first else (first, mode), seeds)]
        if any(cells):
            gained.append(_line([run, mode, *cells]))
    return "\n".join([*achieved, "", *gained, *_between_modes(rows, scored)]) + "\n"


def _between_modes(rows: pd.DataFrame, scored: "_Scored") -> list[str]:
    """Lines of a table: each two modes with an image feature of a run; none where no run has two."""
    parts = [NEW_TO_USER, NEW_TO_USER_RARE]
    head = ["run", "mode", "less", *(f"{PARTS[part]} (95 %)" for part in parts)]
    lines = ["", _line(head), "|" + "---|" * len(head)]
    seeing = rows[rows["mode"] != NO_IMAGE_FEATURE]
    for run, of_run in seeing.groupby("run", sort=False):
        for one, other in itertools.combinations(of_run["mode"].unique(), 2):
            seeds = of_run.loc[of_run["mode"] == one, "seed"].tolist()
            cells = [scored.difference(part, (run, one), (run, other), seeds) for part in parts]
            lines.append(_line([run, one, other, *cells]))
    return lines if len(lines) > 3 else []


def _line(cells: Sequence[str]) -> str:
    # Categories and columns are the words of the shop.
    words = (cell.replace("|", "\\|").replace("\n", " ") for cell in cells)
    return f"| {' | '.join(words)} |"


def popularity(rows: pd.DataFrame) -> str:
    """What popularity alone would tell of the clicks: far from 50, it gives sampled negatives away."""
    found = rows["popularity_auc"].dropna().unique()
    shown = ", ".join(f"{100 * value:.2f}" for value in found)
    return f"AUC of the train span's popularity alone, {rows['split'].iloc[0]}: {shown}."


def gates_of(rows: pd.DataFrame) -> str:
    """A table of the categories whose gates are most and least open, per run and mode, means over the seeds.

    A gate of 0 switches the image feature off, one of 1 lets it through. Empty where there are no gates.
    """
    if "category_gates" not in rows or rows["category_gates"].isna().all():
        return ""
    lines = [_line(["run", "mode", "gates, mean", "most open", "least open"]), "|" + "---|" * 5]
    for (run, mode), part in rows[rows["category_gates"].notna()].groupby(["run", "mode"], sort=False):
        means = pd.DataFrame([json.loads(gates) for gates in part["category_gates"]]).mean().sort_values(kind="stable")
        ends = means[::-1][:GATES_SHOWN], means[:GATES_SHOWN]
        shown = (", ".join(f"{category} {gate:.2f}" for category, gate in end.items()) for end in ends)
        lines.append(_line([run, mode, f"{means.mean():.2f}", *shown]))
    return "\n".join(lines) + "\n\n"


def gates_by_column(rows: pd.DataFrame, directories: Mapping[tuple[str, int], Path]) -> str:
    """A table of how far the gates are open for the items of each value of `rank_slice_columns`, but for the category.

    Means over the items and the seeds. Empty where there are no gates, or no such columns.
    """
    if "category_gates" not in rows:
        return ""
    lines = [_line(["run", "mode", "column", "gates, mean over the items of each value"]), "|" + "---|" * 4]
    for (run, mode), part in rows[rows["category_gates"].notna()].groupby(["run", "mode"], sort=False):
        workdir = directories[run, part["seed"].iloc[0]]
        columns = set(_slice_columns(workdir)) - {CATEGORY}
        if columns:
            items = _items(workdir)
            gate_of = pd.DataFrame([json.loads(gates) for gates in part["category_gates"]]).mean()
            gates = np.array([gate_of.get(value.decode(), np.nan) for value in items.columns[CATEGORY]])
            for column in sorted(columns):
                means = pd.Series(gates).groupby([value.decode() for value in items.columns[column]]).mean().dropna()
                shown = ", ".join(f"{value} {gate:.2f}" for value, gate in means.items())
                lines.append(_line([run, mode, column, shown]))
    return "\n".join(lines) + "\n\n" if len(lines) > 2 else ""


class _Scored:
    """The impressions that the runs were measured on, and what each run predicted.

    Args:
        directories: workdir of each run, by (run, seed).
        split: what they were measured on.
    """

    def __init__(self, directories: Mapping[tuple[str, int], Path], split: str) -> None:
        self.directories = directories
        # Runs on different data have no impressions in common.
        self.ingests = {
            run: json.loads((path / FOUND_FILE).read_text())["ingest"] for (run, _), path in directories.items()
        }
        of_ingest = {self.ingests[run]: path for (run, _), path in directories.items()}
        self.evaluations = {ingest: evaluation_of(path, split) for ingest, path in of_ingest.items()}
        # Of categories there are many, and their gains stand in each run's metrics.json.
        self.parts = PARTS | {
            name: f"{PARTS[NEW_TO_USER]}, {name.removeprefix(f'{NEW_TO_USER}+')}"
            for evaluation in self.evaluations.values()
            for name in evaluation.slices
            if name.startswith(f"{NEW_TO_USER}+") and name != NEW_TO_USER_RARE and not name.startswith(OF_CATEGORIES)
        }

    def difference(
        self, part: str, side: tuple[str, str], base: tuple[str, str] | None, seeds: list[int], figure: str = "auc"
    ) -> str:
        """The difference of AUC, or of another of `FIGURES`, between two (run, mode) on a slice.

        Of the seeds that both have; empty where there is nothing to compare.
        """
        if base is None or self.ingests[base[0]] != self.ingests[side[0]]:
            return ""
        seeds = [seed for seed in seeds if (base[0], seed) in self.directories]
        if not seeds:
            return ""
        both = []
        for run, mode in (side, base):
            files = [self.directories[run, seed] / PREDICTIONS_FILE for seed in seeds]
            loaded = [np.load(file) for file in files]
            if any(mode not in content for content in loaded):
                return ""
            # [seeds, starts, impressions]: starts of one seed share its encoder, and are no repetitions of their own,
            both.append(np.stack([content[mode] for content in loaded]))
        if len(seeds) == 1 and both[0].shape == both[1].shape:  # unless they are all that there is.
            both = [scores.swapaxes(0, 1) for scores in both]
        if np.array_equal(*both):
            return ""  # The same rankers: `none` of two objectives.
        own = self.evaluations[self.ingests[side[0]]]
        rows = np.ones(len(own.clicked), bool) if part == "all" else own.slices.get(part, np.zeros(0, bool))
        sides = (scores[..., rows] for scores in both)
        found = rows.any() and paired_gain(own.users[rows], own.clicked[rows], *sides, figure=figure)
        if not found:
            return ""
        return f"{100 * found['gain']:+.2f} ({100 * found['low']:+.2f} to {100 * found['high']:+.2f})"


def evaluation_of(workdir: Path, split: str) -> Evaluation:
    """The split that a run was measured on, with its slices."""
    facts = artefacts.read(workdir / "ingest", "ingest").facts
    return read_evaluation(workdir / "ingest", split, _items(workdir), facts["repeat_columns"], _slice_columns(workdir))


def _items(workdir: Path) -> records.Items:
    return records.read_items(workdir / "ingest", artefacts.read(workdir / "ingest", "ingest").facts["all_columns"])


def _slice_columns(workdir: Path) -> tuple[str, ...]:
    return Settings.from_json((workdir / SETTINGS_FILE).read_text()).rank.rank_slice_columns


def draw(rows: pd.DataFrame, file: Path) -> None:
    """The gain over `none` of each run and mode, headline and rare items, a dot per seed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    gained = rows[rows["mode"] != NO_IMAGE_FEATURE]
    labels = list(dict.fromkeys(zip(gained["run"], gained["mode"], strict=True)))
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 1 + 0.35 * len(labels)), sharey=True, layout="constrained")
    for axis, part in zip(axes, (NEW_TO_USER, NEW_TO_USER_RARE), strict=True):
        for place, (run, mode) in enumerate(labels):
            own = gained[(gained["run"] == run) & (gained["mode"] == mode)]
            values = 100 * own[f"gain {part}"].astype(float)
            axis.plot(values, [place] * len(values), "o", color="tab:blue", alpha=0.6)
            axis.plot(values.mean(), place, "|", color="black", markersize=14)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(title=PARTS[part], xlabel="gain in AUC over none, points")
    axes[0].set_yticks(range(len(labels)), [f"{run}: {mode}" for run, mode in labels])
    axes[0].invert_yaxis()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
