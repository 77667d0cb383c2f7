"""Claims about a grid hold or not by the means of their seeds."""

import json

import pandas as pd
import pytest

from courier_tf.experiment.claims import Claim, judge, read_claims, table_of
from courier_tf.experiment.grid import Grid
from courier_tf.settings import SettingsError

GRID = Grid(
    "", [{"clusters": [4, 8], "temperature": [0.1, 0.2]}, {"clusters": [16]}], tuned=["temperature"], name="mine"
)
GAINS = {"cluster_id": [0.02, 0.01, 0.0], "simscore": [0.02, 0.02], "cluster_id_permuted": [0.004, -0.001, 0.009]}


def rows_of(gains):
    """Rows of `results.csv`: of the tuned temperatures one is kept for each number of clusters."""
    return pd.DataFrame(
        [
            {"variant": variant, "mode": mode, "seed": seed, "auc": 0.6 + gain - less, "gain all": gain}
            | {"gain new_to_user": gain, "auc new_to_user": 0.6 + gain - less}
            for variant, less in (("clusters=4,temperature=0.2", 0.0), ("clusters=8,temperature=0.1", 0.001))
            for mode, of_mode in gains.items()
            for seed, gain in enumerate(of_mode)
        ]
    )


@pytest.mark.parametrize("part", ["new_to_user", "all"])
@pytest.mark.parametrize(
    ("mode", "low", "high", "less", "holds"),
    [
        ("cluster_id", 1.0, None, None, True),  # 1.0 on average.
        ("cluster_id", 1.1, None, None, False),
        ("cluster_id_permuted", None, 0.5, None, True),
        ("cluster_id_permuted", None, 0.3, None, False),
        ("vector", -100.0, None, None, False),  # Was not run.
        ("simscore", 1.0, None, None, False),  # Two seeds.
        ("cluster_id", 0.05, 0.15, "clusters=8", True),  # 0.1 above.
        ("cluster_id", 0.15, None, "clusters=8", False),
        ("cluster_id", -100.0, None, "clusters=16", False),  # Was not run.
    ],
)
def test_claims(part, mode, low, high, less, holds):
    (verdict,) = judge([Claim("clusters=4", mode, part, low, high, less)], GRID, rows_of(GAINS))
    assert verdict.holds == holds
    assert table_of([verdict]).splitlines()[-1].endswith("| yes |" if holds else "| no |")


def test_without_rankers_no_claim_holds():
    rows = pd.DataFrame([{"variant": "clusters=16", "mode": None, "seed": seed} for seed in (0, 1, 2)])
    for less in ("clusters=4", None):
        (verdict,) = judge([Claim("clusters=16", "cluster_id", "all", low=-100.0, less=less)], GRID, rows)
        assert not verdict.holds and "| not run |" in table_of([verdict])


def test_a_gain_that_is_not_defined_is_no_seed():
    rows = rows_of({"cluster_id": [0.02, float("nan"), 0.01]})
    (verdict,) = judge([Claim("clusters=4", "cluster_id", "new_to_user", low=0.0)], GRID, rows)
    assert len(verdict.gains) == 2 and not verdict.holds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "holds no claims about mine"),
        ("[]", "holds no claims about mine"),
        ('{"mine": [{"variant": "clusters=4"}]}', "holds no claims about mine: .*missing"),
        ('{"mine": [{"variant": "clusters=4", "mode": "m", "slice": "x", "low": 1.0}]}', "is one of all, .*not 'x'"),
        ('{"mine": [{"variant": "clusters=4", "mode": "m", "slice": "all"}]}', "neither `low` nor `high`"),
        ('{"mine": [{"variant": "clusters=4", "mode": "m", "slice": "all", "low": "1"}]}', "`low` of a claim"),
        ('{"mine": [{"variant": "clusters=4", "mode": "none", "slice": "all", "low": 0}]}', "no gain over itself"),
        ('{"mine": [{"variant": "clusters=5", "mode": "m", "slice": "all", "low": 1}]}', "names clusters=5, but the"),
        (
            '{"mine": [{"variant": "clusters=4", "less": "clusters=4,temperature=0.1", "mode": "m", "slice": "all", '
            '"low": 1}]}',
            "names clusters=4,temperature=0.1, but the variants of mine are clusters=16; clusters=4; clusters=8",
        ),
    ],
)
def test_claims_that_make_no_sense_are_refused_with_the_name_of_their_file(tmp_path, text, message):
    file = tmp_path / "claims.json"
    file.write_text(text)
    with pytest.raises(SettingsError, match=f"claims.json.*{message}"):
        read_claims(file, GRID)


def test_a_file_may_hold_claims_about_several_grids_or_none(tmp_path, caplog):
    caplog.set_level("INFO")
    file = tmp_path / "claims.json"
    file.write_text(json.dumps({"other": [{"never": "read"}]}))
    assert read_claims(file, GRID) == [] and "holds no claims about the grid mine" in caplog.text
