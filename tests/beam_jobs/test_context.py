"""Context columns: what stands in the records, for logs of every kind and format."""

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.checks import Event
from beam_jobs.page_views import PageView, merge
from beam_jobs.raw_errors import RawDataError
from courier_tf import schema
from courier_tf.settings import IngestSettings, SettingsError
from courier_tf.workdir import records

from .conftest import FIRST, Raw, impression_log, positives_log, view_of

COLUMNS = ("device", "position")
OTHERS = ("jsonl", "parquet")


def told(log: list[dict], seed: int = 0) -> list[dict]:
    """A log with a device, which some rows lack, and the place of each item on its page."""
    rng = np.random.default_rng(seed)
    places: dict[str, int] = {}
    rows = []
    for row in log:
        place = places[view_of(row)] = places.get(view_of(row), -1) + 1
        rows.append({**row, "device": rng.choice(["phone", "web, wide", "Ünï", "", "null"]), "position": place})
    return rows


def contexts(rows: list[dict]) -> dict[tuple[str, str], tuple[str, ...]]:
    """(page view, item) -> its context."""
    return {
        (row["page_view_id"], row["item_id"]): tuple(row[schema.context_feature(c)] for c in COLUMNS) for row in rows
    }


def bytes_of(target) -> dict[str, bytes]:
    folders = schema.ITEMS_FOLDER, schema.PAGE_VIEWS_FOLDER, schema.IMPRESSIONS_FOLDER
    return {str(file.relative_to(target)): file.read_bytes() for name in folders for file in (target / name).iterdir()}


@pytest.mark.parametrize("ending", ["csv", *(pytest.param(other, marks=pytest.mark.slow) for other in OTHERS)])
def test_each_impression_has_the_context_of_its_row(raw, tmp_path, ending):
    rows = told(impression_log())
    raw.write("items", raw.items())
    raw.write("events", rows, ending)
    made = raw.ingest(tmp_path / "out", context_columns=COLUMNS)
    expected = {
        (view_of(row), row["item_id"]): ("" if row["device"] == "null" else row["device"], str(row["position"]))
        for row in rows
    }
    assert made.facts.context_columns == COLUMNS
    written = [row for split in schema.SPLITS for row in made.rows("impressions", split)]
    assert len(written) == len(expected) and contexts(written) == expected


@pytest.mark.slow
def test_what_nobody_names_leaves_every_byte_as_it_was(raw, tmp_path):
    rows = impression_log()
    raw.write("items", raw.items())
    raw.write("events", rows)
    without = raw.ingest(tmp_path / "without")
    raw.write("events", told(rows))
    beside = raw.ingest(tmp_path / "beside")
    assert bytes_of(beside.target) == bytes_of(without.target) and beside.facts.context_columns == ()
    file = records.files(without.target / schema.IMPRESSIONS_FOLDER, "train")[0]
    example = tf.train.Example.FromString(next(iter(tf.data.TFRecordDataset(file))).numpy())
    assert set(example.features.feature) == set(schema.IMPRESSION_FEATURES)


@pytest.mark.parametrize("seed", range(20))
def test_an_item_has_the_context_of_its_first_row(seed):
    """A row of a click may tell where the user was then, or nothing: either would tell the label."""
    rng = np.random.default_rng(seed)
    rows = [
        Event("u", f"i{rng.integers(4)}", FIRST + int(rng.integers(5)), f"r{rng.integers(2)}", int(rng.integers(2)),
              ("f", number), tuple(rng.choice(["", "a", "b", "c"], 2).tolist()))
        for number in range(12)
    ]  # fmt: skip
    merged = merge([rows[place] for place in rng.permutation(12)], pause=60)
    for event in merged.events:
        same = sorted(
            (row for row in rows if (row.item_id, row.request_id) == (event.item_id, event.request_id)),
            key=lambda row: (row.timestamp, row.place),
        )
        expected = tuple(next((row.context[n] for row in same if row.context[n]), "") for n in range(2))
        assert event.context == expected and event.clicked == max(row.clicked for row in same)


def test_drawn_items_take_contexts_in_turns():
    view = PageView("u", "p", 7, ["a", "b"], [1, 1], [], {}, {}, [("x",), ("y",)])
    more = view.with_negatives(["c", "d", "e"])
    assert more.contexts == [("x",), ("y",), ("x",), ("y",), ("x",)] and more.items == ["a", "b", "c", "d", "e"]
    assert view._replace(contexts=[]).with_negatives(["c"]).contexts == []


@pytest.mark.slow
@pytest.mark.parametrize("negatives", ["popularity", "uniform"])
def test_drawn_negatives_take_the_contexts_of_the_positives(raw, tmp_path, negatives):
    rows = [{**row, "shop": f"shop {n % 3}"} for n, row in enumerate(positives_log())]
    raw.write("items", raw.items(available_from=[FIRST] * 8))
    raw.write("events", rows)
    made = raw.ingest(
        tmp_path / "out", context_columns=("shop",), negatives=negatives, negatives_per_positive=3
    )  # fmt: skip
    views: dict[str, tuple[list[str], list[str]]] = {}
    for row in (row for split in schema.SPLITS for row in made.rows("impressions", split)):
        views.setdefault(row["page_view_id"], ([], []))[row["clicked"]].append(row["context/shop"])
    for drawn, bought in views.values():
        assert sorted(drawn) == sorted(bought * 3)
    assert {shop for _, bought in views.values() for shop in bought} == {"shop 0", "shop 1", "shop 2"}


def test_positions_of_positives_alone_are_refused(raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", [{**row, "position": 1} for row in positives_log()])
    with pytest.raises(RawDataError, match=r"names 'position', but the log holds positives alone"):
        raw.ingest(tmp_path / "out", context_columns=("position",))


def test_a_column_that_no_event_has_is_refused(raw: Raw, tmp_path):
    raw.write("items", raw.items())
    raw.write("events", told(impression_log()))
    with pytest.raises(RawDataError, match=r"names 'devise', .* device, position \(did you mean 'device'\?\)"):
        raw.ingest(tmp_path / "out", context_columns=("devise",))


@pytest.mark.parametrize("name", ["user_id", "history_item_ids", "clicked", "inputs", "a b", "1st", "é", "a/b"])
def test_a_name_that_no_input_can_have_is_refused(name):
    with pytest.raises(SettingsError, match="cannot be an input of the served ranker"):
        IngestSettings(context_columns=(name,))


def test_names_may_be_joined_by_commas():
    assert IngestSettings(context_columns=("position,device", "hour")).context_columns == ("position", "device", "hour")
    with pytest.raises(SettingsError, match="names a column twice"):
        IngestSettings(context_columns=("hour,hour",))
