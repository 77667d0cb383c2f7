"""The tables and plots of a grid, their means and paired intervals."""

import dataclasses
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from courier_tf.experiment import differences, rankers
from courier_tf.experiment.run_grid import run_grid
from tests.experiment.conftest import GRID, TINY


def test_rows_table_and_plot(tmp_path, stand_in):
    work = tmp_path / "mine" / "valid"
    frame = run_grid(GRID, "raw", tmp_path, TINY, parallel=2)
    assert len(frame) == 2 * 2 * 2 and set(frame["seed"]) == {0, 1} and set(frame["clusters"]) == {4, 8}
    row = frame[(frame["clusters"] == 8) & (frame["seed"] == 1) & (frame["mode"] == "cluster_id")].iloc[0]
    assert row["gain new_to_user"] == pytest.approx(0.08) and row["peak_memory_gib"] > 0.001
    assert row["seconds_pretrain"] == 3 and row["code_version"] == "v1" and row["split"] == "valid"
    read = pd.read_csv(work / "results.csv")
    assert list(read.columns) == list(frame.columns) and len(read) == len(frame)
    for name in ("variant", "mode", "seed", "auc", "gain new_to_user", "clusters"):
        assert read[name].tolist() == pytest.approx(frame[name].tolist(), nan_ok=True), name
    text = (work / "results.md").read_text()
    lines = text.splitlines()
    assert (
        lines[0] == "about it"
        and lines[2].endswith("valid: 51.00.")
        and len(lines) == 4 + (2 + 4) + 1 + (2 + 2) + 1 + (2 + 2) + 1 + (2 + 1) + 1 + (2 + 2)
    )
    assert lines[18:20] == [
        f"| clusters={clusters} | cluster_id | 0.30 | c4 0.50, c3 0.40, c2 0.30 | c0 0.10, c1 0.20, c2 0.30 |"
        for clusters in (4, 8)
    ]
    assert set(frame["rank_modes"]) == {"none+cluster_id"} and set(frame["image_size"]) == {TINY.ingest.image_size}
    assert set(frame.columns) >= set(TINY.by_name()), "every setting is told, named by the grid or not"
    assert set(frame["commit"]) == {"c1"}
    assert all((work / f"{plot}.png").stat().st_size > 1000 for plot in ("gains", "losses"))
    assert row["loss_1"] == 4.5 and row["loss_3"] == 0.5 and row["held_out_alignment"] == 1
    losses = "4.500 (0.000) | 2.500 (0.000) | 0.500 (0.000)"
    assert lines[-1] == f"| clusters=8 | 2 | {losses} | 1.000 (0.000) | 50.00 (0.00) | 60.00 (0.00) | 3 (0) |"
    of_ranker, gained = lines[4:10], lines[11:15]
    # Seeds average out; what was predicted better by construction has its interval above 0.
    assert "| clusters=8 | cluster_id | 2 | 60.00 (0.00) | 58.00 (0.00) |" in of_ranker[-1]
    assert of_ranker[-1].endswith("| 0.2+0.3, 0.3+0.3 | 2 |") and row["learning_rates"] == "0.3+0.3"
    from sklearn.metrics import roc_auc_score

    gains = []
    for seed in (0, 1):
        with np.load(work / "runs" / f"clusters=8,seed={seed}" / "predictions.npz") as predicted:
            aucs = {mode: roc_auc_score(stand_in.clicked, predicted[mode][0]) for mode in predicted}
        gains.append(100 * (aucs["cluster_id"] - aucs["none"]))
    shown = float(gained[-1].split("|")[gained[0].split("|").index(" gain over none, all (95 %) ")].split()[0])
    assert shown == pytest.approx(np.mean(gains), abs=0.006) and "less the first variant" in gained[0]
    written = pd.read_csv(work / "gains.csv").set_index(["variant", "mode", "less_mode", "part", "figure"])
    assert 100 * written.loc[("clusters=8", "cluster_id", "none", "all", "auc"), "gain"] == pytest.approx(
        np.mean(gains)
    )
    assert (written["low"] <= written["gain"]).all() and (written["gain"] <= written["high"]).all()
    assert [line.split("|")[1:3] for line in gained[2:]] == [
        [" clusters=4 ", " cluster_id "],
        [" clusters=8 ", " cluster_id "],
    ], "`none` is the same in both runs: there is nothing to compare"
    assert gained[2].split("|")[-2] == "  " and gained[3].split("|")[-2] not in ("  ", " +0.00 (+0.00 to +0.00) ")


def test_starts_count_where_there_is_one_seed(tmp_path, stand_in):
    """Student's t of two starts: the interval is more than twelve times as wide as they are apart."""
    from sklearn.metrics import roc_auc_score

    work, grid = tmp_path / "mine" / "valid", dataclasses.replace(GRID, blocks=[{"clusters": [4]}], seeds=[0])
    run_grid(grid, "raw", tmp_path, TINY)
    rng = np.random.default_rng(3)
    modes = {"none": rng.random([2, 200]), "cluster_id": rng.random([2, 200]) + [[0.1], [0.6]] * stand_in.clicked}
    np.savez(work / "runs" / "clusters=4,seed=0" / "predictions.npz", **modes)
    run_grid(grid, "raw", tmp_path, TINY)
    lines = (work / "results.md").read_text().splitlines()
    place = next(line for line in lines if "gain over none" in line).split("|").index(" gain over none, all (95 %) ")
    row = next(line for line in lines[::-1] if line.startswith("| clusters=4 | cluster_id |") and "to" in line)
    gain, low, _, high = row.split("|")[place].strip(" )").replace("(", "").split()
    aucs = {
        mode: [100 * roc_auc_score(stand_in.clicked, scores) for scores in starts] for mode, starts in modes.items()
    }
    of_starts = np.subtract(aucs["cluster_id"], aucs["none"])
    way = 12.706 * abs(of_starts[0] - of_starts[1]) / 2
    assert float(gain) == pytest.approx(of_starts.mean(), abs=0.006) and way > 20
    assert way < float(high) - float(gain) < way + 5 and way < float(gain) - float(low) < way + 5


