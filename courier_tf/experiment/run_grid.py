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
from courier_tf.escaping import markdown
from courier_tf.experiment import claims as claiming
from courier_tf.experiment import encoders, held_out, ladder, rankers
from courier_tf.experiment.claims import Claim, ClaimsError
from courier_tf.experiment.exchange_rate import RESULTS_FILE, write_exchange_rate
from courier_tf.experiment.grid import Grid, Until, Variant
from courier_tf.experiment.markdown import MOST_OF_A_CELL
from courier_tf.experiment.processes import ExperimentError, Processes
from courier_tf.experiment.rows import rows_of
from courier_tf.experiment.run import RUN_FILE, STATUS_FILE, Key, Measured, Run, Status
from courier_tf.experiment.store import STORE_FOLDER, commit
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.ranking.metrics_file import READINGS_FILE, readings_of
from courier_tf.settings import Settings, SettingsError
from courier_tf.workdir.artefacts import ARTEFACT_FILE, fingerprint_of_start
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.provenance import fingerprint_of
from courier_tf.workdir.source import fingerprint_of_code
from courier_tf.workdir.stages import IN_ORDER

RUNS_FOLDER = "runs"
TABLES_FILE, PLOT_FILE, LOSSES_FILE = "results.md", "gains.png", "losses.png"
ENCODERS_FILE = "encoders.csv"  # Paired differences between the encoders' held-out scores.
REPORTS = (TABLES_FILE, ENCODERS_FILE, PLOT_FILE, LOSSES_FILE, ladder.LADDER_FILE, ladder.PLOT_FILE)
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
) -> pd.DataFrame:
    """Runs each variant of a grid with each seed, each run in a process of its own.

    Runs share the stages in which they agree, such as one ingest for all and one supervised pre-training per seed. A
    run that is finished, with the same settings, code and data, is not run again. Writes `results.csv` after every run,
    and `results.md`, `gains.csv`, `encoders.csv` and the plots at the end, into `results_folder`;
    of a grid with a ladder also `ladder.csv` and `ladder.png`; beside the grids the exchange rate of all of them.

    Args:
        grid: the variants and seeds.
        raw: folder or URI in the raw format.
        workdir: folder of all experiments that share stages.
        base: the settings that the grid changes.
        final: measure on the test span; each run counts its reading. Tuning still uses the valid span.
        parallel: runs at a time, as far as memory allows.
        until: `pretrain` leaves the rankers out. Encoders are compared by their held-out score alone.
        claims: claims about the results, judged in `results.md`.

    Returns:
        One row per run and rank mode, as in `results.csv`.

    Raises:
        ExperimentError: a run failed; names it and its log. What is finished is kept. Or another experiment is running
            in the same folder.
        SettingsError: the grid names a setting that does not exist, or an argument is not allowed.
        ClaimsError: a claim does not hold. All results are written.
    """
    if parallel < 1:
        raise SettingsError(f"parallel={parallel}: at least one run is made at a time")
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
            place = folder / RUNS_FOLDER / key.name
            run = Run(variant.name, seed, place, workdir / STORE_FOLDER, raw, final, settings, until, key.origin)
            runs[key] = run
    with Processes(folder, _largest(folder)) as processes:
        for name in REPORTS:  # Of previous runs, they would stand beside new rows.
            (folder / name).unlink(missing_ok=True)
        session = _Session(folder, runs, _fingerprints(runs, raw), parallel, processes)
        kept = session.keep(grid, variants)
        rows = session.finish(kept, grid.seeds)
    directories = {key: run.workdir for key, run in runs.items()}
    verdicts = _write_reports(folder, grid, rows, kept, directories, claims)
    write_exchange_rate(workdir, folder.name)
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
        different.setdefault(settings.to_json(), variant)
    return list(different.values())


