"""Runs all runs of a grid, then writes their tables and plots. What is finished is not run again."""

import dataclasses
import itertools
import logging
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np
import pandas as pd

from courier_tf.chain.known_names import require_known_names
from courier_tf.experiment import encoders
from courier_tf.experiment.claims import Claim, ClaimsError
from courier_tf.experiment.exchange_rate import RESULTS_FILE, write_exchange_rate
from courier_tf.experiment.grid import Grid, Until, Variant
from courier_tf.experiment.processes import ExperimentError, Processes
from courier_tf.experiment.reports import REPORTS, TABLES_FILE, write_reports
from courier_tf.experiment.rows import rows_of
from courier_tf.experiment.run import RUN_FILE, RUNS_FOLDER, STATUS_FILE, Key, Measured, Run, Status, differing_settings
from courier_tf.experiment.starts import fingerprints_of, waves, with_starts
from courier_tf.experiment.store import STORE_FOLDER, commit
from courier_tf.experiment.team import Team
from courier_tf.settings import Settings, SettingsError, with_values
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.stages import PRETRAIN

ALONE = Team()
LOG_FILE = "log.txt"
LOG = logging.getLogger(__name__)


def results_folder(workdir: Path, grid: Grid, final: bool) -> Path:
    """Where the results of a grid lie: each span has a folder of its own."""
    return workdir / grid.name / ("test" if final else "valid")


def run_grid(
    grid: Grid,
    raw: str,
    workdir: Path,
    base: Settings,
    *,
    final: bool = False,
    parallel: int = 1,
    until: Until = "rank",
    claims: Sequence[Claim] = (),
    team: Team = ALONE,
) -> pd.DataFrame:
    """Runs each variant of a grid with each seed, each run in a process of its own.

    Runs share the stages in which they agree, such as one ingest for all and one supervised pre-training per seed. A
    run that is finished, with the same settings, code and data, is not run again. Writes `results.csv` after every run,
    and `results.md`, `gains.csv`, `encoders.csv` and the plots at the end, into `results_folder`;
    of a grid with a ladder also `ladder.csv` and `ladder.png`; beside the grids the exchange rate of all of them.

    A run that fails leaves the others to run. Variants whose runs have all ended well stand in the tables; the error
    comes at the end. Where the first run fails, no other is started, as what is wrong is likely to be common to all.

    Args:
        grid: the variants and seeds.
        raw: folder or URI in the raw format.
        workdir: folder of all experiments that share stages.
        base: the settings that the grid changes.
        final: measure on the test span; each run counts its reading. Tuning still uses the valid span.
        parallel: runs at a time, as far as memory allows.
        until: `pretrain` leaves the rankers out. Encoders are compared by their held-out score alone.
        claims: claims about the results, judged in `results.md`.
        team: the workers that train each run together. This process is the chief's.

    Returns:
        One row per run and rank mode, as in `results.csv`.

    Raises:
        ExperimentError: runs failed; names them and their logs. Or another experiment is running in the same folder.
        SettingsError: the grid names a setting that does not exist, or an argument is not allowed.
        ClaimsError: a claim does not hold. All results are written.
    """
    if parallel < 1:
        raise SettingsError(f"parallel={parallel}: at least one run is made at a time")
    if parallel > 1 and team.places.number > 1:
        raise SettingsError(f"parallel={parallel}: several workers make one run at a time, together")
    if claims and until != "rank":
        raise SettingsError(f"claims are about rankers, and until={until} trains none")
    if final and grid.origins:
        raise SettingsError(
            f"the grid {grid.name} has several origins, whose valid spans are measured: --final has none"
        )
    workdir = workdir.resolve()
    folder = results_folder(workdir, grid, final)
    variants = _different(grid, base, workdir)
    names = {variant.without(grid.tuned).name for variant in variants}
    for rung, name in grid.ladder.items():
        if name not in names:
            raise SettingsError(f"the rung {rung} has the same settings as another variant of the grid {grid.name}")
    runs = {}
    for variant in variants:
        for seed, origin in itertools.product(grid.seeds, grid.origins or [()]):
            key = Key(variant.name, seed, *origin[:1])
            settings = grid.settings(base, variant, seed, workdir, origin)
            if variant.name in grid.starts:
                start = folder / RUNS_FOLDER / key._replace(variant=grid.starts[variant.name]).name / PRETRAIN
                settings = with_values(settings, {"previous_encoder": str(start)})
            place = folder / RUNS_FOLDER / key.name
            run = Run(variant.name, seed, place, workdir / STORE_FOLDER, raw, final, settings, until, key.origin)
            runs[key] = run
    with Processes(folder, _largest(folder)) as processes, team.dismissed():
        for name in REPORTS:  # Of previous runs, they would stand beside new rows.
            (folder / name).unlink(missing_ok=True)
        session = _Session(folder, runs, fingerprints_of(runs, raw), parallel, processes, team)
        kept = session.keep(grid, variants)
        rows = session.finish(kept, grid.seeds)
    unfinished = {key.variant for key in session.failures}
    complete = [name for name in kept if name not in unfinished]
    directories = {key: run.workdir for key, run in runs.items()}
    verdicts = []
    if complete:
        verdicts = write_reports(folder, grid, rows, complete, directories, claims if not unfinished else ())
        write_exchange_rate(workdir, folder.name)
    session.require_no_failure()
    failed = sum(not verdict.holds for verdict in verdicts)
    if failed:
        raise ClaimsError(f"{failed} of {len(claims)} claims do not hold; all are listed in {folder / TABLES_FILE}")
    return rows