def test_variants_on_different_data_are_scored_each_on_its_own(tmp_path, stand_in, monkeypatch):
    """Of the second ingest all labels are turned round: what gains on the first loses there."""
    other = dataclasses.replace(stand_in, clicked=1 - stand_in.clicked)
    seen = []

    def evaluation_of(workdir, split):
        seen.append((workdir.name, split))
        return other if "uniform" in workdir.name else stand_in

    monkeypatch.setattr(differences, "evaluation_of", evaluation_of)
    grid = dataclasses.replace(GRID, blocks=[{"negatives": ["popularity", "uniform"], "clusters": [8]}])
    work = tmp_path / "mine" / "valid"
    run_grid(grid, "raw", tmp_path, TINY)
    assert sorted(name.split(",")[0] for name, _ in seen) == ["negatives=popularity", "negatives=uniform"]
    lines = [line.split("|") for line in (work / "results.md").read_text().splitlines()]
    head = next(line for line in lines if "gain over none, all" in " ".join(line))
    place, against = head.index(" gain over none, all (95 %) "), len(head) - 2
    gains = {line[1].strip(): line for line in lines if len(line) == len(head) and line[2] == " cluster_id "}
    popularity, uniform = (gains[f"negatives={name},clusters=8"] for name in ("popularity", "uniform"))
    assert float(popularity[place].split()[0]) == -float(uniform[place].split()[0]) > 10
    assert uniform[against].strip() == "", "they have no impressions in common"


def test_modes_are_compared_with_each_other(tmp_path, stand_in):
    from sklearn.metrics import roc_auc_score

    grid = dataclasses.replace(GRID, blocks=[{"clusters": [4]}], fixed={"rank_modes": ["none", "cluster_id", "vector"]})
    work = tmp_path / "mine" / "valid"
    run_grid(grid, "raw", tmp_path, TINY)
    (line,) = (line for line in (work / "results.md").read_text().splitlines() if "| cluster_id | vector |" in line)
    part, differences = stand_in.slices["new_to_user"], []
    for seed in (0, 1):
        with np.load(work / "runs" / f"clusters=4,seed={seed}" / "predictions.npz") as predicted:
            aucs = [
                roc_auc_score(stand_in.clicked[part], predicted[mode][0, part]) for mode in ("cluster_id", "vector")
            ]
        differences.append(100 * (aucs[0] - aucs[1]))
    assert np.mean(differences) < -5
    assert float(line.split("|")[4].split()[0]) == pytest.approx(np.mean(differences), abs=0.006)


def test_gates_are_told_by_the_values_of_slice_columns(tmp_path, stand_in, monkeypatch):
    """Over the seeds the gate of c0 is 0.1 and that of c4 0.5; a category that has none does not count."""
    columns = {"category": [b"c0", b"c0", b"c4", b"new"], "department": [b"a", b"b", b"b", b"a"]}
    items = SimpleNamespace(columns={name: np.array(values, object) for name, values in columns.items()})
    monkeypatch.setattr(rankers, "items_of", lambda workdir: items)
    grid = dataclasses.replace(
        GRID, blocks=[{"clusters": [4]}], fixed=GRID.fixed | {"rank_slice_columns": ["category", "department"]}
    )
    run_grid(grid, "raw", tmp_path, TINY)
    lines = (tmp_path / "mine" / "valid" / "results.md").read_text().splitlines()
    assert "| clusters=4 | cluster_id | department | a 0.10, b 0.30 |" in lines


def test_readings_of_the_test_span_are_told(tmp_path, stand_in):
    """Twice by each run that has rankers, as the stand-in says; those of other seeds are not forgotten."""
    grid = dataclasses.replace(GRID, blocks=[{"clusters": [4], "temperature": [0.1, 0.2]}], tuned=["temperature"])
    work = tmp_path / "mine" / "test"
    for seeds, told in (([0, 1], "4 times, by 2 runs"), ([2], "6 times, by 3 runs")):
        grid = dataclasses.replace(grid, seeds=seeds)
        frame = run_grid(grid, "raw", tmp_path, TINY, final=True)
        assert set(frame["split"].dropna()) == {"test"}
        assert f"The test span was read {told}." in (work / "results.md").read_text()


def test_the_first_variant_of_the_grid_is_compared_with_whichever_was_run_first(tmp_path, stand_in):
    """The tuned ones are run before it."""
    blocks = [{"clusters": [4]}, {"clusters": [8], "temperature": [0.1, 0.2]}]
    grid = dataclasses.replace(GRID, blocks=blocks, tuned=["temperature"])
    run_grid(grid, "raw", tmp_path, TINY)
    lines = [line.split("|") for line in (tmp_path / "mine" / "valid" / "results.md").read_text().splitlines()]
    against = {line[1].strip(): line[8].strip() for line in lines if len(line) == 10 and line[2] == " cluster_id "}
    assert against["clusters=4"] == "" and against["clusters=8,temperature=0.2"][0] in "+-"
