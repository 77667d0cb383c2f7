"""`courier experiment`: all runs of a grid, then their tables and plots. What is finished stays finished."""

import dataclasses
import functools
import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import pandas as pd

import courier_tf
from courier_tf.experiment import encoders
from courier_tf.experiment.grid_run import FOUND_FILE, Spec
from courier_tf.experiment.grids import Grid, Until, name_of
from courier_tf.experiment.processes import ExperimentError, Processes
from courier_tf.experiment.rows import USED_FILE, rows_of
from courier_tf.experiment.store import commit
from courier_tf.experiment.table import draw, gates_by_column, gates_of, popularity, table_of
from courier_tf.ranking.metrics_file import READINGS_FILE
from courier_tf.settings import Settings, SettingsError
from courier_tf.workdir.artefacts import ARTEFACT_FILE, fingerprint_of, fingerprint_of_file
from courier_tf.workdir.atomic import write_file

RUNS_FOLDER = "runs"
RESULTS_FILE, TABLE_FILE, PLOT_FILE, LOSSES_FILE = "results.csv", "results.md", "gains.png", "losses.png"
SPEC_FILE, LOG_FILE = "spec.json", "log.txt"

Key = tuple[str, int]  # Of a run: its name, its seed.


def experiment(
    grid: Grid,
    raw: str,
    workdir: Path,
    store: Path,
    base: Settings,
    *,
    final: bool = False,
    parallel: int = 1,
    until: Until = "rank",
) -> pd.DataFrame:
    """Runs a grid: each combination of settings and seed in a process of its own.

    Runs share the stages in which they agree, such as one ingest for all and one supervised pre-training per seed. A
    run that is finished, with the same settings, code and data, is not run again. Writes `results.csv` after every run,
    and `results.md`, `losses.png` and `gains.png` at the end, into the workdir.

    Args:
        grid: what is run.
        raw: folder or URI in the raw format.
        workdir: folder of the results.
        store: folder of the stages, which several grids may share.
        base: the settings that the grid changes.
        final: measure on the test span; each run counts its reading. What is tuned, is tuned on valid all the same.
        parallel: runs at a time, as far as memory allows.
        until: `pretrain` leaves the rankers out: encoders are compared by their held-out score alone.

    Returns:
        One row per run and rank mode, as in `results.csv`.

    Raises:
        ExperimentError: a run failed; names it and its log. What is finished is kept. Or another experiment is going on
            in the same workdir.
        SettingsError: the grid names a setting that does not exist, or no run may be made at a time.
    """
    from beam_jobs.ingest import fingerprint_of_raw

    if parallel < 1:
        raise SettingsError(f"parallel={parallel}: at least one run is made at a time")
    workdir, store, data = workdir.resolve(), store.resolve(), fingerprint_of_raw(raw)
    # Equal ones under two names (the default, and its value) are one run.
    different: dict[str, dict] = {}
    for variant in grid.variants():
        different.setdefault(grid.settings(base, variant, grid.seeds[0]).to_json(), variant)
    variants = {name_of(variant): variant for variant in different.values()}

    def spec(name: str, seed: int, last: Until) -> Spec:
        own = workdir / RUNS_FOLDER / f"{name},seed={seed}"
        settings = grid.settings(base, variants[name], seed)
        return Spec(str(own), str(store), raw, final, settings.to_json(), last)

    every = {(name, seed): spec(name, seed, until) for name in variants for seed in grid.seeds}
    fingerprints = {key: _fingerprint(one, data) for key, one in every.items()}
    kept = []
    with Processes(workdir, _largest(workdir)) as processes:
        for name in (TABLE_FILE, PLOT_FILE, LOSSES_FILE):  # Of former runs they would stand beside new rows.
            (workdir / name).unlink(missing_ok=True)
        run_all = functools.partial(
            _run_all,
            workdir=workdir,
            fingerprints=fingerprints,
            every=every,
            parallel=parallel,
            processes=processes,
        )
        for rivals in [[name_of(variant) for variant in group] for group in grid.rivals(list(variants.values()))]:
            if len(rivals) > 1:
                run_all({(name, grid.seeds[0]): spec(name, grid.seeds[0], "pretrain") for name in rivals})
                rivals = _best(1, [every[name, grid.seeds[0]] for name in rivals], rivals)
            kept += rivals
        if grid.confirmed:
            run_all({(name, grid.seeds[0]): spec(name, grid.seeds[0], "pretrain") for name in kept})
            rivals = kept[1:]
            kept = kept[:1] + _best(grid.confirmed, [every[name, grid.seeds[0]] for name in rivals], rivals)
        # Of each variant all seeds: the first line of the table is complete as soon as possible.
        chosen = {key: run for key, run in every.items() if key[0] in kept}
        # Of the others, what they were compared by.
        every = {key: run for key, run in every.items() if key in chosen or key[1] == grid.seeds[0]}
        frame = run_all(chosen, every=every)
    keys = zip(frame["run"], frame["seed"], strict=True)
    directories = {key: Path(every[key].workdir) for key in keys}
    text = f"{grid.about}\n\n{_readings(workdir)}"
    if frame.loc[frame["run"].isin(kept), "mode"].notna().any():  # Also where rankers were trained before.
        # In the order of the grid: the others are compared with its first run.
        ranked = pd.concat([frame[(frame["run"] == name) & frame["mode"].notna()] for name in kept])
        of_ranked = {key: directories[key] for key in zip(ranked["run"], ranked["seed"], strict=True)}
        text += f"{popularity(ranked)}\n\n{table_of(ranked, of_ranked)}\n"
        text += gates_of(ranked) + gates_by_column(ranked, of_ranked)
        draw(ranked, workdir / PLOT_FILE)
    write_file(workdir / TABLE_FILE, text + encoders.table_of(frame))
    encoders.draw(directories, workdir / LOSSES_FILE)
    return frame


