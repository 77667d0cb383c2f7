"""Running a grid: what is run, what a second call does, what is tuned and confirmed, how failures are reported."""

import dataclasses
import json
from collections import Counter

import pandas as pd
import pytest

from courier_tf.commands import program
from courier_tf.experiment import run_grid as running
from courier_tf.experiment.claims import Claim
from courier_tf.experiment.processes import ExperimentError
from courier_tf.experiment.run_grid import run_grid
from courier_tf.settings import SettingsError, with_values
from courier_tf.shop import ShopSettings, make_shop
from tests.experiment.conftest import GRID, TINY


def as_json(grid):
    """A grid as in its file, which gives it its name."""
    return json.dumps({name: value for name, value in dataclasses.asdict(grid).items() if name != "name"})


def test_a_run_that_is_broken_off_is_not_finished_and_keeps_its_peak(tmp_path, stand_in, monkeypatch, caplog):
    caplog.set_level("INFO")
    work, grid = tmp_path / "mine" / "valid", dataclasses.replace(GRID, blocks=[{"clusters": [4]}], seeds=[0])
    run_grid(grid, "raw", tmp_path, TINY, until="pretrain")
    status = work / "runs" / "clusters=4,seed=0" / "status.json"
    about = json.loads(status.read_text())
    status.write_text(json.dumps(about | {"peak_memory_gib": 7.5}))  # As if pre-training had needed more than rankers.
    monkeypatch.setenv("BREAK", "clusters=4,seed=0")
    with pytest.raises(ExperimentError):
        run_grid(grid, "raw", tmp_path, TINY)
    assert json.loads(status.read_text())["until"] is None
    monkeypatch.delenv("BREAK")
    frame = run_grid(grid, "raw", tmp_path, TINY)
    assert set(frame["peak_memory_gib"]) == {7.5}
    assert "is replaced" not in caplog.text
    run_grid(grid, "other raw", tmp_path, TINY)
    assert json.loads(status.read_text())["peak_memory_gib"] < 7.5, "that was another run"
    assert "clusters=4,seed=0] is made again, and what it had made is replaced: other data or code\n" in caplog.text
    caplog.clear()
    run_grid(grid, "other raw", tmp_path, with_values(TINY, {"history_length": 3, "rank_epochs": 7}))
    (told,) = (message for message in caplog.messages if "is replaced" in message)
    before = TINY.by_name()
    both = [f"{name}={before[name]}, now {now}" for name, now in (("history_length", 3), ("rank_epochs", 7))]
    assert told.endswith(f"is replaced: {'; '.join(both)}")


def test_a_run_that_other_code_made_is_named(tmp_path, stand_in, monkeypatch, caplog):
    caplog.set_level("INFO")
    grid = dataclasses.replace(GRID, blocks=[{"clusters": [4]}], seeds=[0])
    run_grid(grid, "raw", tmp_path, TINY)
    assert "is kept as" not in caplog.text
    monkeypatch.setattr(running, "commit", lambda: "later")
    frame = run_grid(grid, "raw", tmp_path, TINY)
    assert "is kept as the code of" in caplog.text and set(frame["commit"]) == {"c1"}


def test_what_the_grid_names_in_every_run_cannot_be_given_beside_it(tmp_path, stand_in):
    (tmp_path / "mine.json").write_text(as_json(dataclasses.replace(GRID, blocks=[{}, {"temperature": [0.3]}])))
    words = ["experiment", str(tmp_path / "mine.json"), "--raw", "raw", "--workdir", str(tmp_path), "--preset", "tiny"]
    for given in (["--seed", "3"], ["--seed=0"], ["--rank-modes", "none", "vector"], ["--rank_modes", "none"]):
        name = given[0][2:].partition("=")[0].replace("-", "_")
        with pytest.raises(SystemExit, match=f"'{name}'.*the grid names these itself"):
            program.main([*words, *given])
    program.main([*words, "--seeds", "3", "--temperature", "0.7"])
    frame = pd.read_csv(tmp_path / "mine" / "valid" / "results.csv")
    assert set(frame["seed"]) == {3} and set(frame["temperature"]) == {0.3, 0.7}, "it counts where no block names it"


