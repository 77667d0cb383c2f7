"""Paired differences of encoders by their held-out scores."""

import dataclasses

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from sklearn.metrics import roc_auc_score

from courier_tf.experiment.held_out import FIGURES, EncoderDifferences, differences_of, table_of
from courier_tf.experiment.processes import ExperimentError
from courier_tf.experiment.run import Key, Measured
from courier_tf.experiment.run_grid import run_grid
from courier_tf.pretrain.impression_scores import SCORES_FILE, ImpressionScores
from tests.experiment.conftest import GRID, TINY

USERS, ROWS = 30, 300


def scored(rng, quality, users=USERS, rows=ROWS):
    """Scores that tell more of the clicks the higher the quality is."""
    data = np.random.default_rng(0)
    user, clicked, fresh = data.integers(0, users, rows), data.integers(0, 2, rows), data.random(rows) < 0.8
    score = rng.normal(size=[2, rows]) + quality * clicked
    return ImpressionScores(user, clicked, fresh, {"mean": score[0], "rebuilt": score[1]}, objective_score="rebuilt")


def runs_of(folder, scores, ingest=lambda variant: "one"):
    """Workdirs of runs with the scores of each (variant, seed)."""
    directories = {}
    for (variant, seed), of_run in scores.items():
        place = folder / f"{variant},seed={seed}"
        (place / "pretrain").mkdir(parents=True)
        of_run.write(place / "pretrain" / SCORES_FILE)
        Measured({}, [], {}, ingest(variant), "v", "c").write(place)
        directories[Key(variant, seed)] = place
    return directories


def by_loops(ours, theirs, name, fresh):
    """(Gain, half of its interval): every user is left out, every AUC computed anew by scikit-learn."""
    rows = ours[0].new_to_user if fresh else ours[0].users >= 0
    users = np.unique(ours[0].users[rows])

    def gain(a, b, rows):
        return roc_auc_score(a.clicked[rows], a.scores[name][rows]) - roc_auc_score(
            b.clicked[rows], b.scores[name][rows]
        )

    def jackknife(figures):
        return (len(figures) - 1) / len(figures) * np.sum((figures - np.mean(figures)) ** 2)

    gains = [gain(a, b, rows) for a, b in zip(ours, theirs, strict=True)]
    without = np.array(
        [[gain(a, b, rows & (a.users != user)) for user in users] for a, b in zip(ours, theirs, strict=True)]
    )
    seeds = len(gains)
    interaction = sum(jackknife(row - without.mean(axis=0)) for row in without) / (seeds * (seeds - 1))
    of_users, of_seeds = max(jackknife(without.mean(axis=0)) - interaction, 0), stats.sem(gains) ** 2
    t_users, t_seeds = stats.t.ppf(0.975, [len(users) - 1, seeds - 1])
    return np.mean(gains), (of_users * t_users + of_seeds * t_seeds) / np.sqrt(of_users + of_seeds)


def test_differences_of_each_figure_equal_loops(tmp_path):
    rng = np.random.default_rng(1)
    scores = {(name, seed): scored(rng, 0.3 if name == "a" else 1.0) for name in "ab" for seed in range(3)}
    rows = pd.DataFrame([{"variant": name, "seed": seed, "mode": m} for name, seed in scores for m in ("x", "y")])
    found = differences_of(rows, runs_of(tmp_path, scores)).set_index("figure")
    assert set(found["variant"]) == {"b"} and set(found["less"]) == {"a"} and set(found["seeds"]) == {3}
    ours, theirs = ([scores[name, seed] for seed in range(3)] for name in "ba")
    for figure, (name, fresh) in {
        "mean_new_to_user": ("mean", True), "mean": ("mean", False), "own_new_to_user": ("rebuilt", True)
    }.items():  # fmt: skip
        gain, half = by_loops(ours, theirs, name, fresh)
        expected = {"gain": gain, "low": gain - half, "high": gain + half}
        assert found.loc[figure, list(expected)].to_dict() == pytest.approx(expected), figure
    (row,) = (line for line in table_of(found.reset_index()).splitlines() if line.startswith("| b | 3 |"))
    gain, low, high = (100 * found.loc["mean_new_to_user", name] for name in ("gain", "low", "high"))
    assert row.split("|")[3].strip() == f"{gain:+.2f} ({low:+.2f} to {high:+.2f})"


