"""What the rankers of an experiment achieve: Markdown tables with paired intervals, and a plot."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd

from courier_tf.escaping import printable
from courier_tf.experiment.differences import PARTS, Compared, Differences, Rankers, items_of, slice_columns_of
from courier_tf.experiment.markdown import groups_of, line, mean_over_origins, rule, spread
from courier_tf.experiment.run import Key
from courier_tf.ranking.evaluation import NEW_TO_USER, NEW_TO_USER_RARE
from courier_tf.schema import CATEGORY
from courier_tf.settings.rank_modes import NO_VISUAL_FEATURE
from courier_tf.workdir.atomic import write_file

CATEGORIES_SHOWN = 3


GAINS_FILE = "gains.csv"


def write_tables(rows: pd.DataFrame, directories: Mapping[Key, Path], folder: Path) -> str:
    """Writes `gains.csv`, which has every difference of the tables, and returns the tables for `results.md`.

    Three tables: what each variant and mode achieves, what it gains, and how modes of a variant differ, in points.

    Figures are means (deviations over the seeds). All differences are paired, with intervals over users and seeds: the
    gain over `none` of the same variant, the difference from the first variant with the same mode, and that from other
    modes.

    Args:
        rows: rows of `results.csv` that have a mode.
        directories: workdir of each run.
        folder: of the results.
    """
    differences = Differences(directories, rows["split"].iloc[0])
    tables = [*_achieved(rows), "", *_gained(rows, differences), *_between_modes(rows, differences)]
    write_file(folder / GAINS_FILE, pd.DataFrame(differences.compared, columns=Compared._fields).to_csv(index=False))
    return "\n".join(tables) + "\n"


def _achieved(rows: pd.DataFrame) -> list[str]:
    aucs = [f"AUC {heading}" for heading in PARTS.values()]
    head = ["variant", "mode", "seeds", *aucs, "GAUC", "log loss", "learning rates", "rankers that it trained, s"]
    lines = [line(head), rule(len(head))]
    auc_columns = ["auc" if name == "all" else f"auc {name}" for name in PARTS]
    for (variant, mode), part in groups_of(rows, "variant", "mode"):
        of_seeds = mean_over_origins(part, [*auc_columns, "gauc", "logloss"])
        cells = [spread(of_seeds[column]) for column in (*auc_columns, "gauc")]
        cells += [spread(of_seeds["logloss"], 1, 4), ", ".join(map(str, part["learning_rates"]))]
        lines.append(line([variant, mode, str(len(of_seeds)), *cells, f"{part['seconds_rank'].mean():.0f}"]))
    return lines


def _gained(rows: pd.DataFrame, differences: Differences) -> list[str]:
    head = ["variant", "mode", *(f"gain over none, {heading} (95 %)" for heading in differences.parts.values())]
    head += ["GAUC gain over none, all (95 %)", f"less the first variant, {PARTS[NEW_TO_USER]} (95 %)"]
    lines = [line(head), rule(len(head))]
    first = str(rows["variant"].iloc[0])
    for (variant, mode), part in groups_of(rows, "variant", "mode"):
        rankers, seeds = Rankers(variant, mode), part["seed"].unique().tolist()
        none = None if mode == NO_VISUAL_FEATURE else Rankers(variant, NO_VISUAL_FEATURE)
        of_first = None if variant == first else Rankers(first, mode)
        cells = [differences.shown(name, rankers, none, seeds) for name in differences.parts]
        cells.append(differences.shown("all", rankers, none, seeds, "gauc"))
        cells.append(differences.shown(NEW_TO_USER, rankers, of_first, seeds))
        if any(cells):
            lines.append(line([variant, mode, *cells]))
    return lines


def _between_modes(rows: pd.DataFrame, differences: Differences) -> list[str]:
    """A line for each two modes with a visual feature of a variant; no table where no variant has two."""
    parts = [NEW_TO_USER, NEW_TO_USER_RARE]
    head = ["variant", "mode", "less", *(f"{PARTS[part]} (95 %)" for part in parts)]
    lines = ["", line(head), rule(len(head))]
    for (variant,), of_variant in groups_of(rows[rows["mode"] != NO_VISUAL_FEATURE], "variant"):
        for mode, other in itertools.combinations(of_variant["mode"].unique(), 2):
            seeds = of_variant.loc[of_variant["mode"] == mode, "seed"].unique().tolist()
            sides = Rankers(variant, mode), Rankers(variant, other)
            lines.append(line([variant, mode, other, *(differences.shown(part, *sides, seeds) for part in parts)]))
    return lines if len(lines) > 3 else []


def popularity(rows: pd.DataFrame) -> str:
    """What popularity alone would tell of the clicks. Far from 50, it gives sampled negatives away."""
    shown = ", ".join(f"{100 * auc:.2f}" for auc in rows["popularity_auc"].dropna().unique())
    return f"AUC of the train span's popularity alone, {rows['split'].iloc[0]}: {shown}."


def category_gates(rows: pd.DataFrame) -> str:
    """A table of the categories whose gates are most and least open, per variant and mode, means over the seeds.

    A gate of 0 switches the visual feature off; a gate of 1 lets it through. Empty where there are no gates.
    """
    if "category_gates" not in rows or rows["category_gates"].isna().all():
        return ""
    head = ["variant", "mode", "category gates, mean", "most open", "least open"]
    lines = [line(head), rule(len(head))]
    for (variant, mode), part in groups_of(rows[rows["category_gates"].notna()], "variant", "mode"):
        means = _mean_gates(part).sort_values(kind="stable")
        ends = means[::-1][:CATEGORIES_SHOWN], means[:CATEGORIES_SHOWN]
        shown = (", ".join(f"{printable(category)} {gate:.2f}" for category, gate in end.items()) for end in ends)
        lines.append(line([variant, mode, f"{means.mean():.2f}", *shown]))
    return "\n".join(lines) + "\n\n"


def category_gates_by_column(rows: pd.DataFrame, directories: Mapping[Key, Path]) -> str:
    """A table of how far the gates are open for the items of each value of `rank_slice_columns`, without the category.

    Means over the items and the seeds. Empty where there are no gates, or no such columns.
    """
    if "category_gates" not in rows:
        return ""
    head = ["variant", "mode", "column", "category gates, mean over the items of each value"]
    lines = [line(head), rule(len(head))]
    for (variant, mode), part in groups_of(rows[rows["category_gates"].notna()], "variant", "mode"):
        workdir = directories[Key(variant, int(part["seed"].iloc[0]), part["origin"].iloc[0])]
        columns = set(slice_columns_of(workdir)) - {CATEGORY}
        if not columns:
            continue
        items, gate_of = items_of(workdir), _mean_gates(part)
        gates = pd.Series([gate_of.get(category.decode(), np.nan) for category in items.columns[CATEGORY]])
        for column in sorted(columns):
            means = gates.groupby([value.decode() for value in items.columns[column]]).mean().dropna()
            lines.append(
                line(
                    [
                        variant,
                        mode,
                        column,
                        ", ".join(f"{printable(value)} {gate:.2f}" for value, gate in means.items()),
                    ]
                )
            )
    return "\n".join(lines) + "\n\n" if len(lines) > 2 else ""


def _mean_gates(rows: pd.DataFrame) -> pd.Series:
    """Category -> how far its gate is open, mean over the rows."""
    return pd.DataFrame([json.loads(gates) for gates in rows["category_gates"]]).mean()


def draw(rows: pd.DataFrame, file: Path) -> None:
    """Draws the gain over `none` of each variant and mode, for candidates new to the user: a dot per seed."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    gained = list(groups_of(rows[rows["mode"] != NO_VISUAL_FEATURE], "variant", "mode"))
    figure, axes = pyplot.subplots(1, 2, figsize=(13, 1 + 0.35 * len(gained)), sharey=True, layout="constrained")
    for axis, part in zip(axes, (NEW_TO_USER, NEW_TO_USER_RARE), strict=True):
        for height, (_, of_mode) in enumerate(gained):
            gains = 100 * of_mode[f"gain {part}"].astype(float)
            axis.plot(gains, [height] * len(gains), "o", color="tab:blue", alpha=0.6)
            axis.plot(gains.mean(), height, "|", color="black", markersize=14)
        axis.axvline(0, color="grey", linewidth=0.8)
        axis.set(title=PARTS[part], xlabel="gain in AUC over none, points")
    axes[0].set_yticks(
        range(len(gained)), [printable(f"{variant}: {mode}") for (variant, mode), _ in gained], parse_math=False
    )
    axes[0].invert_yaxis()
    figure.savefig(file, dpi=100)
    pyplot.close(figure)
