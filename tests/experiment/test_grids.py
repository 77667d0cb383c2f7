"""Grids: their combinations, names and settings; those that are shipped."""

import dataclasses
import json
import re
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from courier_tf.experiment.grids import GRIDS, OBJECTIVES, Grid, grid_of, name_of
from courier_tf.ranking.image_features import IMAGE_FEATURES
from courier_tf.settings import (
    IngestSettings,
    PretrainSettings,
    RankSettings,
    Settings,
    SettingsError,
    with_values,
)
from courier_tf.settings.presets import PRESETS
from courier_tf.settings.rank_modes import image_features

ROOT = Path(__file__).parents[2]


def test_a_block_stands_for_all_combinations_and_none_is_run_twice():
    grid = Grid("", [{}, {"clusters": [8, 16], "temperature": [0.1, 0.2]}, {"temperature": [0.1], "clusters": [8]}])
    assert grid.variants() == [
        {},
        {"clusters": 8, "temperature": 0.1},
        {"clusters": 8, "temperature": 0.2},
        {"clusters": 16, "temperature": 0.1},
        {"clusters": 16, "temperature": 0.2},
    ]


def test_settings_of_a_run():
    grid = Grid("", [{}], {"rank_modes": ["none"], "clusters": 7})
    found = grid.settings(PRESETS["tiny"], {"clusters": 9}, seed=4)
    assert (found.seed, found.cluster.clusters, found.rank.rank_modes) == (4, 9, ("none",))
    assert found.pretrain == PRESETS["tiny"].pretrain
    with pytest.raises(SettingsError, match=r"no settings \['clutsers'\]"):
        grid.settings(PRESETS["tiny"], {"clutsers": 9}, seed=4)
    with pytest.raises(SettingsError, match="rank_learning_rates must lie between 1e-12 and inf, but is 0.0"):
        with_values(Settings(), {"rank_learning_rates": [1e-3, 0.0]})
    for rates in ([], [0.1, 0.1]):
        with pytest.raises(SettingsError, match="rank_learning_rates must name each rate once"):
            with_values(Settings(), {"rank_learning_rates": rates})
    with pytest.raises(SettingsError, match="clusters must lie between"):
        with_values(Settings(), {"clusters": 0})
    with pytest.raises(SettingsError, match="history_length=21, but histories are cut at ingest: history_kept=20"):
        with_values(Settings(), {"rank_history_length": 21})
    assert with_values(Settings(), {"rank_history_length": 21, "history_kept": 30}).rank.rank_history_length == 21
    with pytest.raises(SettingsError, match="embedding_dim=30 is no multiple of the 4 heads"):
        with_values(Settings(), {"embedding_dim": 30, "reconstruction": "multi_head"})
    # One makes sense with the other only, whichever stands first.
    for names in (["algorithm", "previous"], ["previous", "algorithm"]):
        values = {"algorithm": "incremental", "previous": "former/cluster"}
        assert with_values(Settings(), {name: values[name] for name in names}).cluster.previous == "former/cluster"


@pytest.mark.parametrize(
    "name, value",
    [
        ("negatives", "popular"),
        ("rank_category_gate", "false"),
        ("clusters", 2.5),
        ("temperature", "0.1"),
        ("rank_modes", "none"),
        ("rank_columns", ["category", 3]),
        ("init", 4),
    ],
)
def test_a_value_of_another_type_is_refused(name, value):
    with pytest.raises(SettingsError, match=f"{name}="):
        with_values(Settings(), {name: value})


def test_blocks_hold_lists(tmp_path):
    file = tmp_path / "grid.json"
    for block in ({"objective": "courier"}, ["objective"]):
        file.write_text(json.dumps({"about": "", "blocks": [block]}))
        with pytest.raises(SettingsError, match=r"grid.json is no grid: `blocks` of a grid: .*item 0 of"):
            grid_of(str(file))


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"blocks": []}, "a grid needs a run"),
        ({"seeds": []}, "a grid needs a run"),
        ({"blocks": [{}, {"clusters": []}]}, "no value to clusters"),
        ({"fixed": ["a"]}, "`fixed` of a grid: list is not"),
        ({"seeds": ["0"]}, "`seeds` of a grid: "),
        ({"seeds": "012"}, "`seeds` of a grid: item 0 of str"),
        ({"tuned": "temperature"}, "`tuned` of a grid: str"),
        ({"confirmed": "2"}, "`confirmed` of a grid: str"),
        ({"confirmed": -1}, "a number of runs, not -1"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused_with_the_name_of_its_file(tmp_path, wrong, told):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps({"about": "", "blocks": [{}]} | wrong))
    with pytest.raises(SettingsError, match=f"grid.json is no grid: .*{told}"):
        grid_of(str(file))


