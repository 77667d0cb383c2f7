"""The other objectives against loops in NumPy."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.objectives.clip import BUCKETS, WORDS, Clip, title_words
from courier_tf.pretrain.objectives.mil_nce import MilNce
from courier_tf.pretrain.objectives.simclr import SimClr
from courier_tf.pretrain.objectives.simcse import SimCse
from courier_tf.pretrain.objectives.simsiam import SimSiam
from courier_tf.pretrain.objectives.supervised import Supervised, column_codes
from courier_tf.settings import PretrainSettings, SettingsError
from tests.pretrain.objectives.batches import WIDTH, by_item, called, drawn


def test_mil_nce_equals_a_loop():
    (page_view, past, clicked), _, batch, embeddings = drawn(1)
    vector = by_item(embeddings, batch)
    losses = []
    for i, j in zip(*np.nonzero(clicked), strict=True):
        item = page_view[i, j]
        if not past[i].any() or item in past[i]:
            continue
        bag = sum(np.exp(vector[item] @ vector[k] / 0.05) for k in past[i] if k)
        others = [k for k in past[np.arange(len(past)) != i].ravel() if k and k != item and k not in past[i]]
        losses.append(-np.log(bag / (bag + sum(np.exp(vector[item] @ vector[k] / 0.05) for k in others))))
    result = called(MilNce(), embeddings, batch)
    assert len(losses) > 3 and float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)


SLOW_NETWORKS = ("tiny", "efficientnetlite_b0", "efficientnetv2_b0", "mobilenet_v3_small")


@pytest.mark.parametrize(
    "name", ["nano", "resnet18_v2", *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW_NETWORKS)]
)
def test_simcse_is_for_networks_that_tell_its_views_apart(name):
    """Two passes of the same photo differ, or the network is refused."""
    photos = np.random.default_rng(0).integers(0, 255, [4, 32, 32, 3]).astype(np.uint8)
    settings = PretrainSettings(objective="simcse", backbone=name, drop_path=0.5)
    encoder = Encoder(name, 8, drop_path=0.5)
    survival = encoder.draw_survival(8, tf.constant([1, 2], tf.int64))
    passes = [encoder(photos, training=True, survival=survival[part]).numpy() for part in (slice(4), slice(4, 8))]
    if np.array_equal(*passes):
        with pytest.raises(SettingsError, match=f"backbone={name}"):
            SimCse.check(settings)
    else:
        SimCse.check(settings)
    SimCse.check(dataclasses.replace(settings, trainable="head"))


@pytest.mark.parametrize("objective, temperature", [(SimClr(), 0.2), (SimCse(), 0.05)])
def test_pairs_equal_a_loop(objective, temperature):
    _, _, batch, embeddings = drawn(2, views=2)
    items = np.concatenate([batch["photo_items"]] * 2)
    half, losses = len(items) // 2, []
    for a in np.flatnonzero(items):
        scores = {b: np.exp(embeddings[a] @ embeddings[b] / temperature) for b in np.flatnonzero(items) if b != a}
        losses.append(-np.log(scores[(a + half) % len(items)] / sum(scores.values())))
    result = called(objective, embeddings, batch)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_simsiam_equals_numpy():
    _, _, batch, embeddings = drawn(3, views=2)
    objective = SimSiam(hidden=4)
    with tf.GradientTape() as tape:
        vectors = tf.constant(embeddings)
        tape.watch(vectors)
        objective.build([None, WIDTH])
        result = objective(vectors, batch)
    real = np.concatenate([batch["photo_items"]] * 2) > 0
    kept = embeddings[real]

    def normed(values, layers):
        values = values @ layers[0].kernel.numpy()
        return (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0) + 1e-3)

    def length_one(values):
        return values / np.maximum(np.linalg.norm(values, axis=1, keepdims=True), 1e-6)  # Zeros where no unit fires.

    projected = normed(np.maximum(normed(kept, objective.project), 0), objective.project_again)
    hidden = np.maximum(normed(projected, objective.squeeze), 0)
    predicted = hidden @ objective.predict.kernel.numpy() + objective.predict.bias.numpy()
    other = np.roll(length_one(projected), len(kept) // 2, axis=0)
    expected = -np.mean(np.sum(length_one(predicted) * other, axis=1))
    assert float(result.loss) == pytest.approx(expected, rel=1e-3)
    gradient = tape.gradient(result.loss, vectors).numpy()
    assert np.abs(gradient[real]).max() > 0 and np.abs(gradient[~real]).max() == 0


def test_simsiam_does_not_reward_one_answer_for_all_photos():
    """A predictor that says the same of every photo would be right where all embeddings are alike."""
    _, _, batch, embeddings = drawn(3, views=2)
    alike = embeddings[:1] + 1e-4 * np.random.default_rng(0).normal(size=embeddings.shape)
    objective = SimSiam(hidden=4)
    objective.build([None, WIDTH])
    objective.predict.kernel.assign(tf.zeros_like(objective.predict.kernel))
    objective.predict.bias.assign(embeddings[0])
    assert abs(float(objective(tf.constant(alike, tf.float32), batch).loss)) < 0.2


def test_clip_equals_a_loop():
    _, attributes, batch, embeddings = drawn(4)
    objective = Clip(width=5)
    result = called(objective, embeddings, batch)
    items = [int(item) for item in batch["photo_items"] if item and attributes["words"][item].any()]
    assert 3 not in items and {4, 5} <= set(items)
    vector = by_item(embeddings, batch)
    texts = dict(zip(items, objective.titles(tf.constant(attributes["words"][items])).numpy(), strict=True))
    losses = []
    for queries, keys in ((vector, texts), (texts, vector)):
        for a in items:
            same = [b for b in items if (attributes["words"][a] == attributes["words"][b]).all() and b != a]
            scores = {b: np.exp(queries[a] @ keys[b] / 0.1) for b in items if b not in same}
            losses.append(-np.log(scores[a] / sum(scores.values())))
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)


def test_words_of_titles():
    words = title_words(
        np.array([b"Red  dress", b"red-DRESS!", b"", " ".join("abcdefghijklmnopqrst").encode()], object)
    )
    assert words.shape == (4, WORDS) and words.max() <= BUCKETS
    np.testing.assert_array_equal(words[0], words[1])
    np.testing.assert_array_equal(np.count_nonzero(words, axis=1), [2, 2, 0, WORDS])
    small, large = title_words(np.array(["été красное".encode(), "ÉTÉ Красное".encode()], object))
    np.testing.assert_array_equal(small, large)


def test_supervised_equals_numpy():
    _, attributes, batch, embeddings = drawn(5)
    objective = Supervised([3, 3])
    result = called(objective, embeddings, batch)
    losses, right = [], []
    for vector, item in zip(embeddings, batch["photo_items"].numpy(), strict=True):
        for column, code in enumerate(attributes["codes"][item]):
            if item and code >= 0:
                classifier = objective.classifiers[column]
                logits = 16 * vector @ classifier.kernel.numpy() + classifier.bias.numpy()
                losses.append(-np.log(np.exp(logits[code]) / np.exp(logits).sum()))
                right.append(logits.argmax() == code)
    assert float(result.loss) == pytest.approx(np.mean(losses), rel=1e-4)
    assert float(result.gauges["accuracy"]) == pytest.approx(np.mean(right))


def test_column_codes_know_the_train_span_alone():
    codes, size = column_codes(np.array([b"x", b"", b"y", b"z", b"x"], object), np.array([1, 1, 1, 0, 1], bool))
    assert size == 2
    np.testing.assert_array_equal(codes, [0, -1, 1, -1, 0])
    assert column_codes(np.array([b"", b"z"], object), np.array([True, False]))[1] == 0
