"""Running a grid: what runs share, what a second call does, how a failure is told; the table and its intervals.

The runs here are stand-ins of a few lines; the real thing is `test_a_real_grid`, which is slow.
"""

import dataclasses
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beam_jobs import ingest
from courier_tf import artefacts, cli
from courier_tf.artefacts import MadeBy
from courier_tf.experiment import run as running
from courier_tf.experiment import table
from courier_tf.experiment.grids import Grid
from courier_tf.experiment.processes import ExperimentError
from courier_tf.experiment.run import experiment
from courier_tf.experiment.store import SharingChain
from courier_tf.presets import PRESETS
from courier_tf.ranking.evaluation import Evaluation, slices_of
from courier_tf.shop import ShopSettings, make_shop

TINY = PRESETS["tiny"]
GRID = Grid("about it", [{"clusters": [4, 8]}], {"rank_modes": ["none", "cluster_id"]}, seeds=[0, 1])


def chain_of(folder: Path, name: str) -> SharingChain:
    return SharingChain(folder / "runs" / name, TINY, store=folder / "stages")


def test_equal_stages_are_made_once_and_others_apart(tmp_path):
    made = []

    def stage(chain, settings):
        made_by = MadeBy("embed", settings, {})

        def make(target):
            made.append(target)
            with artefacts.write_aside(target, made_by) as (partial, _):
                (partial / "value").write_text(str(settings))

        chain.workdir.mkdir(parents=True, exist_ok=True)
        chain._unless_current(chain.directory("embed"), made_by, make)
        return artefacts.read(chain.directory("embed"), "embed")

    first, second, other = (chain_of(tmp_path, name) for name in "abc")
    one = stage(first, {"n": 1})
    assert stage(second, {"n": 1}).fingerprint == one.fingerprint and len(made) == 1
    assert stage(other, {"n": 2}).fingerprint != one.fingerprint and len(made) == 2
    assert (second.directory("embed") / "value").read_text() == "{'n': 1}"
    assert second.seconds("embed") == first.seconds("embed") >= 0 and first.seconds("rank") is None
    stage(second, {"n": 2})  # Other settings in the same workdir.
    assert (second.directory("embed") / "value").read_text() == "{'n': 2}" and len(made) == 2
    moved = tmp_path.with_name(f"{tmp_path.name}-moved")
    tmp_path.rename(moved)
    assert (moved / "runs" / "a" / "embed" / "value").exists(), "the links are relative"


