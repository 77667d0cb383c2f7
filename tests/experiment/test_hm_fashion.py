"""What belongs to the hm_fashion data set goes together with the grids that are shipped."""

import json
import re
from pathlib import Path

import pytest

from courier_tf.experiment.claims import MIN_SEEDS, read_claims
from courier_tf.experiment.grid import grid_of, shipped_grids
from courier_tf.settings import Settings
from courier_tf.settings.presets import PRESETS

FOLDER = Path(__file__).parents[1] / "benchmarks" / "hm_fashion"
GRIDS = [str(file) for file in FOLDER.glob("*.json") if file.name != "claims.json"]


def options(name):
    """The settings that a variable of `options.mk` gives."""
    text = (FOLDER / "options.mk").read_text()
    (words,) = re.findall(rf"^{name} := ((?:.*\\\n)*.*)", text, re.MULTILINE)
    return {word[2:].replace("-", "_") for word in words.split() if word.startswith("--")}


def test_the_grids_are_valid():
    assert GRIDS
    for name in GRIDS:
        grid = grid_of(name)
        for variant in grid.variants():
            assert grid.settings(PRESETS["demo"], variant, 0).rank.rank_modes[0] == "none"


@pytest.mark.parametrize("name", [*shipped_grids(), *GRIDS])
def test_no_grid_names_the_options_that_all_of_them_are_run_with(name):
    grid = grid_of(name)
    given = options("HM_TRAINING") if grid.origins else options("HM_SPLIT") | options("HM_TRAINING")
    given |= set() if grid.origins else options("HM_DAY_BEFORE")
    assert len(given) > 8 and given < set(Settings().by_name())
    assert not given & grid.named()


def test_the_claims_are_about_grids_that_are_run_with_enough_seeds():
    claims = json.loads((FOLDER / "claims.json").read_text())
    assert set(claims) == {"paper-modes", "paper-methods"}
    for name in claims:
        grid = grid_of(name)
        assert len(read_claims(FOLDER / "claims.json", grid)) == 7 and len(grid.seeds) >= MIN_SEEDS
        assert {claim["mode"] for claim in claims[name]} <= set(grid.fixed["rank_modes"])
