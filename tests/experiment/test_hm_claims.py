"""The claims on hm_fashion hold or not by the means of their seeds."""

import numpy as np
import pandas as pd
import pytest

from tests.benchmarks import hm_claims
from tests.benchmarks.hm_claims import Claim, main, verdicts

GAINS = {"cluster_id": [0.02, 0.01, 0.0], "simscore": [0.02, 0.02], "cluster_id_permuted": [0.004, -0.001, 0.009]}


@pytest.fixture
def workdir(tmp_path):
    rows = [
        {"run": f"{run},tuned=1", "mode": mode, "seed": seed, "gain x": gain, "auc x": 0.6 + gain - less}
        for run, less in (("a", 0.0), ("b", 0.001))
        for mode, gains in GAINS.items()
        for seed, gain in enumerate(gains)
    ]
    (tmp_path / "grid" / "test").mkdir(parents=True)
    pd.DataFrame(rows).to_csv(tmp_path / "grid" / "test" / "results.csv")
    return tmp_path


@pytest.mark.parametrize(
    ("mode", "low", "high", "less", "holds"),
    [
        ("cluster_id", 1.0, np.inf, "", True),  # 1.0 on average.
        ("cluster_id", 1.1, np.inf, "", False),
        ("cluster_id_permuted", -np.inf, 0.5, "", True),
        ("cluster_id_permuted", -np.inf, 0.3, "", False),
        ("vector", -np.inf, np.inf, "", False),  # Was not run.
        ("simscore", 1.0, np.inf, "", False),  # Two seeds.
        ("cluster_id", 0.05, 0.15, "b", True),  # 0.1 above b.
        ("cluster_id", 0.15, np.inf, "b", False),
        ("cluster_id", -np.inf, np.inf, "c", False),
    ],
)
def test_claims(workdir, monkeypatch, mode, low, high, less, holds):
    one = Claim("grid", "a", mode, "x", low, high, less)
    monkeypatch.setattr(hm_claims, "CLAIMS", (one, one._replace(grid="not run")))
    table, found = verdicts(workdir, "grid")
    assert found == holds and len(table.splitlines()) == 3 and "| grid | test |" in table
    if holds:
        main(workdir, "somewhere/grid.json")
    else:
        with pytest.raises(SystemExit, match="does not hold"):
            main(workdir, "somewhere/grid.json")


def test_a_grid_that_is_not_finished_shows_nothing(workdir, monkeypatch):
    """No ranker has been run yet; or two runs are meant, and not one."""
    pd.DataFrame([{"run": "a", "mode": None, "seed": 0}]).to_csv(workdir / "grid" / "test" / "results.csv")
    for less in ("b", ""):
        monkeypatch.setattr(hm_claims, "CLAIMS", (Claim("grid", "a", "cluster_id", "x", -np.inf, np.inf, less),))
        assert not verdicts(workdir, "grid")[1]
    twice = [{"run": run, "mode": "cluster_id", "seed": seed, "gain x": 1.0} for run in ("a1", "a2") for seed in (0, 1)]
    pd.DataFrame(twice).to_csv(workdir / "grid" / "test" / "results.csv")
    with pytest.raises(ValueError, match="duplicate"):
        verdicts(workdir, "grid")


def test_the_interval_of_the_seeds():
    """Of 1, 2, 3: the deviation is 1, t of two degrees of freedom 4.303, so 4.303 / sqrt(3) either way."""
    assert hm_claims._interval(pd.Series([1.0, 2.0, 3.0])) == "-0.48 to +4.48"


def test_each_span_is_judged(workdir, monkeypatch):
    """The same claim holds on test and not on valid."""
    monkeypatch.setattr(hm_claims, "CLAIMS", (Claim("grid", "a", "cluster_id", "x", 1.0, np.inf),))
    rows = pd.read_csv(workdir / "grid" / "test" / "results.csv")
    (workdir / "grid" / "valid").mkdir()
    rows.assign(**{"gain x": 0.0}).to_csv(workdir / "grid" / "valid" / "results.csv")
    table, found = verdicts(workdir, "grid")
    assert not found and [line.split("|")[2].strip() for line in table.splitlines()[2:]] == ["valid", "test"]
    assert [line.split("|")[-2].strip() for line in table.splitlines()[2:]] == ["no", "yes"]
