"""The head encoder against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.encoder_files import EncoderError, load_encoder, load_weights, save_encoder
from courier_tf.pretrain.head_encoder import HeadEncoder, HeadOnStandardised
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.courier import Courier

RANDOM = np.random.default_rng(1)
FEATURES = (RANDOM.normal(size=[40, 9]) * RANDOM.uniform(0.1, 30, 9) + 5).astype(np.float32)


def unit(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def half_whitened(features, widths):
    """By singular values: U S has variances S^2 / M, and each axis is divided by their fourth root."""
    parts = []
    for part in np.split(features - features.mean(axis=0), np.cumsum(widths)[:-1], axis=1):
        left, values, _ = np.linalg.svd(part.astype(np.float64), full_matrices=False)
        white = left * values / np.sqrt(values / np.sqrt(len(part)))
        parts.append(white / np.sqrt((white**2).sum(axis=1).mean()))
    return np.concatenate(parts, axis=1)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_new_head_keeps_the_cosines_of_half_whitened_features(head):
    expected = half_whitened(FEATURES, [4, 5])
    encoder = HeadEncoder(["a", "b"], [4, 5], embedding_dim=12, head=head)
    encoder.fit_to(FEATURES)
    cosines = unit(expected) @ unit(expected).T
    np.testing.assert_allclose(encoder(FEATURES).numpy() @ encoder(FEATURES).numpy().T, cosines, atol=1e-4)
    narrow = HeadEncoder(["a", "b"], [4, 5], embedding_dim=3, head=head)
    narrow.fit_to(FEATURES)
    _, _, axes = np.linalg.svd(expected, full_matrices=False)
    projected = unit(expected @ axes[:3].T)
    np.testing.assert_allclose(
        narrow(FEATURES).numpy() @ narrow(FEATURES).numpy().T, projected @ projected.T, atol=1e-4
    )


def test_constant_features_and_few_photos_are_no_noise():
    features = np.concatenate([np.full([6, 3], 7.0), RANDOM.normal(size=[6, 20])], axis=1).astype(np.float32)
    encoder = HeadEncoder(["a", "b"], [3, 20], embedding_dim=16)
    encoder.fit_to(features)
    assert not encoder.standard[0].numpy().any()
    kept = np.abs(encoder.standard[1].numpy()).max(axis=0) > 0
    assert kept.sum() == 5, "six centred rows span five axes"
    np.testing.assert_allclose(np.linalg.norm(encoder(features), axis=1), 1, atol=1e-5)
    encoder.fit_to(features[:1])
    assert np.isfinite(encoder(features)).all()


def test_hidden_features_follow_the_seed():
    encoder = HeadEncoder(["a"], [9], embedding_dim=4, drop=0.25)
    encoder.fit_to(FEATURES)
    survival = encoder.draw_survival(len(FEATURES), tf.constant([3, 4]))
    np.testing.assert_array_equal(survival, encoder.draw_survival(len(FEATURES), tf.constant([3, 4])))
    np.testing.assert_allclose(np.unique(survival), [0, 1 / 0.75], rtol=1e-6)
    standard = (FEATURES - FEATURES.mean(axis=0)) @ encoder.standard[0].numpy() * survival.numpy()
    expected = unit(standard @ encoder.linear.kernel.numpy())
    np.testing.assert_allclose(encoder(FEATURES, training=True, survival=survival), expected, atol=1e-4)
    np.testing.assert_array_equal(encoder(FEATURES, training=False, survival=survival), encoder(FEATURES))


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_a_head_is_saved_and_loaded(head, tmp_path):
    encoder = HeadEncoder(["a", "b"], [4, 5], embedding_dim=6, head=head, drop=0.1)
    encoder.fit_to(FEATURES)
    for variable in encoder.trainable_variables:
        variable.assign_add(tf.random.stateless_normal(variable.shape, [1, 2]))
    save_encoder(encoder, tmp_path)
    loaded = load_encoder(tmp_path)
    assert isinstance(loaded, HeadEncoder) and loaded.get_config() == encoder.get_config()
    np.testing.assert_array_equal(loaded(FEATURES), encoder(FEATURES))
    with pytest.raises(EncoderError, match=r"sources=\['a', 'b'\], but \['b', 'a'\]"):
        load_weights(HeadEncoder(["b", "a"], [5, 4], embedding_dim=6, head=head), tmp_path)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_features_may_be_standardised_before(head):
    encoder = HeadEncoder(["a", "b"], [4, 5], embedding_dim=6, head=head, drop=0.3)
    encoder.fit_to(FEATURES)
    before = HeadOnStandardised(**encoder.get_config())
    before.set_weights(encoder.get_weights())
    survival = encoder.draw_survival(len(FEATURES), tf.constant([3, 4]))
    for options in ({}, {"training": True, "survival": survival}):
        found = before(encoder.standardised(FEATURES), **options)
        np.testing.assert_allclose(found, encoder(FEATURES, **options), atol=1e-6)


def batch_of(rows):
    history = RANDOM.integers(0, len(FEATURES), [rows, 3])
    return {
        "photos": tf.constant(FEATURES),
        "photo_items": tf.range(len(FEATURES)),
        "page_view": tf.constant(RANDOM.integers(1, len(FEATURES), [rows, 4]), tf.int32),
        "history": tf.constant(history, tf.int32),
        "clicked": tf.constant(RANDOM.random([rows, 4]) < 0.5),
        "user": tf.range(rows, dtype=tf.int64),
        "day": tf.zeros([rows], tf.int64),
    }


@pytest.mark.parametrize("head", ["linear", "mlp"])
@pytest.mark.slow
def test_chunks_give_the_same_gradients(head):
    encoder = HeadEncoder(["a"], [9], embedding_dim=8, head=head, drop=0.2)
    encoder.fit_to(FEATURES)
    batch, seed = batch_of(16), tf.constant([5, 6], tf.int64)
    whole = CourierModel(encoder, Courier(temperature=0.2))
    chunked = CourierModel(encoder, whole.objective, chunk=7)
    terms, gradients = tf.function(lambda: whole.terms_and_gradients(batch, seed))()
    other, in_chunks = tf.function(lambda: chunked.terms_and_gradients(batch, seed))()
    np.testing.assert_allclose(terms.loss, other.loss, rtol=1e-6)
    assert sum(float(tf.norm(gradient)) for gradient in gradients) > 0.01
    for expected, found in zip(gradients, in_chunks, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("head", ["linear", "mlp"])
def test_every_precision_gives_the_same_embeddings(head, precision):
    """Features with a large mean: half a number would lose what they differ by."""
    features = FEATURES + 3000
    encoder = HeadEncoder(["a", "b"], [4, 5], embedding_dim=9, head=head)
    encoder.fit_to(features)
    expected = unit(half_whitened(features.astype(np.float64), [4, 5]))
    found = encoder(features).numpy()
    assert found.dtype == np.float32
    np.testing.assert_allclose(found @ found.T, expected @ expected.T, atol=5e-3)


def test_the_model_is_rebuilt_from_its_config():
    encoder = HeadEncoder(["a"], [9], embedding_dim=8)
    model = CourierModel(encoder, Courier(temperature=0.2), chunk=4, seed=3)
    again = CourierModel.from_config(model.get_config())
    assert isinstance(again.encoder, HeadEncoder) and again.get_config() == model.get_config()
