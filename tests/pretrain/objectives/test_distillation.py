"""Distillation: the formulas against slow obvious ones, and training in chunks and on two replicas."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.model import CourierModel
from courier_tf.pretrain.objectives.distillation import Distillation, imitation, relation
from courier_tf.settings import PretrainSettings, SettingsError
from courier_tf.training import precision_policy

PHOTOS, WIDTH, SIZE = 12, 6, 16


def unit(rng, rows=PHOTOS, width=WIDTH):
    vectors = rng.normal(size=[rows, width]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def batch_of(rng, width=WIDTH, padded=()):
    items = np.arange(1, PHOTOS + 1, dtype=np.int32)
    items[list(padded)] = 0
    photos = rng.integers(0, 255, [PHOTOS, SIZE, SIZE, 3], dtype=np.uint8)
    return {"photos": photos, "photo_items": items, "teacher": unit(rng, width=width)}


def slow_relation(embeddings, targets, real, temperature):
    """Photo by photo, in float64, with the two distributions written out."""
    divergence = np.zeros(len(embeddings))
    for i in range(len(embeddings)):
        others = [j for j in range(len(embeddings)) if j != i and real[j]]
        p, q = (np.array([np.exp(float(v[i] @ v[j]) / temperature) for j in others]) for v in (targets, embeddings))
        p, q = p / p.sum(), q / q.sum()
        divergence[i] = np.sum(p * np.log(p / q))
    return divergence


@pytest.mark.parametrize("temperature", [0.05, 0.5])
def test_relation_is_the_divergence_from_the_teachers_neighbours(temperature):
    rng = np.random.default_rng(0)
    embeddings, targets, real = unit(rng), unit(rng), rng.random(PHOTOS) < 0.7
    found = relation(embeddings, targets, tf.constant(real), 3, 5, temperature)
    expected = slow_relation(embeddings.astype(float), targets.astype(float), real, temperature)
    np.testing.assert_allclose(found, expected[3:8], rtol=1e-4, atol=1e-5)
    assert (expected > 0.01).all()


def test_relation_knows_no_rotation_and_imitation_does():
    rng = np.random.default_rng(1)
    targets, rotation = unit(rng), np.linalg.qr(rng.normal(size=[WIDTH, WIDTH]))[0].astype(np.float32)
    rotated, real = targets @ rotation, tf.ones([PHOTOS], tf.bool)
    np.testing.assert_allclose(relation(rotated, targets, real, 0, PHOTOS, 0.1), np.zeros(PHOTOS), atol=1e-4)
    expected = [1 - np.dot(one, other) for one, other in zip(rotated, targets, strict=True)]
    np.testing.assert_allclose(imitation(rotated, targets), expected, atol=1e-5)
    assert max(expected) > 0.1


def test_a_photo_alone_has_no_relation():
    one = tf.constant(unit(np.random.default_rng(2), rows=2))
    real = tf.constant([True, False])
    with tf.GradientTape() as tape:
        tape.watch(one)
        far = relation(one, one, real, 0, 1, 0.1)
    assert far.numpy().tolist() == [0.0]
    assert np.isfinite(tape.gradient(far, one)).all()


def test_padding_does_not_count():
    rng = np.random.default_rng(3)
    embeddings, batch = unit(rng), batch_of(rng, padded=(2, 7))
    real = batch["photo_items"] > 0
    terms = Distillation()(tf.constant(embeddings), {name: tf.constant(value) for name, value in batch.items()})
    cosine = np.sum(embeddings * batch["teacher"], axis=1)
    apart = slow_relation(embeddings.astype(float), batch["teacher"].astype(float), real, Distillation().temperature)
    assert float(terms.loss) == pytest.approx(np.mean((1 - cosine + apart)[real]), rel=1e-4)
    assert float(terms.gauges["cosine"]) == pytest.approx(np.mean(cosine[real]), rel=1e-5)
    assert float(terms.gauges["targets"]) == PHOTOS - 2
    assert set(terms.gauges) == set(Distillation().gauges)


def model_of(strategy=None, **settings):
    with (strategy or tf.distribute.get_strategy()).scope():
        tf.keras.utils.set_random_seed(1)
        encoder = Encoder("micro", 16, drop_path=settings.pop("drop_path", 0.0))
        model = CourierModel(encoder, Unaugmented(), 0.0, **settings)
        model.compile(tf.keras.optimizers.SGD(0.05))
    return model


class Unaugmented(Distillation):
    """The draws of two replicas differ from those of one."""

    def photos(self, batch, seed):
        return batch["photos"]


@pytest.mark.slow
def test_trains_in_chunks_as_at_once():
    batch, results = batch_of(np.random.default_rng(4), width=16, padded=(5,)), []
    batch = {name: tf.constant(value) for name, value in batch.items()}
    for chunk in (0, 5):
        model = model_of(drop_path=0.3, chunk=chunk)
        step = tf.function(model.terms_and_gradients, autograph=False)
        terms, gradients = step(batch, tf.constant([1, 2], tf.int64))
        results.append([terms.loss, *gradients])
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, float(tf.reduce_max(tf.abs(one)))))


@pytest.mark.slow
def test_two_replicas_train_like_one(two_replicas):
    batch = batch_of(np.random.default_rng(5), width=16, padded=(1, 11))
    halves = [{name: value[part] for name, value in batch.items()} for part in (slice(0, 6), slice(6, 12))]

    def dataset(batches):
        specs = {name: tf.TensorSpec([None, *value.shape[1:]], value.dtype) for name, value in batch.items()}
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs).repeat(4)

    single, double = model_of(), model_of(two_replicas)
    start = [weight.numpy() for weight in single.trainable_variables]
    one = single.fit(dataset([batch]), verbose=0)
    feed = two_replicas.distribute_datasets_from_function(lambda _: dataset(halves))
    other = double.fit(feed, steps_per_epoch=4, verbose=0)
    for name in ("loss", "cosine", "targets"):
        assert one.history[name][0] == pytest.approx(other.history[name][0], rel=1e-5)
    for first, second in zip(single.trainable_variables, double.trainable_variables, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-5)
    assert max(np.abs(w.numpy() - s).max() for w, s in zip(single.trainable_variables, start, strict=True)) > 1e-3


def test_loss_is_float32_under_every_policy():
    rng = np.random.default_rng(6)
    batch, embeddings, losses = batch_of(rng), tf.constant(unit(rng)), []
    batch = {name: tf.constant(value) for name, value in batch.items()}
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        with precision_policy(policy):
            losses.append(Distillation()(embeddings, batch).loss)
    assert all(loss.dtype == tf.float32 for loss in losses)
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


def test_config_round_trip():
    objective = Distillation(temperature=0.3)
    assert Distillation.from_config(objective.get_config()).get_config() == objective.get_config()
    assert objective.get_config()["temperature"] == 0.3


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"teacher": "pixel"}, "teacher: 'pixel' is no feature source"),
        ({"teacher": "pixels+pixels"}, r"teacher: pixels\+pixels names a source twice"),
        ({"teacher": "auto"}, "teacher: 'auto' is no feature source"),
        ({"teacher": "pixels", "trainable": "head"}, "teacher=pixels: trainable=head .* Take --trainable all, or"),
        ({"teacher": "pixels", "init": "swin.pth"}, "teacher=pixels: init=swin.pth brings weights .* one of them"),
        (
            {"teacher": "pixels", "backbone": "efficientnetlite_b0_imagenet"},
            "teacher=pixels: backbone=efficientnetlite_b0_imagenet brings weights .* such as nano",
        ),
    ],
)
def test_a_teacher_that_nobody_learns_from_is_refused(values, told):
    with pytest.raises(SettingsError, match=told):
        Distillation.check(PretrainSettings(**values))


def test_a_teacher_is_taken():
    Distillation.check(PretrainSettings())
    Distillation.check(PretrainSettings(teacher="pixels+colour"))
