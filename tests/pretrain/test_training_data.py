"""What pre-training learns from, and what it refuses to learn from."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from courier_tf.pretrain.head_encoder import HeadEncoder
from courier_tf.pretrain.photo_store import FeatureStore, PhotoStore
from courier_tf.pretrain.training_data import TrainingData
from courier_tf.training import TrainingError
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.records import Items
from tests.stage_facts import example


def data_of(*photos, train=None):
    """Items with these photos; those of `train` lie in the train span."""
    number = len(photos)
    ids, encoded = np.array([f"i{n}".encode() for n in range(number)], object), np.array(photos, object)
    zeros, texts = np.zeros(number, np.int64), np.array([b""] * number, object)
    items = Items(ids, {}, texts, zeros, zeros, zeros, encoded)
    span = np.ones(number, bool) if train is None else np.array(train)
    return TrainingData(Path(), example(IngestFacts), items, PhotoStore.of(items, 16), span)


def test_one_picture_for_all_items_is_refused():
    with pytest.raises(TrainingError, match="all 3 photos of the train span are the same picture"):
        data_of(b"a", b"a", b"", b"a").require_different_photos()
    with pytest.raises(TrainingError, match="all 2 photos"):
        data_of(b"a", b"a", b"b", train=[True, True, False]).require_different_photos()
    for photos in ((b"a", b"a", b"b"), (b"a", b""), (b"", b"")):
        data_of(*photos).require_different_photos()


def test_each_view_is_standardised_and_only_the_photos_stay(monkeypatch):
    monkeypatch.setattr("courier_tf.pretrain.training_data.STANDARDISED_AT_ONCE", 4)  # The last part is smaller.
    vectors = np.random.default_rng(0).normal(size=[4, 3, 6]).astype(np.float32)  # Three items, two further views.
    known = data_of(b"a", b"b", b"c")
    store = FeatureStore(known.store.ids, known.store.encoded, 16, vectors, np.zeros([4, 768], np.float32))
    known = dataclasses.replace(known, store=store)
    head = HeadEncoder(["one", "two"], [4, 2], embedding_dim=3)
    head.fit_to(vectors[1:, 0])
    standardised = known.standardised_by(head).store.vectors
    expected = [[head.standardised(view[None]).numpy()[0] for view in item] for item in vectors]
    np.testing.assert_allclose(standardised, expected, atol=1e-5)
    np.testing.assert_array_equal(known.without_views().store.vectors, vectors[:, 0])
    assert known.without_views().without_views().store.vectors.base is None, "what held the views can be freed"