def test_a_workdir_knows_the_settings_of_its_last_experiment(tmp_path, stand_in):
    """Else `--final` would read the test span of what nobody chose."""
    (tmp_path / "mine.json").write_text(as_json(GRID))
    words = ["experiment", str(tmp_path / "mine.json"), "--raw", "raw", "--workdir", str(tmp_path)]
    program.main([*words, "--preset", "tiny", "--temperature", "0.7"])
    program.main([*words, "--final"])
    for span in ("valid", "test"):
        frame = pd.read_csv(tmp_path / "mine" / span / "results.csv")
        assert set(frame["temperature"]) == {0.7} and set(frame["image_size"]) == {TINY.ingest.image_size}


def test_rankers_of_before_stay_in_the_table(tmp_path, stand_in):
    for until in ("rank", "pretrain"):
        run_grid(GRID, "raw", tmp_path, TINY, until=until)
        assert "| clusters=8 | cluster_id |" in (tmp_path / "mine" / "valid" / "results.md").read_text()


def test_each_run_keeps_the_tuned_value_with_the_best_encoder(tmp_path, stand_in):
    tuned = dataclasses.replace(
        GRID, blocks=[{"clusters": [4, 8], "temperature": [0.05, 0.3, 0.9]}, {"clusters": [2]}], tuned=["temperature"]
    )
    work = tmp_path / "mine" / "valid"
    for _ in range(2):
        frame = run_grid(tuned, "raw", tmp_path, TINY)
        ranked = frame[frame["mode"] == "cluster_id"]
        assert set(ranked["variant"]) == {"clusters=4,temperature=0.3", "clusters=8,temperature=0.3", "clusters=2"}
        assert len(ranked) == 2 * 3, "both seeds"
        screened = frame[frame["mode"].isna()]
        assert set(screened["temperature"]) == {0.05, 0.9} and set(screened["seed"]) == {0} and len(screened) == 4
        calls = Counter((work / "calls.txt").read_text().split())
        assert calls.total() == 2 * 3 + 2 * 2 + 2, "screened, then those kept with every seed; each once"
    text = (work / "results.md").read_text()
    assert "| clusters=4,temperature=0.9 | 1 |" in text and "| clusters=4,temperature=0.9 | none" not in text


def test_what_was_kept_by_an_earlier_call_and_is_not_any_more_has_no_rows_but_that_it_is_compared_by(
    tmp_path, stand_in, monkeypatch
):
    tuned = dataclasses.replace(GRID, blocks=[{"temperature": [0.05, 0.2]}], tuned=["temperature"])
    run_grid(dataclasses.replace(tuned, seeds=[1]), "raw", tmp_path, TINY)  # Keeps 0.2.
    monkeypatch.setattr(running.encoders, "CHOSEN_BY", "best_new_to_user")  # All equal: the first is kept.
    frame = run_grid(tuned, "raw", tmp_path, TINY)
    rows = [tuple(row) for row in frame[["temperature", "seed", "mode"]].fillna("").values]
    assert rows == [(0.05, s, m) for s in (0, 1) for m in ("none", "cluster_id")] + [(0.2, 0, "")]


@pytest.mark.slow
def test_the_best_encoders_are_confirmed_with_all_seeds(tmp_path, stand_in):
    grid = dataclasses.replace(
        GRID, blocks=[{"temperature": [0.9]}, {"temperature": [0.05, 0.1, 0.2, 0.5]}], confirmed=2, seeds=[0, 1, 2]
    )
    work = tmp_path / "mine" / "valid"
    for _ in range(2):
        frame = run_grid(grid, "raw", tmp_path, TINY)
        ranked = frame[frame["mode"] == "cluster_id"]
        assert ranked.groupby("temperature")["seed"].apply(sorted).to_dict() == {t: [0, 1, 2] for t in (0.9, 0.1, 0.2)}
        assert set(frame[frame["mode"].isna()]["temperature"]) == {0.05, 0.5}
    assert len((work / "calls.txt").read_text().split()) == 5 + 3 * 3, "screened, then those kept with every seed"