def test_one_seed_has_no_interval_and_no_visual_feature_has_an_auc_of_one_half(tmp_path):
    rng = np.random.default_rng(1)
    scores = {("a", 0): scored(rng, 0.3), ("b", 0): scored(rng, 1.0), ("b", 1): scored(rng, 1.0)}
    directories = runs_of(tmp_path, scores)
    rows = pd.DataFrame([{"variant": variant, "seed": seed} for variant, seed in scores])
    found = differences_of(rows, directories)
    assert set(found["seeds"]) == {1} and found["low"].isna().all() and "no interval" in table_of(found)
    alone = EncoderDifferences(directories).gain("b", None, [0, 1])
    aucs = [scores["b", seed].auc("mean", new_to_user=True) for seed in (0, 1)]
    assert alone["gain"] == pytest.approx(np.mean(aucs) - 0.5) and alone["low"] < alone["gain"] < alone["high"]


def test_scores_of_other_impressions_are_refused_and_those_of_other_data_left_out(tmp_path):
    rng = np.random.default_rng(1)
    scores = {("a", 0): scored(rng, 0.3), ("b", 0): scored(rng, 1.0)}
    for name in ("users", "clicked", "new_to_user"):
        changed = np.roll(getattr(scores["b", 0], name), 1)
        other = {**scores, ("b", 0): dataclasses.replace(scores["b", 0], **{name: changed})}
        directories = runs_of(tmp_path / name, other)
        with pytest.raises(ExperimentError, match="b and a were scored on different impressions"):
            EncoderDifferences(directories).gain("b", "a", [0])
    rows = pd.DataFrame([{"variant": variant, "seed": seed} for variant, seed in scores])
    found = differences_of(rows, runs_of(tmp_path / "data", scores, ingest=lambda variant: f"data of {variant}"))
    assert len(found) == len(FIGURES) and found["gain"].isna().all()
    assert "| b | 1 | other impressions |" in table_of(found)


def test_the_same_encoder_under_two_names_is_not_compared(tmp_path):
    rng = np.random.default_rng(1)
    scores = {("a", 0): scored(rng, 0.3)}
    scores["b", 0] = scores["a", 0]
    rows = pd.DataFrame([{"variant": variant, "seed": seed} for variant, seed in scores])
    found = differences_of(rows, runs_of(tmp_path, scores))
    assert found.empty and table_of(found) == ""


def test_intervals_cover(tmp_path):
    """Two encoders that are equally good on average over users and seeds: 95 % of the intervals hold 0.

    Users differ in which encoder suits them, seeds in how good they are, and encoders share most of their scores.
    """
    held, trials = 0, 150
    for trial in range(trials):
        rng = np.random.default_rng(trial)
        sizes = np.ceil(rng.lognormal(1.5, 0.7, 60)).astype(int)
        users = np.repeat(np.arange(60), sizes)
        clicked, taste = rng.integers(0, 2, len(users)), rng.normal(scale=0.7, size=60)[users]
        shared, scores = rng.normal(size=len(users)) + 0.5 * clicked, {}
        for seed in range(3):
            for name, sign in (("a", 1), ("b", -1)):
                luck = rng.normal(scale=0.15)
                score = shared + rng.normal(scale=0.5, size=len(users)) + (sign * taste + luck) * clicked
                scores[name, seed] = ImpressionScores(users, clicked, clicked >= 0, {"mean": score})
        gain = EncoderDifferences(runs_of(tmp_path / str(trial), scores)).gain("b", "a", range(3))
        held += gain["low"] <= 0 <= gain["high"]
    assert 0.92 <= held / trials <= 0.985


def test_a_grid_tells_the_differences_of_its_encoders(tmp_path, stand_in):
    work = tmp_path / "mine" / "valid"
    run_grid(GRID, "raw", tmp_path, TINY, until="pretrain")
    found = pd.read_csv(work / "encoders.csv")
    assert found["figure"].tolist() == list(FIGURES) and set(found["less"]) == {"clusters=4"}
    of_runs = {}
    for clusters in (4, 8):
        for seed in (0, 1):
            place = work / "runs" / f"clusters={clusters},seed={seed}" / "pretrain" / SCORES_FILE
            of_runs[clusters, seed] = ImpressionScores.read(place).auc("mean", new_to_user=True)
    expected = np.mean([of_runs[8, seed] - of_runs[4, seed] for seed in (0, 1)])
    assert found["gain"][0] == pytest.approx(expected) and expected > 0.05
    assert f"| clusters=8 | 2 | {100 * expected:+.2f} (" in (work / "results.md").read_text()
    run_grid(dataclasses.replace(GRID, blocks=[{"negatives": ["popularity", "uniform"]}]), "raw", tmp_path, TINY)
    assert "| negatives=uniform | 2 | other impressions |" in (work / "results.md").read_text()
