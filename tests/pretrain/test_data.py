"""The input of pre-training: photos inside the rows or from the store, order by seed, shards, resuming."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from beam_jobs.ingest import ingest
from courier_tf import schema
from courier_tf.pretrain import data
from courier_tf.pretrain.photo_store import PhotoStore
from courier_tf.settings.presets import PRESETS
from courier_tf.shop import ShopSettings, make_shop
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

ROWS, HISTORY = 16, 3


@pytest.fixture(scope="module")
def ingested(tmp_path_factory):
    """(Ingest directory with inline photos, its store, the rows of its train span as plain lists)."""
    folder = tmp_path_factory.mktemp("data")
    make_shop(folder / "shop", ShopSettings(items=80, users=40, days=10, page_views=400, photo_size=24))
    # One photo is missing: its item has events, and no picture.
    next(iter(sorted((folder / "shop" / "images").glob("*")))).unlink()
    settings = dataclasses.replace(PRESETS["tiny"].ingest, image_size=16, inline_photos=True)
    ingest(str(folder / "shop"), folder / "ingest", settings, MadeBy("ingest", {}, {}))
    facts = artefacts.read(folder / "ingest", INGEST).facts
    store = PhotoStore.of(records.read_items(folder / "ingest", facts.item_columns), 16)
    rows = []
    for file in records.files(folder / "ingest" / schema.PAGE_VIEWS_FOLDER, "train"):
        for serialised in tf.data.TFRecordDataset(file):
            rows.append(tf.train.Example.FromString(serialised.numpy()))
    return folder / "ingest", store, rows


def batches(ingested, number, **settings):
    folder, store, _ = ingested
    chosen = {"history_length": HISTORY, "page_view_size": 5, "batch_rows": ROWS, "seed": 3} | settings
    batches = data.page_view_batches(folder, store, **chosen).take(number)
    return [{name: value.numpy() for name, value in batch.items()} for batch in batches]


def assert_same(one, other):
    assert len(one) == len(other)
    for first, second in zip(one, other, strict=True):
        assert first.keys() == second.keys()
        for name in first:
            np.testing.assert_array_equal(first[name], second[name], err_msg=name)


def values_of(row, name):
    return list(row.features.feature[name].bytes_list.value)


def test_rows_hold_the_photos_of_their_items(ingested):
    _, store, rows = ingested
    photo = dict(zip(store.ids, store.encoded, strict=True))
    assert sorted(photo.values())[0] == b"" and sorted(photo.values())[1] != b""
    for row in rows:
        for photos, items in schema.INLINE_PHOTO_FEATURES.items():
            assert values_of(row, photos) == [photo[item] for item in values_of(row, items)]


def test_inline_photos_give_the_batches_of_the_store(ingested):
    weights = {"weight": np.arange(len(ingested[1].ids) + 1, dtype=np.float32)}
    inline = batches(ingested, 6, inline=True, attributes=weights)
    assert_same(inline, batches(ingested, 6, attributes=weights))
    for batch in inline:
        real = batch["photo_items"] > 0
        assert len(real) % data.BUCKET == 0 and batch["photos"][real].any(axis=(1, 2, 3)).all()
        assert not batch["photos"][~real].any()
        np.testing.assert_array_equal(batch["weight"], batch["photo_items"])


def test_every_row_once_an_epoch_and_the_seed_decides_the_order(ingested):
    _, _, rows = ingested
    number = len(rows) // ROWS
    first = batches(ingested, number)
    assert_same(first, batches(ingested, number))
    other = batches(ingested, number, seed=4)
    assert any((a["user"] != b["user"]).any() for a, b in zip(first, other, strict=True))

    def counted(batches):
        return Counter(
            (int(u), int(d), int(c.sum()))
            for b in batches
            for u, d, c in zip(b["user"], b["day"], b["clicked"], strict=True)
        )

    # All rows but those that fill no whole batch.
    assert sum((counted(first) - counted(other)).values()) <= len(rows) % ROWS


def test_a_resumed_stream_goes_on_where_it_stopped(ingested):
    assert_same(batches(ingested, 5)[3:], batches(ingested, 2, skip_batches=3))


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_take_the_batches_of_one_stream_in_turn(ingested, workers):
    """So a step has the same rows however many workers there are, also after a resume."""
    whole = batches(ingested, 4 * workers)
    for index in range(workers):
        shard = (index, workers)
        assert_same(whole[index::workers], batches(ingested, 4, shard=shard))
        assert_same(whole[index::workers][3:], batches(ingested, 1, shard=shard, skip_batches=3 * workers))


def test_only_rows_with_a_click_on_these_items_teach(ingested):
    folder, store, rows = ingested
    teaching = np.arange(len(store.ids) + 1) % 3 == 1
    number = {item: place + 1 for place, item in enumerate(store.ids) if store.encoded[place]}

    def clicked_on(row):
        flags = row.features.feature["page_view_clicked"].int64_list.value
        shown = zip(values_of(row, "page_view_item_ids"), flags, strict=True)
        return [number[item] for item, flag in shown if flag and item in number and teaching[number[item]]]

    expected = [clicked_on(row) for row in rows if clicked_on(row)]
    assert ROWS < len(expected) < len(rows) and data.teaching_rows(folder, store, teaching) == len(expected)
    # In one pass each of them comes once, but those that fill no whole batch; other clicks do not count.
    for inline in (False, True):
        taught = []
        for batch in batches(ingested, len(expected) // ROWS, teaching=teaching, inline=inline):
            items = batch["photo_items"][batch["page_view"]]
            taught += [items[row][batch["clicked"][row]].tolist() for row in range(ROWS)]
        rest = Counter(map(tuple, expected))
        rest.subtract(map(tuple, taught))
        assert min(rest.values()) >= 0 and rest.total() == len(expected) % ROWS


def test_log_shares_are_those_of_the_slots_shown(ingested):
    folder, store, rows = ingested
    shown = Counter(item for row in rows for item in values_of(row, "page_view_item_ids"))
    known = [item for item, photo in zip(store.ids, store.encoded, strict=True) if photo]
    counts = np.array([max(shown[item], 1) if item in known else 1 for item in store.ids])
    np.testing.assert_allclose(data.log_shares(folder, store)[1:], np.log(counts / counts.sum()), rtol=1e-5)


def test_a_row_without_a_known_photo_gives_padding():
    zeros = tf.zeros([2, 3], tf.int32)
    files = tf.fill([2, 3], "")
    batch = data.deduplicated_files(zeros, zeros, tf.zeros([2, 3], tf.bool), files, files, 16)
    assert batch["photos"].shape == (data.BUCKET, 16, 16, 3) and not tf.reduce_any(batch["photo_items"] > 0)