class _Session:
    """Runs runs of a grid, and keeps `results.csv` complete.

    Args:
        folder: folder of the results.
        runs: all runs of the grid.
        fingerprints: fingerprint of what the figures of each run depend on.
        parallel: runs at a time.
        processes: starts the processes.
    """

    def __init__(
        self,
        folder: Path,
        runs: Mapping[Key, Run],
        fingerprints: Mapping[Key, str],
        parallel: int,
        processes: Processes,
    ) -> None:
        self._file, self._runs, self._fingerprints = folder / RESULTS_FILE, runs, fingerprints
        self._parallel, self._processes = parallel, processes

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
        self._run_all({key: dataclasses.replace(run, until="pretrain") for key, run in screened.items()})
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
                waiting = [pool.submit(self._run, key, run) for key, run in runs.items()]
                for finished in as_completed(waiting):
                    finished.result()
                    rows = self._renewed(counted)
            except BaseException as error:
                # First, as a worker whose run has ended takes the next one at once.
                pool.shutdown(wait=False, cancel_futures=True)
                if not isinstance(error, ExperimentError):
                    self._processes.kill()  # Otherwise the pool waits for what is running.
                raise
        return rows

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
            LOG.info("[%s] was made with other settings, data or code, and is replaced", name)
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

        command = [sys.executable, "-m", "courier_tf.experiment", str(run.workdir / RUN_FILE)]
        code, memory = self._processes.run(command, run.workdir / LOG_FILE, begin)
        if code:
            raise ExperimentError(f"the run {name} failed; its last words are in {run.workdir / LOG_FILE}")
        peak = max(memory, status.peak_memory_gib)
        dataclasses.replace(status, until=run.until, peak_memory_gib=peak).write(run.workdir)
        LOG.info("[%s] done", name)


def _write_reports(
    folder: Path,
    grid: Grid,
    rows: pd.DataFrame,
    kept: Sequence[str],
    directories: Mapping[Key, Path],
    claims: Sequence[Claim],
) -> list[claiming.Verdict]:
    """Writes `results.md`, `gains.csv`, `encoders.csv` and the plots; returns how the claims fare."""
    text = f"{markdown(grid.about, MOST_OF_A_CELL)}\n\n{_readings(folder)}"
    # In the order of the grid, as the others are compared with its first variant; those that were not kept come last.
    order = {variant: number for number, variant in enumerate(kept)}
    in_order = rows.sort_values("variant", key=lambda names: names.map(order), kind="stable")
    # Also rankers that earlier calls have trained.
    ranked = in_order[in_order["variant"].isin(kept) & in_order["mode"].notna()]
    verdicts = claiming.judge(claims, grid, ranked)
    of_encoders = {key: directories[key] for key in _keys(rows)}
    if grid.ladder:
        text += ladder.write_ladder(grid, rows, kept, of_encoders, folder)
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


def _keys(rows: pd.DataFrame) -> list[Key]:
    columns = (rows["variant"], rows["seed"], rows["origin"])
    return [Key(str(variant), int(seed), str(origin)) for variant, seed, origin in zip(*columns, strict=True)]


def _fingerprints(runs: Mapping[Key, Run], raw: str) -> dict[Key, str]:
    """Fingerprints of what the figures of runs depend on: settings, what they start from, span, data and code."""
    from beam_jobs.raw_fingerprint import fingerprint_with_photos

    data, code = fingerprint_with_photos(raw), fingerprint_of_code(IN_ORDER)
    return {
        key: fingerprint_of([run.settings.to_json(), _previous(run.settings), run.final, data, code])
        for key, run in runs.items()
    }


def _previous(settings: Settings) -> list[str]:
    """Fingerprints of what the settings say to start from. Where there is none, the run says so."""
    places = settings.starts().values()
    there = [place for place in places if _is_file(place) or _is_file(place / ARTEFACT_FILE)]
    return [fingerprint_of_start(place) for place in there]


def _is_file(place: Place) -> bool:
    return place.is_file() if isinstance(place, Path) else transfer.exists(place)


def _readings(folder: Path) -> str:
    """How often all runs that were ever made here have read the test span; empty where none has."""
    files = list((folder / RUNS_FOLDER).glob(f"*/{READINGS_FILE}"))
    times = sum(len(readings_of(file)) for file in files)
    return f"The test span was read {times} times, by {len(files)} runs.\n\n" if times else ""


def _largest(folder: Path) -> float:
    """The peak memory of the largest run of this grid that has finished, on either span, GiB; 0 where there is none."""
    statuses = (Status.read(file.parent) for file in folder.parent.glob(f"*/{RUNS_FOLDER}/*/{STATUS_FILE}"))
    return max((status.peak_memory_gib for status in statuses if status), default=0.0)
