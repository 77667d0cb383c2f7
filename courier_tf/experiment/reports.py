"""The tables and plots of a grid whose runs have ended."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from courier_tf.escaping import markdown
from courier_tf.experiment import claims as claiming
from courier_tf.experiment import encoders, held_out, ladder, rankers
from courier_tf.experiment.claims import Claim
from courier_tf.experiment.grid import Grid
from courier_tf.experiment.markdown import MOST_OF_A_CELL
from courier_tf.experiment.run import RUNS_FOLDER, Key
from courier_tf.ranking.metrics_file import READINGS_FILE, readings_of
from courier_tf.workdir.atomic import write_file

TABLES_FILE, PLOT_FILE, LOSSES_FILE = "results.md", "gains.png", "losses.png"
ENCODERS_FILE = "encoders.csv"  # Paired differences between the encoders' held-out scores.
REPORTS = (TABLES_FILE, ENCODERS_FILE, PLOT_FILE, LOSSES_FILE, ladder.LADDER_FILE, ladder.PLOT_FILE)


def write_reports(
    folder: Path,
    grid: Grid,
    rows: pd.DataFrame,
    kept: Sequence[str],
    directories: Mapping[Key, Path],
    claims: Sequence[Claim],
) -> list[claiming.Verdict]:
    """Writes `results.md`, `gains.csv`, `encoders.csv` and the plots.

    Args:
        folder: folder of the results.
        grid: the grid.
        rows: rows of `results.csv`.
        kept: names of the variants with all seeds and rankers. A rung of the ladder that is not among them is left out.
        directories: workdir of each run.
        claims: claims to judge.

    Returns:
        How the claims fare.
    """
    rows = without_partial_rankers(rows, len(grid.origins) or 1)
    text = f"{markdown(grid.about, MOST_OF_A_CELL)}\n\n{_readings(folder)}"
    # In the order of the grid, as the others are compared with its first variant; those that were not kept come last.
    order = {variant: number for number, variant in enumerate(kept)}
    in_order = rows.sort_values("variant", key=lambda names: names.map(order), kind="stable")
    # Also rankers that earlier calls have trained.
    ranked = in_order[in_order["variant"].isin(kept) & in_order["mode"].notna()]
    verdicts = claiming.judge(claims, grid, ranked)
    of_encoders = {key: directories[key] for key in _keys(rows)}
    names = {variant.without(grid.tuned).name for variant in grid.variants() if variant.name in kept}
    rungs = {rung: name for rung, name in grid.ladder.items() if name in names}
    if rungs:
        text += ladder.write_ladder(dataclasses.replace(grid, ladder=rungs), rows, kept, of_encoders, folder)
    if verdicts:
        text += f"{claiming.table_of(verdicts)}\n"
    if len(ranked):
        of_ranked = {key: directories[key] for key in _keys(ranked)}
        text += f"{rankers.popularity(ranked)}\n\n{rankers.write_tables(ranked, of_ranked, folder)}\n"
        text += rankers.category_gates(ranked) + rankers.category_gates_by_column(ranked, of_ranked)
        rankers.draw(ranked, folder / PLOT_FILE)
    differences = held_out.differences_of(in_order, of_encoders)
    write_file(folder / ENCODERS_FILE, differences.to_csv(index=False))
    write_file(folder / TABLES_FILE, text + held_out.table_of(differences) + encoders.table_of(rows))
    encoders.draw(of_encoders, folder / LOSSES_FILE)
    return verdicts


def without_partial_rankers(rows: pd.DataFrame, spans: int) -> pd.DataFrame:
    """Rows of `results.csv`, where a variant and seed without rankers on some spans count as encoders alone.

    Such are left by an experiment that was broken off, or that went no further than its encoders on the other spans.

    Args:
        rows: one per run and rank mode; a run without rankers has one row, without a mode.
        spans: number of spans that each seed has.
    """
    run = [rows[name] for name in ("variant", "seed")]
    partial = rows["origin"].where(rows["mode"].notna()).groupby(run).transform("nunique") < spans
    alone = rows[partial].drop_duplicates(["variant", "seed", "origin"]).assign(mode=None)
    return pd.concat([rows[~partial], alone]).sort_index()


def _keys(rows: pd.DataFrame) -> list[Key]:
    columns = (rows["variant"], rows["seed"], rows["origin"])
    return [Key(str(variant), int(seed), str(origin)) for variant, seed, origin in zip(*columns, strict=True)]


def _readings(folder: Path) -> str:
    """How often all runs that were ever made here have read the test span; empty where none has."""
    files = list((folder / RUNS_FOLDER).glob(f"*/{READINGS_FILE}"))
    times = sum(len(readings_of(file)) for file in files)
    return f"The test span was read {times} times, by {len(files)} runs.\n\n" if times else ""
