"""Runs of a few lines in place of the real ones, which `test_a_real_grid` (slow) has."""

import sys

import numpy as np
import pytest

from beam_jobs import raw_fingerprint
from courier_tf.experiment import differences, run_grid
from courier_tf.experiment.grid import Grid
from courier_tf.ranking.evaluation import Evaluation, slices_of
from courier_tf.settings.presets import PRESETS

TINY = PRESETS["tiny"]
GRID = Grid("about it", [{"clusters": [4, 8]}], {"rank_modes": ["none", "cluster_id"]}, seeds=[0, 1], name="mine")


STAND_IN = """
import json, os, sys, time
from pathlib import Path
import numpy as np
run = json.loads(Path(sys.argv[1]).read_text())
folder, settings = Path(run["workdir"]), run["settings"]
with open(folder.parent.parent / "calls.txt", "a") as calls:
    calls.write(folder.name + "\\n")
if os.environ.get("BREAK") == folder.name:
    time.sleep(float(os.environ.get("BREAK_AFTER", "0")))
    sys.exit("the disk is full")
clusters, seed, tau = settings["cluster"]["clusters"], settings["seed"], settings["pretrain"]["temperature"]
scores = {"best_new_to_user": 0.5, "mean_new_to_user": 0.6 - ((tau or 0.2) - 0.2) ** 2, "alignment": 1.0,
          "undefined": None}
base = {"held_out": scores, "losses": [5.0, 4.0, 3.0, 2.0, 1.0, 0.0], "seconds": {"pretrain": 3.0, "rank": 2.0},
        "ingest": settings["ingest"]["negatives"] + (settings["ingest"]["valid_from"] or ""),
        "code_version": "v1", "commit": "c1"}
if run["final"] and run["until"] == "rank":
    (folder / "test_readings.json").write_text(json.dumps([{}, {}]))
(folder / "settings.json").write_text(json.dumps(settings))
(folder / "pretrain" / "logs").mkdir(parents=True, exist_ok=True)
(folder / "pretrain" / "logs" / "steps.csv").write_text("epoch,loss\\n0,5.0\\n1,4.0\\n")
rng = np.random.default_rng([seed, clusters, round(100 * (tau or 0.2))])
users, label = np.arange(200) // 10, np.arange(200) % 2
if settings["ingest"]["negatives"] == "uniform":  # Other data.
    label = 1 - label
impressions = {"users": users, "clicked": label, "new_to_user": np.arange(200) % 5 > 0, "objective_score": "own",
               "score of mean": rng.random(200) + label * clusters / 16, "score of own": rng.random(200)}
np.savez(folder / "pretrain" / "held_out.npz", **impressions)
if run["until"] == "pretrain":
    (folder / "measured.json").write_text(json.dumps(base))
    sys.exit()
values = {"auc": 0.6, "gauc": 0.6, "logloss": 0.4, "slices": {name: {"auc": 0.5 + clusters / 100}
          for name in ("new_to_user", "new_to_user+train_events/0-4", "train_events/0",
                       "train_events/0-4", "train_events/5+", "without_history")}}
rng = np.random.default_rng(seed)
label = np.arange(200) % 2
np.savez(folder / "predictions.npz", none=rng.random([1, 200]), cluster_id=rng.random([1, 200]) + label * clusters / 16,
         vector=rng.random([1, 200]) + label * clusters / 4)
no_interval = {"low": None, "high": None, "error": None}  # As of one start.
gain = {name: {"gain": 0.01 * clusters, **no_interval} for name in ("all", *values["slices"])}
modes = settings["rank"]["rank_modes"]
(folder / "measured.json").write_text(json.dumps({**base, "rankers": {"split": "test" if run["final"] else "valid",
    "ranking": {mode: values for mode in modes}, "gain_over_none": {mode: gain for mode in modes[1:]},
    "gauc_gain_over_none": {mode: {"all": {"gain": 0.02}, "new_to_user": None} for mode in modes[1:]},
    "valid_gains": {mode: {"cluster_id": 0.01, "vector": 0.02}.get(mode) for mode in modes[1:]},
    "popularity": {"auc": 0.51}, "learning_rates":
    {mode: [{"0.1": None, "0.2": 0.5 + 0.1 * seed, "0.3": 0.55}, {"0.3": 0.1}] for mode in modes},
    "category_gates": {"cluster_id": {f"c{place}": 0.1 * place + 0.2 * seed for place in range(5)}}}}))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A script in place of a run; the evaluation of 200 impressions of 20 users, whatever the ingest."""
    monkeypatch.setattr("courier_tf.commands.command.require_readable", lambda *_: None)  # It reads no raw data.
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(run_grid.sys, "executable", str(program))
    monkeypatch.setattr(raw_fingerprint, "fingerprint_of_raw", lambda raw: f"content of {raw}")
    number = np.arange(200)
    evaluation = Evaluation(
        number // 10,
        number // 4,
        number,
        number % 2,
        number % 7,
        slices_of(number % 3, number % 5 == 0, number % 7, {}),
    )
    monkeypatch.setattr(differences, "evaluation_of", lambda workdir, split: evaluation)
    return evaluation