def test_equal_settings_under_two_names_are_one_run(tmp_path, stand_in):
    grid = dataclasses.replace(GRID, blocks=[{}, {"clusters": [TINY.cluster.clusters, 9]}], seeds=[0])
    frame = run_grid(grid, "raw", tmp_path, TINY)
    assert set(frame["variant"]) == {"default", "clusters=9"}


def test_encoders_that_cannot_be_compared(tmp_path, stand_in, monkeypatch):
    monkeypatch.setattr(running.encoders, "CHOSEN_BY", "undefined")
    tuned = dataclasses.replace(GRID, blocks=[{"temperature": [0.1, 0.2]}], tuned=["temperature"])
    with pytest.raises(ExperimentError, match="undefined of temperature=0.1 is not defined on the valid span"):
        run_grid(tuned, "raw", tmp_path, TINY)


def test_without_rankers(tmp_path, stand_in):
    work = tmp_path / "mine" / "valid"
    frame = run_grid(GRID, "raw", tmp_path, TINY, until="pretrain")
    assert len(frame) == 4 and "auc" not in frame and not (work / "gains.png").exists()
    assert "SimScore" in (work / "results.md").read_text()
    assert len(run_grid(GRID, "raw", tmp_path, TINY)) == 8, "and with them"


def test_what_is_finished_is_not_run_again_and_a_failure_names_its_log(tmp_path, stand_in, monkeypatch):
    work = tmp_path / "mine" / "valid"
    monkeypatch.setenv("BREAK", "clusters=8,seed=0")
    with pytest.raises(ExperimentError, match=r"clusters=8,seed=0 failed.*log\.txt"):
        run_grid(GRID, "raw", tmp_path, TINY)
    assert "the disk is full" in (work / "runs" / "clusters=8,seed=0" / "log.txt").read_text()
    assert len(pd.read_csv(work / "results.csv")) == 3 * 2, "the others are run, and stand in the results"
    table = (work / "results.md").read_text()
    assert "| clusters=4 | cluster_id |" in table and "| clusters=8 | cluster_id |" not in table, "it lacks a seed"
    monkeypatch.delenv("BREAK")
    run_grid(GRID, "raw", tmp_path, TINY)
    assert len(run_grid(GRID, "raw", tmp_path, TINY)) == 8
    calls = (work / "calls.txt").read_text().split()
    once = {f"clusters={clusters},seed={seed}": 1 for clusters in (4, 8) for seed in (0, 1)}
    assert Counter(calls) == once | {"clusters=8,seed=0": 2}
    run_grid(GRID, "other raw", tmp_path, TINY)
    assert len((work / "calls.txt").read_text().split()) == 9, "other data are another run"
    reports = [work / name for name in ("results.md", "gains.png", "losses.png")]
    assert all(report.exists() for report in reports)
    monkeypatch.setenv("BREAK", "clusters=8,seed=0")
    with pytest.raises(ExperimentError):
        run_grid(dataclasses.replace(GRID, blocks=[{"clusters": [8]}], seeds=[0]), "raw", tmp_path, TINY)
    assert not any(report.exists() for report in reports), "nor do reports of these stand beside rows of those"


def test_the_first_run_that_fails_ends_a_grid_as_all_might(tmp_path, stand_in, monkeypatch):
    monkeypatch.setenv("BREAK", "clusters=4,seed=0")
    with pytest.raises(ExperimentError, match="clusters=4,seed=0 failed"):
        run_grid(GRID, "raw", tmp_path, TINY)
    assert (tmp_path / "mine" / "valid" / "calls.txt").read_text().split() == ["clusters=4,seed=0"]


