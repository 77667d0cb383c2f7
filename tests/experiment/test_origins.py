"""Grids with several origins: each variant is run on each span, and what is told is pooled over them."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from courier_tf.experiment import differences
from courier_tf.experiment.claims import Claim, judge
from courier_tf.experiment.run_grid import run_grid
from courier_tf.ranking.intervals import paired_gain
from courier_tf.settings import SettingsError
from tests.experiment.conftest import GRID, TINY

ORIGINS = [["2026-01-01", "2026-01-08"], ["2026-01-08", "2026-01-15"]]
ROLLING = dataclasses.replace(GRID, origins=ORIGINS)


@pytest.fixture
def two_spans(stand_in, monkeypatch):
    """The second span has other clicks, more of them."""
    second = dataclasses.replace(stand_in, clicked=(np.arange(200) % 3 > 0).astype(int))
    evaluations = {origin: evaluation for (origin, _), evaluation in zip(ORIGINS, (stand_in, second), strict=True)}
    monkeypatch.setattr(
        differences, "evaluation_of", lambda workdir, split: evaluations[workdir.name.partition("origin=")[2]]
    )
    return evaluations


def predictions(work, mode, seed, origin, clusters=8):
    with np.load(work / "runs" / f"clusters={clusters},seed={seed},origin={origin}" / "predictions.npz") as of_run:
        return of_run[mode]


def test_each_variant_is_run_on_each_span_with_each_seed(tmp_path, two_spans):
    work = tmp_path / "mine" / "valid"
    frame = run_grid(ROLLING, "raw", tmp_path, TINY)
    assert len(frame) == 2 * 2 * 2 * 2 and set(frame["origin"]) == {"2026-01-01", "2026-01-08"}
    assert frame["valid_from"].tolist() == frame["origin"].tolist()
    assert set(frame["test_from"]) == {"2026-01-08", "2026-01-15"}
    assert len((work / "calls.txt").read_text().split()) == 8
    run_grid(ROLLING, "raw", tmp_path, TINY)
    assert len((work / "calls.txt").read_text().split()) == 8, "what is finished is not run again"
    text = (work / "results.md").read_text()
    assert "| clusters=8 | cluster_id | 2 | 60.00 (0.00) |" in text, "two seeds, not four"
    assert "| clusters=8 | 2 | 4.500 (0.000) |" in text


def test_gains_are_means_over_the_spans_and_a_user_of_both_counts_once(tmp_path, two_spans):
    work = tmp_path / "mine" / "valid"
    run_grid(ROLLING, "raw", tmp_path, TINY)
    lines = [line.split("|") for line in (work / "results.md").read_text().splitlines()]
    head = next(line for line in lines if " gain over none, all (95 %) " in line)
    (row,) = (line for line in lines if len(line) == len(head) and line[1:3] == [" clusters=8 ", " cluster_id "])
    cell = row[head.index(" gain over none, all (95 %) ")].strip()
    gains = []
    for seed in (0, 1):
        of_spans = [
            roc_auc_score(evaluation.clicked, predictions(work, "cluster_id", seed, origin)[0])
            - roc_auc_score(evaluation.clicked, predictions(work, "none", seed, origin)[0])
            for origin, evaluation in two_spans.items()
        ]
        gains.append(np.average(of_spans, weights=[evaluation.clicked.sum() for evaluation in two_spans.values()]))
    assert float(cell.split()[0]) == pytest.approx(100 * np.mean(gains), abs=0.006)
    users = np.concatenate([evaluation.users for evaluation in two_spans.values()])
    sides = [
        np.stack([np.concatenate([predictions(work, m, s, origin) for origin in two_spans], axis=-1) for s in (0, 1)])
        for m in ("cluster_id", "none")
    ]
    clicked = np.concatenate([evaluation.clicked for evaluation in two_spans.values()])
    gain = paired_gain(users, clicked, *sides, spans=np.repeat([0, 1], 200))
    assert cell == f"{100 * gain['gain']:+.2f} ({100 * gain['low']:+.2f} to {100 * gain['high']:+.2f})"


@pytest.mark.slow
def test_encoders_are_compared_over_all_spans(tmp_path, two_spans):
    run_grid(ROLLING, "raw", tmp_path, TINY, until="pretrain")
    pooled = pd.read_csv(tmp_path / "mine" / "valid" / "encoders.csv").set_index("figure")
    run_grid(dataclasses.replace(ROLLING, origins=ORIGINS[:1]), "raw", tmp_path, TINY, until="pretrain")
    alone = pd.read_csv(tmp_path / "mine" / "valid" / "encoders.csv").set_index("figure")
    # The stand-in scores both spans alike.
    assert pooled["gain"].tolist() == pytest.approx(alone["gain"].tolist())
    assert pooled["error"].tolist() == pytest.approx(alone["error"].tolist()), "the users are the same: no more power"
    assert set(pooled["seeds"]) == {2}


def test_rankers_of_some_spans_alone_are_not_told(tmp_path, two_spans):
    """As an experiment leaves them that was broken off. Their encoders count."""
    work = tmp_path / "mine" / "valid"
    run_grid(dataclasses.replace(ROLLING, origins=ORIGINS[:1]), "raw", tmp_path, TINY)
    run_grid(ROLLING, "raw", tmp_path, TINY, until="pretrain")
    assert "gain over none" not in (work / "results.md").read_text()
    assert set(pd.read_csv(work / "encoders.csv")["seeds"]) == {2}
    run_grid(dataclasses.replace(ROLLING, seeds=[0]), "raw", tmp_path, TINY)
    run_grid(ROLLING, "raw", tmp_path, TINY, until="pretrain")
    assert "| clusters=8 | cluster_id | 1 | " in (work / "results.md").read_text(), "seed 0 has rankers on both spans"
    assert set(pd.read_csv(work / "encoders.csv")["seeds"]) == {2}


def test_encoders_are_tuned_over_all_spans(tmp_path, two_spans):
    grid = dataclasses.replace(ROLLING, blocks=[{"temperature": [0.9, 0.3]}], tuned=["temperature"])
    frame = run_grid(grid, "raw", tmp_path, TINY)
    assert set(frame.loc[frame["mode"].notna(), "temperature"]) == {0.3}
    assert len(frame[frame["mode"].isna()]) == 2 and len(frame[frame["mode"] == "none"]) == 4


def test_there_is_no_test_span(tmp_path, two_spans):
    with pytest.raises(SettingsError, match="the grid mine has several origins"):
        run_grid(ROLLING, "raw", tmp_path, TINY, final=True)


def test_claims_are_about_means_over_the_spans():
    rows = pd.DataFrame(
        [
            {"variant": "clusters=4", "mode": "cluster_id", "seed": seed, "origin": origin, "gain all": gain}
            for seed in (0, 1, 2)
            for origin, gain in (("2026-01-01", 0.01), ("2026-01-08", 0.03))
        ]
    )
    (verdict,) = judge([Claim("clusters=4", "cluster_id", "all", low=1.9, high=2.1)], ROLLING, rows)
    assert verdict.holds and verdict.gains.tolist() == pytest.approx([2.0] * 3)
