"""`courier experiment`: a grid by its name, the tables at the end."""

import dataclasses
from collections.abc import Sequence, Set
from pathlib import Path

from courier_tf.experiment.claims import ClaimsError, read_claims
from courier_tf.experiment.grid import Grid, Until, grid_of
from courier_tf.experiment.reports import TABLES_FILE
from courier_tf.experiment.run_grid import results_folder, run_grid
from courier_tf.experiment.team import Team
from courier_tf.settings import Settings, SettingsError


def chosen_grid(name: str, seeds: Sequence[int], given: Set[str]) -> Grid:
    """The grid that the command names.

    Args:
        name: of a shipped grid, or a JSON file with one.
        seeds: of each variant; none for those of the grid.
        given: names of the settings that the command line gives a value to.

    Raises:
        SettingsError: there is no such grid, or the grid itself names a setting that is given.
    """
    grid = grid_of(name)
    conflicts = sorted(given & grid.named())
    if conflicts:
        raise SettingsError(f"{conflicts}: the grid names these itself; seeds are given by --seeds")
    return dataclasses.replace(grid, seeds=seeds) if seeds else grid


def run_and_print(
    grid: Grid,
    raw: str,
    workdir: Path,
    settings: Settings,
    *,
    final: bool,
    parallel: int,
    until: Until,
    claims_file: Path | None,
    team: Team,
) -> None:
    """Runs a grid as `run_grid` does, and prints its tables. A worker beside the chief trains with it, and prints none.

    Raises:
        ExperimentError: a run failed.
        ClaimsError: a claim does not hold; the tables are printed before.
    """
    if team.places.index:
        team.follow()
    claims = read_claims(claims_file, grid) if claims_file else []
    tables = results_folder(workdir, grid, final) / TABLES_FILE
    try:
        run_grid(grid, raw, workdir, settings, final=final, parallel=parallel, until=until, claims=claims, team=team)
    except ClaimsError:
        print(tables.read_text())
        raise
    print(tables.read_text())