def test_a_rung_with_a_run_that_failed_is_left_out_and_no_claim_is_judged(tmp_path, stand_in, monkeypatch):
    rungs = {"few": "clusters=4", "some": "clusters=6", "many": "clusters=8"}
    grid = dataclasses.replace(GRID, blocks=[{"clusters": [4, 6, 8]}], ladder=rungs)
    claim = Claim("clusters=8", "cluster_id", "new_to_user", low=90.0)
    monkeypatch.setenv("BREAK", "clusters=6,seed=1")
    with pytest.raises(ExperimentError, match="clusters=6,seed=1 failed"):
        run_grid(grid, "raw", tmp_path, TINY, claims=[claim])
    ladder = pd.read_csv(tmp_path / "mine" / "valid" / "ladder.csv")
    assert "some" not in ladder.to_csv() and {"few", "many"} <= set(ladder.iloc[:, 0])


def test_nothing_is_chosen_where_a_run_to_choose_by_has_failed(tmp_path, stand_in, monkeypatch):
    tuned = dataclasses.replace(GRID, blocks=[{"temperature": [0.05, 0.2, 0.3]}], tuned=["temperature"], seeds=[0])
    monkeypatch.setenv("BREAK", "temperature=0.2,seed=0")
    with pytest.raises(ExperimentError, match="temperature=0.2,seed=0 failed"):
        run_grid(tuned, "raw", tmp_path, TINY)
    rows = pd.read_csv(tmp_path / "mine" / "valid" / "results.csv")
    assert set(rows["temperature"]) == {0.05, 0.3} and "mode" not in rows.dropna(axis=1)


def test_what_is_finished_stays_in_the_results_of_a_call_that_fails_before_its_turn(tmp_path, stand_in, monkeypatch):
    work = tmp_path / "mine" / "valid"
    run_grid(dataclasses.replace(GRID, seeds=[1]), "raw", tmp_path, TINY)
    run_grid(dataclasses.replace(GRID, blocks=[{"clusters": [8]}]), "raw", tmp_path, TINY)
    monkeypatch.setenv("BREAK", "clusters=4,seed=0")  # The first of all.
    with pytest.raises(ExperimentError):
        run_grid(GRID, "raw", tmp_path, TINY)
    rows = pd.read_csv(work / "results.csv")[["variant", "seed", "mode"]].values.tolist()
    runs = [("clusters=4", 1), ("clusters=8", 0), ("clusters=8", 1)]
    assert rows == [[*run, mode] for run in runs for mode in ("none", "cluster_id")]


def test_what_ends_beside_a_run_that_fails_later_stands_in_the_results(tmp_path, stand_in, monkeypatch):
    work = tmp_path / "mine" / "valid"
    run_grid(GRID, "raw", tmp_path, TINY, until="pretrain")  # How large they are is known from here on.
    monkeypatch.setenv("BREAK", "clusters=4,seed=0")
    monkeypatch.setenv("BREAK_AFTER", "5")
    with pytest.raises(ExperimentError, match="clusters=4,seed=0 failed"):
        run_grid(GRID, "raw", tmp_path, TINY, parallel=2)
    rows = pd.read_csv(work / "results.csv")
    assert rows["mode"].notna().all() and "clusters=4" in set(rows["variant"]) and set(rows["seed"]) <= {0, 1}
    assert not ((rows["variant"] == "clusters=4") & (rows["seed"] == 0)).any()


