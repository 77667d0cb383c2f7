"""`courier experiment`: a grid by its name, the tables at the end."""

import dataclasses

from courier_tf.commands.options import Experiment
from courier_tf.experiment.claims import ClaimsError, read_claims
from courier_tf.experiment.grid import grid_of
from courier_tf.experiment.run_grid import TABLES_FILE, results_folder, run_grid
from courier_tf.settings import SettingsError


def run_experiment(command: Experiment) -> None:
    """Runs the grid that the command names, and prints its tables.

    Raises:
        SettingsError: an option is given that the grid itself names.
        ExperimentError: a run failed.
        ClaimsError: a claim does not hold; the tables are printed before.
    """
    grid = grid_of(command.grid)
    claims = read_claims(command.claims, grid) if command.claims else []
    conflicts = sorted(command.given & command.settings.by_name().keys() & grid.named())
    if conflicts:
        raise SettingsError(f"{conflicts}: the grid names these itself; seeds are given by --seeds")
    command.chain()  # Keeps the settings in the workdir.
    if command.seeds:
        grid = dataclasses.replace(grid, seeds=command.seeds)
    tables = results_folder(command.workdir, grid, command.final) / TABLES_FILE
    try:
        run_grid(
            grid,
            command.raw,
            command.workdir,
            command.settings,
            final=command.final,
            parallel=command.parallel,
            until=command.until,
            claims=claims,
        )
    except ClaimsError:
        print(tables.read_text())
        raise
    print(tables.read_text())
