"""Grids: their combinations, names and settings; those that are shipped."""

import ast
import dataclasses
import fnmatch
import inspect
import json
import re
from pathlib import Path

import pytest

from courier_tf.commands.data_commands import Experiment
from courier_tf.experiment.grid import SHIPPED_FOLDER, Grid, Variant, grid_of, shipped_grids
from courier_tf.experiment.run import RUNS_FOLDER
from courier_tf.experiment.run_grid import results_folder
from courier_tf.ranking.visual_features.registry import VISUAL_FEATURES
from courier_tf.settings import (
    IngestSettings,
    PretrainSettings,
    RankSettings,
    Settings,
    SettingsError,
    with_values,
)
from courier_tf.settings.presets import PRESETS
from courier_tf.settings.rank_modes import visual_feature_names

GRIDS = {name: grid_of(name) for name in shipped_grids()}
#: The paper's method, and those that it compares with.
OBJECTIVES = {"courier", "base", "supervised", "simclr", "simsiam", "simcse", "mil_nce", "clip"}


def test_a_block_stands_for_all_combinations_and_none_is_run_twice():
    grid = Grid("", [{}, {"clusters": [8, 16], "temperature": [0.1, 0.2]}, {"temperature": [0.1], "clusters": [8]}])
    assert [variant.values for variant in grid.variants()] == [
        {},
        {"clusters": 8, "temperature": 0.1},
        {"clusters": 8, "temperature": 0.2},
        {"clusters": 16, "temperature": 0.1},
        {"clusters": 16, "temperature": 0.2},
    ]


def test_settings_of_a_run():
    grid = Grid("", [{}], {"rank_modes": ["none"], "clusters": 7})
    settings = grid.settings(PRESETS["tiny"], Variant({"clusters": 9}), seed=4)
    assert (settings.seed, settings.cluster.clusters, settings.rank.rank_modes) == (4, 9, ("none",))
    assert settings.pretrain == PRESETS["tiny"].pretrain
    with pytest.raises(SettingsError, match=r"no settings \['clutsers'\]"):
        grid.settings(PRESETS["tiny"], Variant({"clutsers": 9}), seed=4)
    with pytest.raises(SettingsError, match="rank_learning_rates must lie between 1e-12 and 1000000000.0, but is 0.0"):
        with_values(Settings(), {"rank_learning_rates": [1e-3, 0.0]})
    for rates in ([], [0.1, 0.1]):
        with pytest.raises(SettingsError, match="rank_learning_rates must name each rate once"):
            with_values(Settings(), {"rank_learning_rates": rates})
    with pytest.raises(SettingsError, match="rank_nearest_items=20 chooses nothing: .* rank_history_length=20"):
        with_values(Settings(), {"rank_nearest_items": 20})
    with pytest.raises(SettingsError, match="rank_listwise_weight must lie between 0.0 and 0.99, but is 1.0"):
        with_values(Settings(), {"rank_listwise_weight": 1.0})
    with pytest.raises(SettingsError, match="clusters must lie between"):
        with_values(Settings(), {"clusters": 0})
    with pytest.raises(SettingsError, match="history_length=21, but histories are cut at ingest: history_kept=20"):
        with_values(Settings(), {"rank_history_length": 21})
    assert with_values(Settings(), {"rank_history_length": 21, "history_kept": 30}).rank.rank_history_length == 21
    with pytest.raises(SettingsError, match="embedding_dim=30 is no multiple of the 4 heads"):
        with_values(Settings(), {"embedding_dim": 30, "reconstruction": "multi_head"})
    # One makes sense with the other only, whichever stands first.
    for names in (["algorithm", "previous"], ["previous", "algorithm"]):
        values = {"algorithm": "incremental", "previous": "earlier"}
        settings = with_values(Settings(), {name: values[name] for name in names})
        assert settings.previous.clusters() == Path("earlier/cluster")


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


def test_settings_of_a_run_at_an_origin():
    grid = Grid("", [{}], origins=[["2026-01-01", "2026-01-08"], ["2026-01-08", "2026-01-15"]])
    settings = [grid.settings(PRESETS["tiny"], Variant({}), 0, origin=origin).ingest for origin in grid.origins]
    assert [[of_run.valid_from, of_run.test_from] for of_run in settings] == grid.origins
    assert grid.named() == {"seed", "valid_from", "test_from"}


def test_blocks_hold_lists(tmp_path):
    file = tmp_path / "grid.json"
    for block in ({"objective": "courier"}, ["objective"]):
        file.write_text(json.dumps({"about": "", "blocks": [block]}))
        with pytest.raises(SettingsError, match=r"grid.json is no grid: `blocks` of a grid: .*item 0 of"):
            grid_of(str(file))


