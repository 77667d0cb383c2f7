"""Small batches for the tests of objectives: made of item numbers, with every kind of gap."""

import numpy as np
import tensorflow as tf

from courier_tf.pretrain.data import deduplicated
from courier_tf.pretrain.objectives.clip import WORDS

ITEMS, WIDTH, SIZE = 20, 6, 16


def raw_batch(rng, rows=10, size=3, history=3):
    """Item numbers with repeats, padding, an empty history, a row without a click and a click that stands in it."""
    page_view = rng.integers(1, ITEMS + 1, [rows, size]).astype(np.int32)
    past = rng.integers(1, ITEMS + 1, [rows, history]).astype(np.int32)
    clicked = rng.random([rows, size]) < 0.6
    page_view[0, 2], past[1], clicked[2], past[3, 1:], past[4, 0], clicked[4, 0] = 0, 0, False, 0, page_view[4, 0], True
    return page_view, past, clicked & (page_view > 0)


def store(rng):
    """Pixels and attributes by item number."""
    attributes = {
        "codes": rng.integers(-1, 3, [ITEMS + 1, 2]).astype(np.int32),
        "words": rng.integers(0, 9, [ITEMS + 1, WORDS]).astype(np.int32),
        "log_share": np.log(rng.dirichlet(np.ones(ITEMS + 1))).astype(np.float32),
    }
    attributes["words"][3], attributes["words"][5] = 0, attributes["words"][4]  # No title; a title twice.
    return rng.integers(0, 255, [ITEMS + 1, SIZE, SIZE, 3], dtype=np.uint8), attributes


def batch_of(raw, pixels, attributes, user=None, day=None):
    page_view, past, clicked = raw
    made = deduplicated(*map(tf.constant, raw), tf.constant(pixels), {k: tf.constant(v) for k, v in attributes.items()})
    user = np.zeros(len(page_view), np.int64) if user is None else user
    day = np.zeros(len(page_view), np.int64) if day is None else day
    return {**made, "user": tf.constant(user), "day": tf.constant(day)}


def embeddings_of(rng, batch, views=1):
    vectors = rng.normal(size=[views * len(batch["photo_items"]), WIDTH]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def called(objective, embeddings, batch):
    objective.build([None, WIDTH])
    return objective(tf.constant(embeddings), batch)


def by_item(embeddings, batch):
    return {int(item): vector for item, vector in zip(batch["photo_items"], embeddings, strict=False) if item}


def drawn(seed, views=1):
    """(numbers of a batch, their attributes, the batch, embeddings of its photos), all from one seed."""
    rng = np.random.default_rng(seed)
    pixels, attributes = store(rng)
    raw = raw_batch(rng)
    batch = batch_of(raw, pixels, attributes)
    return raw, attributes, batch, embeddings_of(rng, batch, views)