def test_claims_are_judged_at_the_end_and_one_that_does_not_hold_fails_the_command(tmp_path, stand_in, capsys):
    """The stand-in gains one point per cluster."""
    (tmp_path / "mine.json").write_text(as_json(dataclasses.replace(GRID, seeds=[0, 1, 2])))
    claim = {"variant": "clusters=4", "mode": "cluster_id", "slice": "new_to_user", "low": 3.5}
    words = ["experiment", str(tmp_path / "mine.json"), "--raw", "raw", "--workdir", str(tmp_path / "work")]
    words += ["--preset", "tiny", "--claims", str(tmp_path / "claims.json")]
    (tmp_path / "claims.json").write_text(json.dumps({"mine": [claim], "other": "never read"}))
    program.main(words)
    assert "| clusters=4 | cluster_id | new_to_user | +4.00 |" in capsys.readouterr().out
    (tmp_path / "claims.json").write_text(json.dumps({"mine": [claim, claim | {"low": 4.5}]}))
    with pytest.raises(SystemExit, match=r"1 of 2 claims do not hold; all are listed in .*results\.md"):
        program.main(words)
    assert capsys.readouterr().out.count("| clusters=4 | cluster_id | new_to_user |") == 2, "the tables are shown first"
    with pytest.raises(SystemExit, match="claims are about rankers, and until=pretrain trains none"):
        program.main([*words, "--until", "pretrain"])
    with pytest.raises(SystemExit, match="there is no file of claims nowhere.json"):
        program.main([*words[:-1], "nowhere.json"])


def test_a_grid_starts_from_what_another_has_trained_in_the_same_workdir(tmp_path, stand_in):
    """`{workdir}` and `{variant}` stand for themselves until the grid is run; equal settings need equal starts."""
    first = dataclasses.replace(GRID, name="first", seeds=[0])
    run_grid(first, "raw", tmp_path / "work", TINY)
    start = "{workdir}/first/valid/runs/{variant},seed=0/rank"
    second = dataclasses.replace(GRID, fixed=GRID.fixed | {"previous_rankers": start})
    frame = run_grid(second, "raw", tmp_path / "work", TINY)
    starts = dict(zip(frame["variant"], frame["previous_rankers"], strict=True))
    runs = tmp_path / "work" / "first" / "valid" / "runs"
    assert starts == {name: str(runs / f"{name},seed=0" / "rank") for name in ("clusters=4", "clusters=8")}
    assert all((runs / f"{name},seed=0").is_dir() for name in starts)


@pytest.mark.slow
def test_a_real_grid(tmp_path, capsys):
    make_shop(tmp_path / "shop", ShopSettings(items=160, users=80, days=12, page_views=900, photo_size=32))
    grid = {"about": "tiny", "blocks": [{"clusters": [4, 8]}], "seeds": [0]}
    grid["fixed"] = {"rank_modes": ["none", "cluster_id+simscore"], "supervised_steps": 2, "pretrain_steps": 2}
    grid["fixed"] |= {"pretrain_where": "department=tops", "rank_slice_columns": ["category", "department"]}
    grid["ladder"] = {"few": "clusters=4", "many": "clusters=8"}  # The encoder is the same: the rankers alone differ.
    (tmp_path / "grid.json").write_text(json.dumps(grid))
    words = ["experiment", str(tmp_path / "grid.json"), "--raw", str(tmp_path / "shop"), "--preset", "tiny"]
    for final in ([], ["--final"]):
        program.main([*words, "--workdir", str(tmp_path / "work"), *final])
    stages = [path.name.split("-")[0] for path in (tmp_path / "work" / "stages").iterdir() if path.is_dir()]
    assert sorted(stages) == ["cluster", "cluster", "embed", "ingest", "pretrain", "rank", "rank", "supervised"]
    shown = capsys.readouterr().out
    assert "| clusters=8 | cluster_id+simscore | 1 |" in shown
    assert "gain over none, new to user, department/" in shown and "category/" not in shown
    assert "| clusters=8 | cluster_id+simscore | department | " in shown
    assert "The test span was read 2 times, by 2 runs." in shown
    for split in ("valid", "test"):
        rows = pd.read_csv(tmp_path / "work" / "grid" / split / "results.csv")
        assert set(rows["split"]) == {split}
        same = rows["valid_gain new_to_user"].dropna().tolist() == rows["gain new_to_user"].dropna().tolist()
        assert same == (split == "valid")
        ladder = pd.read_csv(tmp_path / "work" / "grid" / split / "ladder.csv").set_index(["figure", "rung", "less"])
        pairs = [("few", "no visual feature"), ("many", "no visual feature"), ("many", "few")]
        assert list(ladder.index) == [
            ("held-out score", *pairs[0]),
            ("ranker", *pairs[0]),
            ("held-out score", *pairs[1]),
            ("ranker", *pairs[1]),
            ("ranker", *pairs[2]),
        ]