@pytest.mark.parametrize(
    "wrong, told",
    [
        ({"blocks": []}, "a grid needs at least one block"),
        (
            {"blocks": [{name: list(range(1, 100)) for name in ("clusters", "rank_dim", "rank_epochs", "levels")}]},
            "at most 10000 variants, but this one has 96059601",
        ),
        ({"seeds": []}, "a grid needs at least one block and one seed"),
        ({"blocks": [{}, {"clusters": []}]}, "no value to clusters"),
        ({"fixed": ["a"]}, "`fixed` of a grid: list is not"),
        ({"seeds": ["0"]}, "`seeds` of a grid: "),
        ({"seeds": "012"}, "`seeds` of a grid: item 0 of str"),
        ({"tuned": "temperature"}, "`tuned` of a grid: str"),
        ({"confirmed": "2"}, "`confirmed` of a grid: str"),
        ({"confirmed": -1}, "a number of variants, not -1"),
        ({"ladder": {"first": "clusters=4"}}, "the variant of first is clusters=4, but there are default"),
        (
            {"starts": {"clusters=4": "default"}},
            "`starts` of a grid names the variant clusters=4, but there are default",
        ),
        ({"origins": [["2026-01-01"]]}, r"pairs \[valid_from, test_from\].*not \['2026-01-01'\]"),
        ({"origins": [["2026-01-02", "2026-01-02"]]}, "the first before the second"),
        (
            {"origins": [["2026-01-01", "2026-01-08"], ["2026-01-07", "2026-01-14"]]},
            "the span from 2026-01-07 begins before that until 2026-01-08 has ended",
        ),
        ({"origins": [["2026-01-01", "2026-01-08"]], "fixed": {"test_from": "x"}}, "does not name test_from"),
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
def test_variants_that_cannot_be_told_apart_and_what_cannot_be_tuned_are_refused(tmp_path, wrong, told):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps({"about": "", "blocks": [{}]} | wrong))
    with pytest.raises(SettingsError, match=told):
        grid_of(str(file))


#: What may differ between variants of a grid whose encoders are compared: not how long they learn, nor from what.
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
    # simcse tells its views apart by hidden features.
    assert grid.named() <= {"seed", "objective", "temperature", "drop_path", "rank_modes", "rank_columns"}
    temperatures = {}
    for variant in grid.variants():
        values = variant.values
        temperatures.setdefault(values["objective"], []).append(values.get("temperature"))
    assert set(temperatures) == OBJECTIVES
    without = {"base", "supervised", "simsiam"}  # Their losses have no temperature.
    assert {tuple(values) for name, values in temperatures.items() if name not in without} == {(0.05, 0.1, 0.2, 0.5)}
    assert all(temperatures[name] == [None] for name in without)


@pytest.mark.parametrize("name", GRIDS)
def test_every_variant_of_a_shipped_grid_has_the_same_budget_and_the_same_modes(name):
    """A head on features learns in another way than all layers do: the ladder tells what each is worth at its own.

    Batches of other sizes take as many rows in all.
    """
    of_pretraining = {"pretrain_steps", "pretrain_learning_rate", "head_first_steps"}
    budget = BUDGET - (of_pretraining if name == "ladder" else set())
    for block in GRIDS[name].blocks:
        if "pretrain_batch_rows" in block and name != "ladder":
            demo = PRESETS["demo"].pretrain
            (rows,), (steps,) = block["pretrain_batch_rows"], block["pretrain_steps"]
            assert rows * steps == pytest.approx(demo.pretrain_batch_rows * demo.pretrain_steps, rel=0.01)
            block = {name: values for name, values in block.items() if name != "pretrain_steps"}
        assert not (budget | {"rank_modes"}) & block.keys()


def test_the_ladder_is_that_of_the_method():
    grid = GRIDS["ladder"]
    names = {variant.without(grid.tuned).name for variant in grid.variants()}
    assert set(grid.ladder.values()) == names and len(names) == len(grid.ladder) == 8
    kinds = {rung: grid_settings(grid, name).pretrain for rung, name in grid.ladder.items()}
    how = [
        (kind.objective, *(kind.features if kind.trainable == "head" else (kind.trainable, kind.backbone)))
        for kind in kinds.values()
    ]
    lite = "efficientnetlite_b0_imagenet"
    assert how == [
        ("base", "pixels"),
        ("base", "all", "nano@64"),
        ("courier", "all", "nano@64"),
        ("base", lite),
        ("base", f"{lite}:stages"),
        ("courier", lite),
        ("courier", f"{lite}:stages"),
        ("courier", "all", lite),
    ]


def grid_settings(grid, untuned):
    """The settings of the first variant with a name, without the settings that are tuned."""
    variant = next(variant for variant in grid.variants() if variant.without(grid.tuned).name == untuned)
    return grid.settings(PRESETS["demo"], variant, 0)


def test_every_mode_of_the_paper_has_the_same_tuning():
    grid = GRIDS["paper-modes"]
    assert len(set(grid.fixed["rank_learning_rates"])) >= 2
    features = {name for mode in grid.fixed["rank_modes"] for name in visual_feature_names(mode)}
    assert features <= set(VISUAL_FEATURES) and {"cluster_id", "plain_cluster_id", "vector", "simscore"} <= features


@pytest.mark.parametrize("name", GRIDS)
def test_shipped_grids_are_valid_and_start_from_what_the_others_are_compared_with(name):
    grid = grid_of(name)
    names = [variant.name for variant in grid.variants()]
    assert len(set(names)) == len(names) and all("/" not in word for word in names)
    for preset in ("tiny", "demo"):
        for variant in grid.variants():
            assert grid.settings(PRESETS[preset], variant, 0).rank.rank_modes[0] == "none"
    assert len(grid.seeds) >= 3 or name == "previous-day", "which is compared with nothing"


def test_a_daily_retrain_starts_from_the_rankers_of_the_previous_day():
    """`courier experiment previous-day` leaves them where `daily-retrain` finds them, whatever the workdir is."""
    before, after = GRIDS["previous-day"], GRIDS["daily-retrain"]
    assert [variant.name for variant in before.variants()] == [variant.name for variant in after.variants()]
    for workdir in (Path("/here"), Path("/somewhere/else")):
        runs = results_folder(workdir, before, final=False) / RUNS_FOLDER
        for variant in after.variants():
            place = runs / f"{variant.name},seed={before.seeds[0]}" / "rank"
            assert after.settings(PRESETS["demo"], variant, 7, workdir).previous.rankers() == place


def test_braces_of_other_texts_stay():
    grid = Grid("", [{"pretrain_where": ["title={sale} {variant}"]}])
    (variant,) = grid.variants()
    where = grid.settings(PRESETS["tiny"], variant, 0).pretrain.pretrain_where
    assert where == f"title={{sale}} {variant.name}"


def test_shipped_grids_name_no_column_of_a_shop():
    """Every data set has the category. A grid about other columns belongs to its data set."""
    for name, grid in GRIDS.items():
        values = {**grid.fixed, **{s: v for block in grid.blocks for s, v in block.items()}}
        columns = [values.get(setting, []) for setting in ("rank_columns", "rank_slice_columns", "item_columns")]
        flat = {c for value in columns for v in value for c in (v if isinstance(v, list) else [v])}
        assert flat <= {"category"} and "pretrain_where" not in values, name


def test_shipped_grids_are_installed():
    """As package data: a pattern of `setup.py` covers the folder."""
    text = (SHIPPED_FOLDER.parents[2] / "setup.py").read_text()
    (patterns,) = re.findall(r"^PACKAGE_DATA = (\[.*\])$", text, re.MULTILINE)
    place = f"{SHIPPED_FOLDER.name}/paper-modes.json"
    assert len(GRIDS) > 5 and any(fnmatch.fnmatch(place, pattern) for pattern in ast.literal_eval(patterns))


def test_help_and_document_name_every_shipped_grid():
    document = (SHIPPED_FOLDER.parents[2] / "docs" / "evaluation.md").read_text()
    (shipped,) = re.findall(r"The shipped grids are ([^.]*)\.", document)
    (helped,) = re.findall(r"Names:\s([^.]*)\.", inspect.getsource(Experiment))
    assert set(re.findall(r"`([\w-]+)`", shipped)) == set(re.split(r",\s+", helped)) == set(GRIDS)


def test_a_grid_of_ones_own(tmp_path):
    file = tmp_path / "grid.json"
    file.write_text(json.dumps({"about": "mine", "blocks": [{"rank_columns": [[], ["category"]]}], "seeds": [5]}))
    grid = grid_of(str(file))
    assert [variant.name for variant in grid.variants()] == ["rank_columns=default", "rank_columns=category"]
    file.write_text(json.dumps({"about": "mine", "block": []}))
    with pytest.raises(SettingsError, match="is no grid"):
        grid_of(str(file))
    with pytest.raises(SettingsError, match="there is no grid 'paper-mode'"):
        grid_of("paper-mode")
    file.write_text(json.dumps({"about": "mine", "blocks": [{}], "name": "other"}))
    with pytest.raises(SettingsError, match="is no grid"):
        grid_of(str(file))
