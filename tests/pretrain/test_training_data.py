"""What pre-training refuses to learn from."""

from pathlib import Path

import numpy as np
import pytest

from courier_tf.pretrain.photo_store import PhotoStore
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