STAND_IN = """
import json, os, sys
from pathlib import Path
import numpy as np
spec = json.loads(Path(sys.argv[1]).read_text())
own, settings = Path(spec["workdir"]), json.loads(spec["settings"])
with open(own.parent.parent / "calls.txt", "a") as calls:
    calls.write(own.name + "\\n")
if os.environ.get("BREAK") == own.name:
    sys.exit("the disk is full")
clusters, seed, tau = settings["cluster"]["clusters"], settings["seed"], settings["pretrain"]["temperature"]
scores = {"best_without_repeats": 0.5, "mean_without_repeats": 0.6 - ((tau or 0.2) - 0.2) ** 2, "alignment": 1.0,
          "undefined": None}
base = {"held_out": scores, "losses": [5.0, 4.0, 3.0, 2.0, 1.0, 0.0], "seconds": {"pretrain": 3.0, "rank": 2.0},
        "ingest": "x", "code_version": "v1"}
(own / "pretrain" / "logs").mkdir(parents=True, exist_ok=True)
(own / "pretrain" / "logs" / "steps.csv").write_text("epoch,loss\\n0,5.0\\n1,4.0\\n")
if spec["until"] == "pretrain":
    (own / "found.json").write_text(json.dumps(base))
    sys.exit()
values = {"auc": 0.6, "gauc": 0.6, "logloss": 0.4, "slices": {name: {"auc": 0.5 + clusters / 100}
          for name in ("repeats_left_out", "repeats_left_out+train_events/0-4", "train_events/0",
                       "train_events/0-4", "train_events/5+", "without_history")}}
rng = np.random.default_rng(seed)
label = np.arange(200) % 2
np.savez(own / "predictions.npz", none=rng.random([1, 200]), cluster_id=rng.random([1, 200]) + label * clusters / 16)
gain = {name: {"gain": 0.01 * clusters} for name in ("all", *values["slices"])}
(own / "found.json").write_text(json.dumps({"split": "valid", "ranking": {"none": values, "cluster_id": values},
    "gain_over_none": {"cluster_id": gain}, **base, "popularity": {"auc": 0.51},
    "gates": {"cluster_id": {f"c{place}": 0.1 * place + 0.2 * seed for place in range(5)}}}))
"""


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """Runs in place of the cell; the evaluation of 200 impressions of 20 users."""
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    program = tmp_path / "python"
    program.write_text(f'#!/bin/sh\nshift 2\nexec {sys.executable} {script} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(running.sys, "executable", str(program))
    monkeypatch.setattr(ingest, "fingerprint_of_raw", lambda raw: f"content of {raw}")
    number = np.arange(200)
    own = Evaluation(
        number // 10, number // 4, number % 2, number % 7, slices_of(number % 3, number % 5 == 0, number % 7, {})
    )

    class Scored(table._Scored):
        def __init__(self, directories, split):
            self.directories, self.evaluation, self.comparable = directories, own, True
            self.parts = table.PARTS

    monkeypatch.setattr(table, "_Scored", Scored)
    return own


def test_rows_table_and_plot(tmp_path, stand_in):
    work = tmp_path / "work"
    frame = experiment(GRID, "raw", work, work / "stages", TINY, parallel=2)
    assert len(frame) == 2 * 2 * 2 and set(frame["seed"]) == {0, 1} and set(frame["clusters"]) == {4, 8}
    row = frame[(frame["clusters"] == 8) & (frame["seed"] == 1) & (frame["mode"] == "cluster_id")].iloc[0]
    assert row["gain repeats_left_out"] == pytest.approx(0.08) and row["peak_memory_gib"] > 0.001
    assert row["seconds_pretrain"] == 3 and row["code_version"] == "v1" and row["split"] == "valid"
    pd.testing.assert_frame_equal(pd.read_csv(work / "results.csv"), frame, check_dtype=False)
    text = (work / "results.md").read_text()
    lines = text.splitlines()
    assert (
        lines[0] == "about it"
        and lines[2].endswith("valid: 51.00.")
        and len(lines) == 4 + (2 + 4) + 1 + (2 + 3) + 1 + (2 + 2) + 1 + (2 + 2)
    )
    assert lines[19:21] == [
        f"| clusters={clusters} | cluster_id | 0.30 | c4 0.50, c3 0.40, c2 0.30 | c0 0.10, c1 0.20, c2 0.30 |"
        for clusters in (4, 8)
    ]
    assert set(frame["rank_modes"]) == {"none+cluster_id"}, "what all runs share is told, too"
    assert all((work / f"{plot}.png").stat().st_size > 1000 for plot in ("gains", "losses"))
    assert row["loss_1"] == 4.5 and row["loss_3"] == 0.5 and row["held_out_alignment"] == 1
    losses = "4.500 (0.000) | 2.500 (0.000) | 0.500 (0.000)"
    assert lines[-1] == f"| clusters=8 | 2 | {losses} | 1.000 (0.000) | 50.00 (0.00) | 60.00 (0.00) | 3 (0) |"
    of_ranker, gained = lines[4:10], lines[11:16]
    # Seeds average out; what was predicted better by construction has its interval above 0.
    assert "| clusters=8 | cluster_id | 2 | 60.00 (0.00) | 58.00 (0.00) |" in of_ranker[-1]
    from sklearn.metrics import roc_auc_score

    gains = []
    for seed in (0, 1):
        with np.load(work / "runs" / f"clusters=8,seed={seed}" / "predictions.npz") as found:
            aucs = {mode: roc_auc_score(stand_in.clicked, found[mode][0]) for mode in found}
        gains.append(100 * (aucs["cluster_id"] - aucs["none"]))
    shown = float(gained[-1].split("|")[gained[0].split("|").index(" gain over none, all (95 %) ")].split()[0])
    assert shown == pytest.approx(np.mean(gains), abs=0.006) and "less the first run" in gained[0]
    assert [line.split("|")[1:3] for line in gained[2:]] == [
        [" clusters=4 ", " cluster_id "],
        [" clusters=8 ", " none "],  # Against the first run.
        [" clusters=8 ", " cluster_id "],
    ]


def test_each_run_keeps_the_tuned_value_with_the_best_encoder(tmp_path, stand_in):
    tuned = dataclasses.replace(
        GRID, blocks=[{"clusters": [4, 8], "temperature": [0.05, 0.3, 0.9]}, {"clusters": [2]}], tuned=["temperature"]
    )
    work = tmp_path / "work"
    for _ in range(2):
        frame = experiment(tuned, "raw", work, work / "stages", TINY)
        ranked = frame[frame["mode"] == "cluster_id"]
        assert set(ranked["run"]) == {"clusters=4,temperature=0.3", "clusters=8,temperature=0.3", "clusters=2"}
        assert len(ranked) == 2 * 3, "both seeds"
        screened = frame[frame["mode"].isna()]
        assert set(screened["temperature"]) == {0.05, 0.9} and set(screened["seed"]) == {0} and len(screened) == 4
        calls = Counter((work / "calls.txt").read_text().split())
        assert calls.total() == 2 * 3 + 2 * 2 + 2, "screened, then those kept with every seed; each once"
    text = (work / "results.md").read_text()
    assert "| clusters=4,temperature=0.9 | 1 |" in text and "| clusters=4,temperature=0.9 | none" not in text


def test_the_best_encoders_are_confirmed_with_all_seeds(tmp_path, stand_in):
    grid = dataclasses.replace(
        GRID, blocks=[{"temperature": [0.9]}, {"temperature": [0.05, 0.1, 0.2, 0.5]}], confirmed=2, seeds=[0, 1, 2]
    )
    work = tmp_path / "work"
    for _ in range(2):
        frame = experiment(grid, "raw", work, work / "stages", TINY)
        ranked = frame[frame["mode"] == "cluster_id"]
        assert ranked.groupby("temperature")["seed"].apply(sorted).to_dict() == {t: [0, 1, 2] for t in (0.9, 0.1, 0.2)}
        assert set(frame[frame["mode"].isna()]["temperature"]) == {0.05, 0.5}
    assert len((work / "calls.txt").read_text().split()) == 5 + 3 * 3, "screened, then those kept with every seed"


def test_equal_settings_under_two_names_are_one_run(tmp_path, stand_in):
    grid = dataclasses.replace(GRID, blocks=[{}, {"clusters": [TINY.cluster.clusters, 9]}], seeds=[0])
    frame = experiment(grid, "raw", tmp_path / "work", tmp_path / "stages", TINY)
    assert set(frame["run"]) == {"default", "clusters=9"}


def test_encoders_that_cannot_be_compared(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(running.encoders, "CHOSEN_BY", "undefined")
    tuned = dataclasses.replace(GRID, blocks=[{"temperature": [0.1, 0.2]}], tuned=["temperature"])
    with pytest.raises(ExperimentError, match="undefined is not defined on the valid span"):
        experiment(tuned, "raw", tmp_path / "work", tmp_path / "stages", TINY)


def test_without_rankers(tmp_path, stand_in):
    work = tmp_path / "work"
    frame = experiment(GRID, "raw", work, work / "stages", TINY, until="pretrain")
    assert len(frame) == 4 and "auc" not in frame and not (work / "gains.png").exists()
    assert "SimScore" in (work / "results.md").read_text()
    assert len(experiment(GRID, "raw", work, work / "stages", TINY)) == 8, "and with them"


def test_what_is_finished_is_not_run_again_and_a_failure_names_its_log(tmp_path, stand_in, monkeypatch):
    work = tmp_path / "work"
    monkeypatch.setenv("BREAK", "clusters=8,seed=0")
    with pytest.raises(ExperimentError, match=r"clusters=8,seed=0 failed.*log\.txt"):
        experiment(GRID, "raw", work, work / "stages", TINY)
    assert "the disk is full" in (work / "runs" / "clusters=8,seed=0" / "log.txt").read_text()
    assert len(pd.read_csv(work / "results.csv")) == 2 * 2, "what is finished stands in the results"
    monkeypatch.delenv("BREAK")
    experiment(GRID, "raw", work, work / "stages", TINY)
    assert len(experiment(GRID, "raw", work, work / "stages", TINY)) == 8
    calls = (work / "calls.txt").read_text().split()
    once = {f"clusters={clusters},seed={seed}": 1 for clusters in (4, 8) for seed in (0, 1)}
    assert Counter(calls) == once | {"clusters=8,seed=0": 2}
    experiment(GRID, "other raw", work, work / "stages", TINY)
    assert len((work / "calls.txt").read_text().split()) == 9, "other data are another run"


@pytest.mark.slow
def test_a_real_grid(tmp_path, capsys):
    make_shop(tmp_path / "shop", ShopSettings(items=160, users=80, days=12, page_views=900, photo_size=32))
    grid = {"about": "tiny", "blocks": [{"clusters": [4, 8]}], "seeds": [0]}
    grid["fixed"] = {"rank_modes": ["none", "cluster_id+simscore"], "warmup_steps": 2, "pretrain_steps": 2}
    grid["fixed"] |= {"pretrain_where": "department=tops", "rank_slice_columns": ["category", "department"]}
    (tmp_path / "grid.json").write_text(json.dumps(grid))
    words = ["experiment", str(tmp_path / "grid.json"), "--raw", str(tmp_path / "shop"), "--preset", "tiny"]
    cli.main([*words, "--workdir", str(tmp_path / "work")])
    stages = [path.name.split("-")[0] for path in (tmp_path / "work" / "stages").iterdir() if path.is_dir()]
    assert sorted(stages) == ["cluster", "cluster", "embed", "ingest", "pretrain", "rank", "rank", "warmup"]
    shown = capsys.readouterr().out
    assert "| clusters=8 | cluster_id+simscore | 1 |" in shown
    assert "gain over none, department/" in shown and "category/" not in shown