def test_a_file_that_is_no_text_is_no_grid(tmp_path):
    file = tmp_path / "grid.json"
    file.write_bytes(b"\xff\xfe{")
    with pytest.raises(SettingsError, match="grid.json is no grid"):
        grid_of(str(file))


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"blocks": [{"rank_columns": [["a+b"], ["a", "b"]]}]}, r"the same name: rank_columns=a\+b"),
        ({"blocks": [{"init": ["x/y", "x_y"]}]}, "the same name: init=x_y"),
        ({"tuned": ["temprature"]}, r"\['temprature'\] are none"),
        ({"tuned": ["clusters"]}, r"\['clusters'\] are none"),
    ],
)
def test_runs_that_cannot_be_told_apart_and_what_cannot_be_tuned_are_refused(tmp_path, wrong, told):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps({"about": "", "blocks": [{}]} | wrong))
    with pytest.raises(SettingsError, match=told):
        grid_of(str(file))


def test_the_grids_go_together_with_the_options_of_the_makefile():
    """`make evidence-hm` gives all of them."""
    text = (ROOT / "Makefile").read_text()
    (options,) = re.findall(r"^HM := ((?:.*\\\n)*.*)", text, re.MULTILINE)
    given = {word[2:].replace("-", "_") for word in options.split() if word.startswith("--")}
    assert len(given) > 8 and given < set(Settings().by_name())
    for name in (*GRIDS, *(ROOT / "tests" / "benchmarks" / "grids").glob("hm_*.json")):
        assert not given & grid_of(str(name)).named(), name


#: What may differ between runs of a grid whose encoders are compared: not how long they learn, nor from what.
BUDGET = {
    field.name
    for stage in (IngestSettings, PretrainSettings, RankSettings)
    for field in dataclasses.fields(stage)
    if field.name.endswith(
        ("_steps", "_epochs", "_learning_rate", "_learning_rates", "_starts", "valid_from", "test_from")
    )
}


def test_every_objective_has_the_same_updates_and_the_same_temperatures():
    grid = GRIDS["paper-methods"]
    assert {"supervised_steps", "pretrain_steps", "rank_epochs", "rank_starts"} < BUDGET and not BUDGET & grid.named()
    assert grid.named() <= {"seed", "objective", "temperature", "rank_modes", "rank_columns"}
    temperatures = {}
    for variant in grid.variants():
        temperatures.setdefault(variant["objective"], []).append(variant.get("temperature"))
    assert set(temperatures) == set(OBJECTIVES) == set(get_args(get_type_hints(PretrainSettings)["objective"]))
    without = {"base", "supervised", "simsiam"}  # Their losses have no temperature.
    assert {tuple(found) for name, found in temperatures.items() if name not in without} == {(0.05, 0.2)}
    assert all(temperatures[name] == [None] for name in without)


@pytest.mark.parametrize("name", GRIDS)
def test_every_run_of_a_shipped_grid_has_the_same_budget_and_the_same_modes(name):
    assert not (BUDGET | {"rank_modes"}) & set().union(*GRIDS[name].blocks)


def test_every_mode_of_the_paper_has_the_same_tuning():
    grid = GRIDS["paper-modes"]
    assert len(set(grid.fixed["rank_learning_rates"])) >= 2
    features = {name for mode in grid.fixed["rank_modes"] for name in image_features(mode)}
    assert features == set(IMAGE_FEATURES), "every image feature is in it"


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_grids_are_valid_and_start_from_what_the_others_are_compared_with(name):
    grid = grid_of(name)
    names = [name_of(variant) for variant in grid.variants()]
    assert len(set(names)) == len(names) and all("/" not in word for word in names)
    for preset in ("tiny", "demo"):
        for variant in grid.variants():
            assert grid.settings(PRESETS[preset], variant, 0).rank.rank_modes[0] == "none"
    assert len(grid.seeds) >= 3


def test_the_grids_of_the_benchmarks_are_valid():
    files = list((ROOT / "tests" / "benchmarks" / "grids").glob("*.json"))
    assert files
    for file in files:
        grid = grid_of(str(file))
        assert all(
            grid.settings(PRESETS["demo"], variant, 0).rank.rank_modes[0] == "none" for variant in grid.variants()
        )


def test_warm_started_rankers_find_those_of_the_day_before():
    """Where `courier experiment` puts them in the workdir of `make evidence-hm-daily`."""
    before, after = (
        grid_of(str(ROOT / "tests" / "benchmarks" / "grids" / f"hm_{name}.json"))
        for name in ("previous_day", "warm_started")
    )
    own = "work/evidence-hm/hm_previous_day/valid/runs"
    places = {
        str(variant["rank_columns"]): f"{own}/{name_of(variant)},seed={before.seeds[0]}/rank"
        for variant in before.variants()
    }
    assert {str(v["rank_columns"]): v["rank_init"] for v in after.variants()} == places


def test_a_grid_of_ones_own(tmp_path):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps({"about": "mine", "blocks": [{"rank_columns": [[], ["category"]]}], "seeds": [5]}))
    grid = grid_of(str(file))
    assert [name_of(variant) for variant in grid.variants()] == ["rank_columns=default", "rank_columns=category"]
    file.write_text(json.dumps({"about": "mine", "block": []}))
    with pytest.raises(SettingsError, match="is no grid"):
        grid_of(str(file))
    with pytest.raises(SettingsError, match="there is no grid 'paper-mode'"):
        grid_of("paper-mode")
