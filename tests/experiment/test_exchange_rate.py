"""The exchange rate between held-out score and ranker gain."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from courier_tf.experiment.exchange_rate import points_of, rate_of, table_of, write_exchange_rate
from courier_tf.experiment.grid import shown
from courier_tf.experiment.run_grid import run_grid
from courier_tf.settings.presets import PRESETS
from tests.experiment.conftest import GRID, TINY

DEFAULTS = {name: str(shown(value)) for name, value in PRESETS["tiny"].by_name().items() if name != "seed"}


def results(folder, grid, runs):
    """A `results.csv` of a grid: runs are dicts of settings with seed, mode, score and gain."""
    rows = [
        DEFAULTS | {"held_out_mean_new_to_user": run.pop("score"), "gain new_to_user": run.pop("gain")} | run
        for run in runs
    ]
    file = folder / grid / "valid" / "results.csv"
    file.parent.mkdir(parents=True)
    pd.DataFrame(rows).to_csv(file, index=False)
    return file


def points(score, gain, rankers="r"):
    return pd.DataFrame({"mode": "simscore", "rankers": rankers, "held_out": score, "gain": gain})


def run(temperature, score, gain, seed=0, mode="simscore", **settings):
    return {"temperature": temperature, "seed": seed, "mode": mode, "score": score, "gain": gain, **settings}


def test_an_encoder_is_one_point_of_each_setting_of_the_rankers(tmp_path):
    first = [run(t, 0.5 + t / 10 + 0.001 * s, t / 5, s) for t in (0.1, 0.2, 0.3) for s in (0, 1)]
    first += [run(0.1, 0.51, 0.0, mode="none"), run(0.1, 0.51, 0.1, mode="vector"), run(0.4, 0.52, np.nan)]
    first += [run(0.1, 0.51, 0.3, clusters=99), run(0.2, 0.52, 0.3, clusters=99)]  # Two encoders are no rate.
    again = [run(0.1, 0.51, 0.02), run(0.5, 0.55, 0.1)]  # The first is that of the first grid, with the same seed.
    screened = [{"temperature": 0.9, "seed": 0, "mode": None, "score": 0.5, "gain": None}]
    files = [results(tmp_path, "one", first), results(tmp_path, "two", again + screened)]
    found = points_of(files)
    assert list(found["encoder"]) == [f"temperature={t}" for t in (0.1, 0.2, 0.3, 0.5)]
    assert set(found["rankers"].str.count(",")) == {0} and set(found["mode"]) == {"simscore"}
    assert found["seeds"].tolist() == [2, 2, 2, 1] and found["grids"].tolist() == ["one+two", "one", "one", "two"]
    assert found["held_out"].tolist() == pytest.approx([51.05, 52.05, 53.05, 55.0])
    assert found["gain"].tolist() == pytest.approx([2, 4, 6, 10])


def test_grids_of_several_versions_share_a_setting_of_the_rankers(tmp_path):
    """A setting that a version did not have is its default there, and how data are processed does not count."""
    encoders = [(0.1, 0.51), (0.2, 0.52), (0.3, 0.53)]
    elsewhere = {"late_days": "refuse", "previous_encoder": "W/of-seed-0"}
    new = results(tmp_path, "new", [run(*of, 0.1, **elsewhere) for of in encoders])
    old = results(tmp_path, "old", [run(t, score + 0.1, 0.2) for t, score in encoders])
    frame = pd.read_csv(old).drop(columns=["rank_hash_above", "rank_list_columns", "late_days", "shard_megabytes"])
    frame.assign(temperature=frame["temperature"] + 1).to_csv(old, index=False)
    small = results(tmp_path, "small", [run(*of, 0.3, clusters=7, rank_hash_above=5) for of in encoders[:2]])
    found = points_of([new, old, small])
    assert len(found) == 6 and set(found["rankers"]) == {"default"}, "what is left out differs in clusters, too"
    assert set(found["encoder"]) == {f"temperature={t}" for t in (0.1, 0.2, 0.3, 1.1, 1.2, 1.3)}


def test_the_slope_equals_a_regression_with_an_intercept_per_setting_of_the_rankers():
    rng = np.random.default_rng(0)
    score, offset = rng.normal(size=12), np.repeat([0.0, 5.0, -3.0], 4)
    gain = 0.7 * score + offset + 0.1 * rng.normal(size=12)
    rate = rate_of(points(score, gain, np.repeat(list("abc"), 4)))
    design = np.column_stack([score, *(np.repeat(np.eye(3), 4, axis=0).T)])
    assert rate.slope == pytest.approx(np.linalg.lstsq(design, gain, rcond=None)[0][0])
    assert rate.encoders == 12 and rate.low < rate.slope < rate.high and rate.high - rate.low < 0.5
    alone = rate_of(points(score[:4], gain[:4]))
    assert alone.slope == pytest.approx(stats.linregress(score[:4], gain[:4]).slope)
    assert alone.rank_correlation == pytest.approx(stats.spearmanr(score[:4], gain[:4]).statistic)
    mixed = rate_of(points(score, -gain, np.repeat(list("abc"), 4)))
    assert mixed.rank_correlation == pytest.approx(-rate.rank_correlation) and rate.rank_correlation >= 0.8


def test_encoders_that_all_score_alike_have_no_interval():
    rate = rate_of(points([50.0] * 4, [1.0, 2.0, 3.0, 4.0]))
    assert np.isnan(rate.slope) and rate.low is None and np.isnan(rate.rank_correlation)
    assert "no interval" in table_of(points([50.0] * 4, [1.0, 2.0, 3.0, 4.0]))


@pytest.mark.parametrize("encoders", [6, 12])
def test_the_interval_covers_for_independent_encoders(encoders):
    rng, held, trials = np.random.default_rng(0), 0, 200
    for _ in range(trials):
        score = rng.normal(size=encoders)
        rate = rate_of(points(score, 0.5 * score + rng.normal(size=encoders)))
        held += rate.low <= 0.5 <= rate.high
    assert 0.9 <= held / trials <= 0.99


def test_a_grid_leaves_the_rate_of_all_grids_beside_them(tmp_path, stand_in):
    """The stand-in gains one point per cluster, whatever the encoder is."""
    (tmp_path / "exchange_rate.md").write_text("of before")
    run_grid(GRID, "raw", tmp_path, TINY)
    assert not (tmp_path / "exchange_rate.md").exists(), "a single encoder is no rate"
    grid = {"about": "", "blocks": [{"temperature": [0.2, 0.4, 0.6]}], "fixed": GRID.fixed, "seeds": [0]}
    run_grid(type(GRID)(**grid, name="other"), "raw", tmp_path, TINY)
    frame = pd.read_csv(tmp_path / "exchange_rate.csv")
    assert frame["held_out"].tolist() == pytest.approx([60, 56, 44]) and set(frame["mode"]) == {"cluster_id"}
    text = (tmp_path / "exchange_rate.md").read_text()
    assert "not independent" in text and text.splitlines()[-1].startswith("| cluster_id |")
    assert "| 3 | +0.00 (" in text
    assert (tmp_path / "exchange_rate.png").stat().st_size > 1000
    write_exchange_rate(tmp_path, "test")
    assert not (tmp_path / "exchange_rate_test.md").exists()
