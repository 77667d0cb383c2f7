"""The slices of a split, row by row."""

import numpy as np
import tensorflow as tf

from courier_tf.ranking import evaluation
from courier_tf.ranking.evaluation import read_evaluation, slices_of
from tests.ranking.shop import items, write_impressions

LENGTH = np.array([0, 1, 2, 4, 5, 9, 10, 25])
REPEAT = np.array([0, 0, 1, 0, 0, 1, 0, 0], bool)
POPULARITY = np.array([0, 4, 5, 1, 0, 9, 100, 5])
CATEGORY = np.array([b"x", b"x", b"y", b"", b"y", b"x", b"z", b"x"], object)


def rows(slices):
    return {name: np.flatnonzero(chosen).tolist() for name, chosen in slices.items()}


def test_slices():
    assert rows(slices_of(LENGTH, REPEAT, POPULARITY, {"category": CATEGORY})) == {
        "new_to_user": [1, 3, 4, 6, 7],
        "with_history": [1, 2, 3, 4, 5, 6, 7],
        "without_history": [0],
        "train_events/0": [0, 4],
        "train_events/0-4": [0, 1, 3, 4],
        "new_to_user+train_events/0-4": [1, 3, 4],
        "train_events/5+": [2, 5, 6, 7],
        "history_length/1": [1],
        "history_length/2-4": [2, 3],
        "history_length/5-9": [4, 5],
        "history_length/10+": [6, 7],
        "category/(unknown)": [3],
        "category/x": [0, 1, 5, 7],
        "category/y": [2, 4],
        "category/z": [6],
        "new_to_user+category/(unknown)": [3],
        "new_to_user+category/x": [1, 7],
        "new_to_user+category/y": [4],
        "new_to_user+category/z": [6],
    }


def test_rare_categories_are_one_slice_together(monkeypatch):
    monkeypatch.setattr(evaluation, "MOST_VALUES", 2)
    rows_of = rows(slices_of(LENGTH, REPEAT, POPULARITY, {"category": CATEGORY}))
    assert {name: chosen for name, chosen in rows_of.items() if name.startswith("category")} == {
        "category/x": [0, 1, 5, 7],
        "category/y": [2, 4],
        "category/(others)": [3, 6],
    }


def test_several_columns_and_none():
    rows_of = rows(slices_of(LENGTH, REPEAT, POPULARITY, {"category": CATEGORY, "colour": CATEGORY[::-1]}))
    assert rows_of["category/y"] == [2, 4] and rows_of["colour/y"] == [3, 5]
    assert not [name for name in slices_of(LENGTH, REPEAT, POPULARITY, {}) if "category" in name]


def test_a_split_is_read_with_the_whole_histories(tmp_path):
    """Repeats that stand far back are repeats, too, however little of a history a ranker sees."""
    batch = {
        "user_id": [b"u1", b"u1", b"u2", b"u2"],
        "history_item_ids": [[b"c"] + [b"unknown"] * 30, [b"unknown"] * 31, [b""] * 31, [b"a"] + [b""] * 30],
        "item_id": [b"c", b"c", b"a", b"b"],  # a and b are the same product.
        "clicked": [1, 0, 0, 1],
    }
    write_impressions(tmp_path, "valid", {name: tf.constant(values) for name, values in batch.items()})
    evaluation = read_evaluation(tmp_path, "valid", items(), ["product"])
    chosen = rows(evaluation.slices)
    assert chosen["new_to_user"] == [1] and chosen["without_history"] == [2]
    assert chosen["history_length/10+"] == [0, 1] and chosen["history_length/1"] == [3]
    assert evaluation.clicked.tolist() == [1, 0, 0, 1] and evaluation.popularity.tolist() == [0, 0, 5, 1]
