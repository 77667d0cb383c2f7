"""Photos that a model has seen are not computed again, and the result is that of a full run, byte for byte."""

import dataclasses

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beam_jobs.embed import embed
from beam_jobs.features import features
from beam_jobs.stable import stable_hash
from courier_tf import schema
from courier_tf.features.signatures import PHOTOS
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EMBED, FEATURES
from tests.stage_facts import example

BATCH = EmbedSettings(embed_batch_size=16)


def png(seed):
    pixels = np.random.default_rng(seed).integers(0, 256, [16, 16, 3], dtype=np.uint8)
    return tf.io.encode_png(pixels).numpy()


def write_ingest(folder, photos, shards=3):
    """An ingest of items with these photos."""
    specs = records.item_features([schema.CATEGORY])
    with artefacts.write_aside(folder, MadeBy("ingest", {}, {"raw": str(folder)})) as draft:
        (draft.path / schema.ITEMS_FOLDER).mkdir()
        for shard in range(shards):
            file = draft.path / schema.ITEMS_FOLDER / f"items-0000{shard}-of-0000{shards}.tfrecord"
            with tf.io.TFRecordWriter(str(file)) as out:
                for item, photo in photos.items():
                    if stable_hash(item) % shards != shard:
                        continue
                    values = {"item_id": item, "image": photo, "photo_digest": b"", "title": "", "available_from": 0}
                    values |= {"train_impressions": 0, "train_events": 0, schema.column_feature(schema.CATEGORY): "c"}
                    out.write(records.serialise(values, specs))
        draft.facts = example(IngestFacts, shards=2)


class Model(tf.Module):
    """A dense layer, whose rounding depends on the size of the batch."""

    def __init__(self):
        super().__init__()
        weights = np.random.default_rng(0).normal(size=[768, 96])
        self.weights = tf.Variable(weights.astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")])
    def embed(self, photos):
        pixels = tf.map_fn(tf.io.decode_png, photos, fn_output_signature=tf.uint8)
        rows = tf.reshape(tf.cast(tf.reshape(pixels, [-1, 768]), tf.float32), [-1, 768])
        return {"embedding": tf.math.l2_normalize(rows @ self.weights, axis=-1)}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder, made = tmp_path_factory.mktemp("model"), Model()
    tf.saved_model.save(made, str(folder), signatures={PHOTOS: made.embed})
    return folder


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Two ingests: one photo is new, two have changed, one is gone, one item is gone, one has none still."""
    folder = tmp_path_factory.mktemp("days")
    photos = {f"i{number:02d}": png(number) for number in range(30)} | {"bare": b""}
    write_ingest(folder / "first", photos)
    later = {**photos, "new": png(90), "i03": png(91), "i04": photos["i05"], "i06": b""}
    del later["i07"]
    write_ingest(folder / "second", later)
    return folder


def made_by_of(stage, days, name, **inputs):
    return MadeBy(stage, {}, {"ingest": artefacts.fingerprint_of_start(days / name), **inputs})


def embedded(days, model, name, target, known=(), encoder="e"):
    made_by = made_by_of("embed", days, name, encoder=encoder)
    embed(days / name, model, encoder, target, BATCH, made_by, known=known)
    return artefacts.read(target, EMBED)


def numbers(artefact):
    return artefact.facts.photos_computed, artefact.facts.photos_taken_over


def test_embeddings_of_unchanged_photos_are_taken_over(days, model, tmp_path):
    first = embedded(days, model, "first", tmp_path / "first")
    full = embedded(days, model, "second", tmp_path / "full")
    second = embedded(days, model, "second", tmp_path / "second", [tmp_path / "none", tmp_path / "first"])
    assert (numbers(first), numbers(full), numbers(second)) == ((30, 0), (29, 0), (3, 26))
    assert second.fingerprint == full.fingerprint != first.fingerprint
    other = embedded(days, model, "second", tmp_path / "other", [tmp_path / "first"], encoder="another")
    assert numbers(other) == (29, 0)


def test_vectors_of_unchanged_photos_are_taken_over(days, tmp_path):
    def of(name, target, known=(), source="pixels", views=1):
        made_by = dataclasses.replace(made_by_of("features", days, name), settings={"source": source, "views": views})
        features(days / name, target, source, views, BATCH, made_by, known=known)
        return artefacts.read(target, FEATURES)

    of("first", tmp_path / "first")
    full, second = of("second", tmp_path / "full"), of("second", tmp_path / "second", [tmp_path / "first"])
    assert (numbers(full), numbers(second)) == ((29, 0), (3, 26)) and second.fingerprint == full.fingerprint
    assert numbers(of("second", tmp_path / "views", [tmp_path / "first"], views=0)) == (29, 0)


def test_a_row_does_not_depend_on_its_batch(days, model, tmp_path):
    """Against the model on full batches: bundles end anywhere, and only rows of equal batches are rounded alike."""
    embedded(days, model, "first", tmp_path / "first")
    tables = [pq.read_table(file) for file in sorted((tmp_path / "first" / "items").glob("*"))]
    rows = {row["item_id"]: row["embedding"] for table in tables for row in table.to_pylist()}
    assert rows.pop("bare") is None and len(rows) == 30
    served = tf.saved_model.load(str(model)).signatures[PHOTOS]
    for number in range(30):
        alone = served(photos=tf.constant([png(number)] * BATCH.embed_batch_size))["embedding"].numpy()[0]
        np.testing.assert_array_equal(np.float32(rows[f"i{number:02d}"]), alone)