def _different(grid: Grid, base: Settings, workdir: Path) -> list[Variant]:
    """The variants of a grid. Equal settings under two names, such as a default and its value, are one variant."""
    different: dict[str, Variant] = {}
    for variant in grid.variants():
        settings = grid.settings(base, variant, grid.seeds[0], workdir, *grid.origins[:1])
        require_known_names(settings)
        different.setdefault(settings.to_json() + grid.starts.get(variant.name, ""), variant)
    return list(different.values())


class _Session:
    """Runs runs of a grid, and keeps `results.csv` complete.

    Args:
        folder: folder of the results.
        runs: all runs of the grid.
        fingerprints: fingerprint of what the figures of each run depend on.
        parallel: runs at a time.
        processes: starts the processes.
        team: the workers that train each run.
    """

    def __init__(
        self,
        folder: Path,
        runs: Mapping[Key, Run],
        fingerprints: Mapping[Key, str],
        parallel: int,
        processes: Processes,
        team: Team,
    ) -> None:
        self._file, self._runs, self._fingerprints = folder / RESULTS_FILE, runs, fingerprints
        self._parallel, self._processes, self._team = parallel, processes, team
        self.failures: dict[Key, ExperimentError] = {}

    def keep(self, grid: Grid, variants: Sequence[Variant]) -> list[str]:
        """The names of the variants that get all seeds and rankers: trains encoders to choose, where the grid asks."""
        kept: list[str] = []
        for rivals in grid.rivals(variants):
            kept += self._best([variant.name for variant in rivals], 1, grid.seeds[0])
        if grid.confirmed:
            kept = kept[:1] + self._best(kept[1:], grid.confirmed, grid.seeds[0], beside=kept[:1])
        return kept

    def finish(self, kept: Sequence[str], seeds: Sequence[int]) -> pd.DataFrame:
        """Runs the variants that are kept with all seeds; returns the rows of all that count."""
        # All seeds of a variant first: the first line of the table is complete as soon as possible.
        chosen = {key: run for key, run in self._runs.items() if key.variant in kept}
        # Of the other variants counts what they were compared by.
        return self._run_all(chosen, {key for key in self._runs if key in chosen or key.seed == seeds[0]})

    def _best(self, names: Sequence[str], number: int, seed: int, beside: Sequence[str] = ()) -> list[str]:
        """The variants whose encoders have the best held-out scores, in their order; of equal ones the first.

        Where there are several origins, the mean over them counts.
        """
        if len(names) <= number and not beside:
            return list(names)
        screened = {
            key: run for key, run in self._runs.items() if key.seed == seed and key.variant in (*beside, *names)
        }
        made = with_starts(screened, self._runs)
        self._run_all({key: dataclasses.replace(run, until="pretrain") for key, run in made.items()})
        self.require_no_failure()  # Nothing can be chosen.
        scores: dict[str, float] = {}
        for name in names:
            of_runs = [
                Measured.read(run.workdir).held_out[encoders.CHOSEN_BY]
                for key, run in screened.items()
                if key.variant == name
            ]
            defined = [score for score in of_runs if score is not None]
            if len(defined) < len(of_runs):
                raise ExperimentError(
                    f"encoders cannot be compared: {encoders.CHOSEN_BY} of {name} is not defined on the valid span"
                )
            scores[name] = float(np.mean(defined))
        LOG.info("[%s] %s", encoders.CHOSEN_BY, ", ".join(f"{name}: {score:.4f}" for name, score in scores.items()))
        best = sorted(names, key=lambda name: -scores[name])[:number]
        return [name for name in names if name in best]

    def _run_all(self, runs: Mapping[Key, Run], counted: set[Key] | None = None) -> pd.DataFrame:
        """Runs what is not finished; renews `results.csv` after each run.

        Args:
            runs: the runs to make now.
            counted: the runs that may have rows, also from earlier calls; None for all of the grid.
        """
        rows = self._renewed(counted)
        with ThreadPoolExecutor(self._parallel) as pool:
            try:
                for wave in waves(runs, self._runs):
                    waiting = {pool.submit(self._run, key, run): key for key, run in wave.items()}
                    for ended in as_completed(waiting):
                        error = ended.exception()
                        if isinstance(error, ExperimentError) and not self._processes.ended:
                            LOG.error("%s", error)
                            self.failures[waiting[ended]] = error
                        else:
                            ended.result()
                            rows = self._renewed(counted)
            except BaseException as error:
                # First, as a worker whose run has ended takes the next one at once.
                pool.shutdown(wait=False, cancel_futures=True)
                if not isinstance(error, ExperimentError):
                    self._processes.kill()  # Otherwise the pool waits for what is running.
                raise
        return rows

    def require_no_failure(self) -> None:
        """Raises ExperimentError where runs have failed, with the words of each."""
        if self.failures:
            raise ExperimentError("; ".join(map(str, self.failures.values())))

    def _renewed(self, counted: set[Key] | None) -> pd.DataFrame:
        """Writes the rows of the runs that are finished, also of those that end with their encoder, in their order."""
        rows = []
        for key, run in self._runs.items():
            status = Status.read(run.workdir)
            finished = status and status.until is not None and status.fingerprint == self._fingerprints[key]
            if status and finished and (counted is None or key in counted):
                rows += rows_of(run, status)
        frame = pd.DataFrame(rows)
        if rows:
            write_file(self._file, frame.to_csv(index=False))
        else:
            self._file.unlink(missing_ok=True)
        return frame

    def _run(self, key: Key, run: Run) -> None:
        """Makes a run in a process, unless it is finished with the same settings, code and data."""
        name = run.workdir.name
        run.workdir.mkdir(parents=True, exist_ok=True)
        status = Status(self._fingerprints[key], None, commit())
        before = Status.read(run.workdir) or status
        if before.fingerprint != status.fingerprint:
            why = differing_settings(run) or "other data or code"
            LOG.info("[%s] is made again, and what it had made is replaced: %s", name, why)
        elif before.until in (run.until, "rank"):
            if before.commit != status.commit:
                LOG.info("[%s] is kept as the code of %s made it, and not run again", name, before.commit)
            return
        else:
            status = dataclasses.replace(status, peak_memory_gib=before.peak_memory_gib)

        def begin() -> None:
            status.write(run.workdir)  # What is there no longer counts as finished.
            write_file(run.workdir / RUN_FILE, run.to_json())
            LOG.info("[%s] ...", name)

        command = [sys.executable, *self._team.words(run.workdir / RUN_FILE)]
        code, memory = self._processes.run(command, run.workdir / LOG_FILE, begin)
        if code:
            raise ExperimentError(f"the run {name} failed; its last words are in {run.workdir / LOG_FILE}")
        peak = max(memory, status.peak_memory_gib)
        dataclasses.replace(status, until=run.until, peak_memory_gib=peak).write(run.workdir)
        LOG.info("[%s] done", name)


def _largest(folder: Path) -> float:
    """The peak memory of the largest run of this grid that has finished, on either span, GiB; 0 where there is none."""
    statuses = (Status.read(file.parent) for file in folder.parent.glob(f"*/{RUNS_FOLDER}/*/{STATUS_FILE}"))
    return max((status.peak_memory_gib for status in statuses if status), default=0.0)