def _run_all(
    specs: Mapping[Key, Spec],
    *,
    workdir: Path,
    fingerprints: Mapping[Key, str],
    every: Mapping[Key, Spec],
    parallel: int,
    processes: Processes,
) -> pd.DataFrame:
    """Runs what is not finished; renews `results.csv` after each run.

    `every`: run of the grid that may have rows there, in their order, also from earlier calls, whose turn comes later;
    `fingerprints`: of what the figures of each depend on.
    """
    frame = _renewed(workdir / RESULTS_FILE, every, fingerprints)
    with ThreadPoolExecutor(parallel) as pool:
        try:
            runs = [pool.submit(_run, spec, fingerprints[key], processes) for key, spec in specs.items()]
            for run in as_completed(runs):
                run.result()
                frame = _renewed(workdir / RESULTS_FILE, every, fingerprints)
        except BaseException as error:
            # First, as a worker whose run has ended takes the next one at once.
            pool.shutdown(wait=False, cancel_futures=True)
            if not isinstance(error, ExperimentError):
                processes.kill()  # Else the pool waits for what is running.
            raise
    return frame


def _renewed(file: Path, every: Mapping[Key, Spec], fingerprints: Mapping[Key, str]) -> pd.DataFrame:
    """Writes the rows of the runs that are finished, be it only their encoder; the file goes where there is none."""
    rows = []
    for key, spec in every.items():
        used = _used(spec)
        if used and used["until"] is not None and used["key"] == fingerprints[key]:
            rows += rows_of(key[0], Path(spec.workdir), spec.settings)
    frame = pd.DataFrame(rows)
    if rows:
        write_file(file, frame.to_csv(index=False))
    else:
        file.unlink(missing_ok=True)
    return frame


def _best(number: int, specs: Sequence[Spec], names: Sequence[str]) -> list[str]:
    """The runs whose encoders have the best held-out scores, in their order; of equal ones the first."""
    scores = [json.loads((Path(spec.workdir) / FOUND_FILE).read_text())["held_out"] for spec in specs]
    found = dict(zip(names, (score[encoders.CHOSEN_BY] for score in scores), strict=True))
    if None in found.values():
        raise ExperimentError(f"encoders cannot be compared: {encoders.CHOSEN_BY} is not defined on the valid span")
    print(f"[{encoders.CHOSEN_BY}] " + ", ".join(f"{name}: {score:.4f}" for name, score in found.items()), flush=True)
    best = sorted(names, key=lambda name: -found[name])[:number]
    return [name for name in names if name in best]


def _fingerprint(spec: Spec, data: str) -> str:
    """Fingerprint of what the figures of a run depend on: settings, what they start from, span, data and code."""
    formers = _formers(Settings.from_json(spec.settings))
    return fingerprint_of([spec.settings, formers, spec.final, data, courier_tf.__version__])


def _used(spec: Spec) -> dict[str, Any] | None:
    """What a run has noted: the fingerprint (`key`) it was made with, how far it came (`until`), and what it used."""
    file = Path(spec.workdir) / USED_FILE
    return json.loads(file.read_text()) if file.exists() else None


def _run(spec: Spec, key: str, processes: Processes) -> None:
    """Runs one cell, unless it is finished with the same settings, code and data (`key`); notes what it used."""
    own = Path(spec.workdir)
    own.mkdir(parents=True, exist_ok=True)
    used = own / USED_FILE
    about = {"key": key, "until": None, "commit": commit(), "peak_memory_gib": 0.0}
    before = _used(spec) or about
    if before["key"] == key:
        if before["until"] in (spec.until, "rank"):
            if before["commit"] != about["commit"]:
                print(f"[{own.name}] is kept as the code of {before['commit']} made it, and not run again", flush=True)
            return
        about["peak_memory_gib"] = before["peak_memory_gib"]
    else:
        print(f"[{own.name}] was made with other settings, data or code, and is replaced", flush=True)

    def begin() -> None:
        write_file(used, json.dumps(about))  # What is there no longer counts as finished.
        write_file(own / SPEC_FILE, json.dumps(dataclasses.asdict(spec), indent=2))
        print(f"[{own.name}] ...", flush=True)

    command = [sys.executable, "-m", "courier_tf.experiment", str(own / SPEC_FILE)]
    code, memory = processes.run(command, own / LOG_FILE, begin)
    if code:
        raise ExperimentError(f"the run {own.name} failed; its last words are in {own / LOG_FILE}")
    about |= {"until": spec.until, "peak_memory_gib": max(memory, about["peak_memory_gib"])}
    write_file(used, json.dumps(about))
    print(f"[{own.name}] done", flush=True)


def _readings(workdir: Path) -> str:
    """How often all runs that were ever made here have looked at the test span; empty where none has."""
    files = list((workdir / RUNS_FOLDER).glob(f"*/{READINGS_FILE}"))
    times = sum(len(json.loads(file.read_text())) for file in files)
    return f"The test span was read {times} times, by {len(files)} runs.\n\n" if times else ""


def _formers(settings: Settings) -> list[str]:
    """Fingerprints of what the settings say to start from."""
    files = [place / ARTEFACT_FILE if place.is_dir() else place for place in settings.formers().values()]
    return [fingerprint_of_file(file) for file in files if file.exists()]  # Where none is, the run says so.


def _largest(workdir: Path) -> float:
    """The peak memory of the largest run of this grid that has finished, on either span, GiB; 0 where there is none."""
    files = workdir.parent.glob(f"*/{RUNS_FOLDER}/*/{USED_FILE}")
    return max((json.loads(file.read_text())["peak_memory_gib"] for file in files), default=0.0)
