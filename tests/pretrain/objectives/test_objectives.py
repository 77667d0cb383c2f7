"""Every objective in training: in chunks and at once, on one and two replicas, and its config."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.training import precision_policy
from tests.pretrain.objectives.batches import ITEMS, batch_of, raw_batch, store
from tests.pretrain.objectives.models import OBJECTIVES, model_of

#: Whose loss does not depend on how a batch is shared out; one of each kind of gathering.
SHARED_OUT = ("courier", "authors", "other_users", "mil_nce", "clip")


def some_slow(names, quick):
    """All names, those that are not `quick` marked as slow."""
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", some_slow(OBJECTIVES, quick=("courier", "clip")))
def test_trains_in_chunks_as_at_once(name):
    rng = np.random.default_rng(6)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes)
    results = []
    for chunk in (0, 10):
        model = model_of(name, drop_path=0.3, chunk=chunk)
        step = tf.function(model.terms_and_gradients, autograph=False)
        terms, gradients = step(batch, tf.constant([1, 2], tf.int64))
        results.append([terms.loss, *gradients])
        assert set(terms.gauges) == set(model.objective.gauges)
    for one, other in zip(*results, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-5 * max(1.0, float(tf.reduce_max(tf.abs(one)))))


@pytest.mark.parametrize("name", OBJECTIVES)
def test_losses_are_float32_under_every_policy(name):
    rng = np.random.default_rng(8)
    pixels, attributes = store(rng)
    batch = batch_of(raw_batch(rng), pixels, attributes, user=np.arange(10))
    vectors = rng.normal(size=[2 * len(batch["photo_items"]), 8]).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    losses = []
    for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
        tf.keras.utils.set_random_seed(2)
        with precision_policy(policy):
            objective = OBJECTIVES[name]()
            objective.build([None, 8])
            embeddings = tf.constant(vectors[: objective.views * len(batch["photo_items"])])
            loss = objective(embeddings, batch).loss
            assert loss.dtype == tf.float32
            losses.append(float(loss))
    assert abs(losses[0]) > 1e-4
    np.testing.assert_allclose(losses, losses[0], rtol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARED_OUT)
def test_two_replicas_train_like_one(name, two_replicas):
    """The same rows in one batch, or half of them on each replica, with photos that stand in both halves."""
    rng = np.random.default_rng(7)
    pixels, attributes = store(rng)
    halves = [raw_batch(rng), raw_batch(rng)]
    if name == "clip":  # It counts photos, once for each replica: only with different photos are the batches the same.
        half = ITEMS // 2
        halves = [
            tuple(np.where(part > 0, (part - 1) % half + 1 + place * half, 0).astype(np.int32) for part in numbers)
            + (clicked,)
            for place, (*numbers, clicked) in enumerate(halves)
        ]
    users = [np.arange(10), np.arange(10) + 3]
    together = tuple(np.concatenate(parts) for parts in zip(*halves, strict=True))

    def dataset(raws, names):
        batches = [batch_of(raw, pixels, attributes, user) for raw, user in zip(raws, names, strict=True)]
        specs = {k: tf.TensorSpec([None, *v.shape[1:]], v.dtype) for k, v in batches[0].items()}
        return tf.data.Dataset.from_generator(lambda: iter(batches), output_signature=specs).repeat(5)

    single, double = (model_of(name, strategy, rate=0.005) for strategy in (None, two_replicas))
    start = [weight.numpy() for weight in single.trainable_variables]
    one = single.fit(dataset([together], [np.concatenate(users)]), verbose=0)
    feed = two_replicas.distribute_datasets_from_function(lambda _: dataset(halves, users))
    other = double.fit(feed, steps_per_epoch=5, verbose=0)
    assert one.history["loss"][0] == pytest.approx(other.history["loss"][0], rel=1e-5)
    for first, second in zip(single.trainable_variables, double.trainable_variables, strict=True):
        np.testing.assert_allclose(first.numpy(), second.numpy(), atol=1e-5)
    assert max(np.abs(w.numpy() - s).max() for w, s in zip(single.trainable_variables, start, strict=True)) > 1e-3


@pytest.mark.parametrize("name", OBJECTIVES)
def test_config_round_trip(name):
    objective = OBJECTIVES[name]()
    again = type(objective).from_config(objective.get_config())
    assert again.get_config() == objective.get_config()
