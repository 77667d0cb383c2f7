"""`courier experiment`: all runs of a grid, then their table and plots. What an interrupted one has done stays done."""

import dataclasses
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd

import courier_tf
from courier_tf.artefacts import fingerprint_of, write_file
from courier_tf.experiment.cell import FOUND_FILE, Spec
from courier_tf.experiment.grids import Grid, name_of
from courier_tf.experiment.table import draw, table_of
from courier_tf.settings import Settings

RUNS_FOLDER, STORE_FOLDER = "runs", "stages"
RESULTS_FILE, TABLE_FILE, PLOT_FILE = "results.csv", "results.md", "gains.png"
SPEC_FILE, USED_FILE, LOG_FILE = "spec.json", "used.json", "log.txt"
SLICES = ("repeats_left_out", "train_events/0", "train_events/0-4", "train_events/5+", "without_history")


class ExperimentError(RuntimeError):
    """A run of the grid failed."""


def experiment(
    grid: Grid, raw: str, workdir: Path, base: Settings, *, final: bool = False, parallel: int = 1
) -> pd.DataFrame:
    """Runs a grid: each combination of settings and seed in a process of its own.

    Runs share the stages in which they agree: one ingest, one warm-up per seed, and so on. A run that is finished, with
    the same settings, code and data, is not run again. Writes, after every run, `results.csv`, and at the end
    `results.md` and `gains.png` into the workdir.

    Args:
        grid: what is run.
        raw: folder or URI in the raw format.
        workdir: folder of the results.
        base: the settings that the grid changes.
        final: measure on the test span; each run counts its reading.
        parallel: runs at a time, as far as memory allows.

    Returns:
        One row per run and rank mode, as in `results.csv`.

    Raises:
        ExperimentError: a run failed; names it and its log. What is finished is kept.
        SettingsError: the grid names a setting that does not exist.
    """
    workdir = workdir.resolve()
    store = str(workdir / STORE_FOLDER)
    specs: dict[tuple[str, int], Spec] = {}
    for variant in grid.variants():
        for seed in grid.seeds:
            own = workdir / RUNS_FOLDER / f"{name_of(variant)},seed={seed}"
            settings = grid.settings(base, variant, seed)
            specs[name_of(variant), seed] = Spec(str(own), store, raw, final, settings.to_json())
    frame = pd.DataFrame()
    with ThreadPoolExecutor(parallel) as pool:
        # Of each variant all seeds: the first line of the table is complete as soon as possible.
        runs = {key: pool.submit(_run, spec) for key, spec in specs.items()}
        try:
            for done, run in enumerate(runs.values()):
                run.result()
                finished = {key: specs[key] for key in list(runs)[: done + 1]}
                frame = pd.DataFrame(_rows(grid, finished))
                write_file(workdir / RESULTS_FILE, frame.to_csv(index=False))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    directories = {key: Path(spec.workdir) for key, spec in specs.items()}
    write_file(workdir / TABLE_FILE, f"{grid.about}\n\n{table_of(frame, directories)}")
    draw(frame, workdir / PLOT_FILE)
    return frame


def _run(spec: Spec) -> None:
    """Runs one cell, unless it is finished; notes what it used."""
    own = Path(spec.workdir)
    own.mkdir(parents=True, exist_ok=True)
    key = fingerprint_of([dataclasses.asdict(spec), courier_tf.__version__])
    used = own / USED_FILE
    if used.exists() and json.loads(used.read_text())["key"] == key:
        return
    write_file(own / SPEC_FILE, json.dumps(dataclasses.asdict(spec), indent=2))
    print(f"[{own.name}] ...", flush=True)
    with (own / LOG_FILE).open("a") as log:
        command = [sys.executable, "-m", "courier_tf.experiment.cell", str(own / SPEC_FILE)]
        running = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _, status, resources = os.wait4(running.pid, 0)
            running.returncode = os.waitstatus_to_exitcode(status)
        except BaseException:
            running.kill()
            raise
    if running.returncode:
        raise ExperimentError(f"the run {own.name} failed; its last words are in {own / LOG_FILE}")
    memory = resources.ru_maxrss / 2**20  # KiB to GiB.
    write_file(used, json.dumps({"key": key, "peak_memory_gib": memory}))
    print(f"[{own.name}] done", flush=True)


def _rows(grid: Grid, specs: dict[tuple[str, int], Spec]) -> list[dict[str, Any]]:
    """One row per run and rank mode: settings, seed, figures on the span measured, time, memory."""
    variants = {name_of(variant): variant for variant in grid.variants()}
    rows = []
    for (name, seed), spec in specs.items():
        found = json.loads((Path(spec.workdir) / FOUND_FILE).read_text())
        used = json.loads((Path(spec.workdir) / USED_FILE).read_text())
        about = {"run": name, **variants[name], "seed": seed, "code_version": found["code_version"]}
        costs = {f"seconds_{stage}": seconds for stage, seconds in found["seconds"].items()}
        costs["peak_memory_gib"] = used["peak_memory_gib"]
        scores = {f"simscore_{kind}": found["held_out"][f"{kind}_without_repeats"] for kind in ("best", "mean")}
        for mode, values in found["ranking"].items():
            figures = {f"{metric}": value for metric, value in values.items() if metric != "slices"}
            figures |= {f"auc {part}": values["slices"][part]["auc"] for part in SLICES}
            gain = found["gain_over_none"].get(mode, {})
            figures |= {f"gain {part}": (gain.get(part) or {}).get("gain") for part in ("all", *SLICES)}
            rows.append({**about, "mode": mode, "split": found["split"], **figures, **scores, **costs})
    return rows