def test_a_run_goes_on_from_the_encoder_of_another_one_of_its_grid(tmp_path, stand_in):
    """Each waits for the one before, whatever their order in the grid, and is made anew where that one is."""
    grid = dataclasses.replace(
        GRID,
        blocks=[{"clusters": [8, 6, 4]}, {"temperature": [0.9]}],
        starts={"clusters=8": "clusters=6", "clusters=6": "clusters=4"},
    )
    work, calls = tmp_path / "mine" / "valid", []
    for raw in ("raw", "raw", "other raw"):
        frame = run_grid(grid, raw, tmp_path, TINY, parallel=4)
        calls.append((work / "calls.txt").read_text().split())
    assert calls[1] == calls[0] and len(calls[2]) == 2 * len(calls[0]) == 2 * 8
    for part in (calls[0], calls[2][8:]):
        for seed in (0, 1):
            order = [part.index(f"clusters={clusters},seed={seed}") for clusters in (4, 6, 8)]
            assert order == sorted(order)
    starts = frame.set_index(["variant", "seed"])["previous_encoder"].to_dict()
    assert starts["clusters=8", 1] == str(work / "runs" / "clusters=6,seed=1" / "pretrain")
    assert all(pd.isna(starts[name, 0]) for name in ("clusters=4", "temperature=0.9"))


@pytest.mark.parametrize("parallel", [1, 4])
def test_tuning_waits_for_what_its_variants_start_from(tmp_path, stand_in, parallel):
    """It comes before all other runs, but not before these."""
    grid = dataclasses.replace(
        GRID,
        blocks=[{"clusters": [6, 4]}, {"temperature": [0.9], "pretrain_learning_rate": [1e-3, 2e-3]}],
        starts={f"temperature=0.9,pretrain_learning_rate=0.00{n}": "clusters=6" for n in (1, 2)}
        | {"clusters=6": "clusters=4"},
        tuned=["pretrain_learning_rate"],
    )
    frame = run_grid(grid, "raw", tmp_path, TINY, parallel=parallel)
    calls = (tmp_path / "mine" / "valid" / "calls.txt").read_text().split()
    assert calls[:2] == ["clusters=4,seed=0", "clusters=6,seed=0"] and "pretrain_learning_rate" in calls[2]
    kept = {name for name, seed in zip(frame["variant"], frame["seed"], strict=True) if seed == 1}
    assert {"clusters=4", "clusters=6"} < kept and len(kept) == 3


def test_a_run_is_made_anew_where_what_it_starts_from_is_another_one(tmp_path, stand_in):
    """Though its own settings stay as they are."""
    grid = dataclasses.replace(
        GRID, blocks=[{}, {"temperature": [0.9]}], seeds=[0], starts={"temperature=0.9": "default"}
    )
    calls = tmp_path / "mine" / "valid" / "calls.txt"
    run_grid(grid, "raw", tmp_path, TINY)
    both = ["default,seed=0", "temperature=0.9,seed=0"]
    assert calls.read_text().split() == both
    run_grid(grid, "raw", tmp_path, with_values(TINY, {"temperature": 0.4}))
    assert calls.read_text().split() == [*both, *both]


def test_runs_that_start_from_each_other_are_refused(tmp_path, stand_in):
    grid = dataclasses.replace(GRID, starts={"clusters=8": "clusters=4", "clusters=4": "clusters=8"})
    with pytest.raises(SettingsError, match="start from each other: clusters=4,seed=0, clusters=4,seed=1, clusters=8"):
        run_grid(grid, "raw", tmp_path, TINY)
