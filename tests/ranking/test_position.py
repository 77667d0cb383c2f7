"""The tower of positions: what it adds in training, what takes its place in serving, and what that is worth."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.columns import Columns
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.position import served_log_odds
from courier_tf.ranking.predicting import calibrate_position
from courier_tf.ranking.ranker_files import load_context_names, load_ranker, new_ranker, save_ranker
from courier_tf.ranking.warm_start import warm_start
from courier_tf.training import compile_with_adam
from tests.ranking.shop import features, plan, write_impressions

PLACES = [b"%d" % place for place in range(6)]


def with_positions(*visual_features, places=PLACES, numbers=(), **architecture):
    counts = {"position": Counter(places)}
    return plan(*visual_features, **architecture)._replace(context=Columns.of(counts, numbers, "x"))


def batch_of(rng, rows=64):
    return features(rng, rows) | {"position": tf.constant(rng.choice(PLACES, rows).astype(object))}


def asked(batch):
    return {name: batch[name] for name in ("user_id", "history_item_ids", "item_id")}


def wide(made, seed=0):
    ranker, rng = new_ranker(made), np.random.default_rng(seed)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.4))
    return ranker


def log_odds(probability):
    return np.log(probability) - np.log1p(-probability)


def sigmoid(odds):
    return 1 / (1 + np.exp(-odds))


@pytest.mark.parametrize("numbers", [(), ("position",)])
def test_training_adds_the_tower_and_serving_one_number(numbers):
    """The tower by hand: an embedding, or a rank; a hidden layer; one number."""
    batch = batch_of(np.random.default_rng(0))
    ranker = wide(with_positions("cluster_id", numbers=numbers, unknown_rate=0.0))
    place = np.array([int(text) for text in batch["position"].numpy()])
    if numbers:
        inputs = np.stack([(2 * place + 1) / 6 - 1, np.ones(64)], axis=1)
    else:
        inputs = ranker.position.inputs.inputs.embeddings[0].embeddings.numpy()[place + 1]
    hidden = np.maximum(inputs @ ranker.position.hidden.kernel.numpy() + ranker.position.hidden.bias.numpy(), 0)
    added = (hidden @ ranker.position.logit.kernel.numpy())[:, 0]
    assert added.std() > 0.05
    relevance = log_odds(ranker.answer(asked(batch)).numpy().astype(float))  # Nothing is added before `served` is set.
    np.testing.assert_allclose(ranker.pair_scores(batch, True)[0], relevance + added, rtol=1e-3, atol=1e-4)
    ranker.position.served.assign(-1.25)
    np.testing.assert_allclose(ranker.pair_scores(batch, False)[0], relevance - 1.25, rtol=1e-3, atol=1e-4)
    ranked = ranker.rank({**asked(batch), "item_id": batch["item_id"][:, None]}).numpy()[:, 0]
    np.testing.assert_allclose(log_odds(ranked), relevance - 1.25, rtol=1e-3, atol=1e-3)
    assert ranker.call_features == ("user_id", "history_item_ids", "item_id")


@pytest.mark.parametrize("seed", range(5))
def test_the_number_keeps_the_mean(seed):
    rng = np.random.default_rng(seed)
    relevance, served = rng.normal(-2, 1.5, 500), rng.normal()
    added = -0.3 * rng.integers(0, 9, 500) + 0.4 * relevance
    number = served_log_odds(sigmoid(relevance + served), served, added)
    assert sigmoid(relevance + number).mean() == pytest.approx(sigmoid(relevance + added).mean(), rel=1e-6)
    assert abs(sigmoid(relevance + added.mean()).mean() / sigmoid(relevance + added).mean() - 1) > 0.02


def test_it_is_chosen_on_train_impressions(tmp_path):
    batch = batch_of(np.random.default_rng(1), 256)
    write_impressions(tmp_path, "train", batch, ("position",))
    ranker = wide(with_positions(unknown_rate=0.0))
    relevance = log_odds(ranker.answer(asked(batch)).numpy().astype(float))
    expected = sigmoid(relevance + ranker.position(batch).numpy()).mean()
    for _ in range(2):  # The second time it starts from the number of the first.
        calibrate_position(ranker, tmp_path, 3)
        assert ranker.answer(asked(batch)).numpy().mean() == pytest.approx(expected, rel=1e-4)


@pytest.mark.slow
def test_items_of_good_positions_are_not_taken_for_good_ones():
    """Item a always stands at the top and item b at the bottom, and b is liked more."""
    rng = np.random.default_rng(2)
    batch = batch_of(rng, 16_384)
    items = batch["item_id"].numpy()
    place = np.where(items == b"a", rng.integers(0, 3, len(items)), rng.integers(0, 6, len(items)))
    place = np.where(items == b"b", rng.integers(3, 6, len(items)), place)
    liked = np.select([items == b"a", items == b"b"], [-0.5, 0.0], -1.0)
    probability = sigmoid(liked - 0.6 * place)
    clicked = (rng.random(len(items)) < probability).astype(int)
    batch |= {"clicked": tf.constant(clicked), "position": tf.constant(np.array(PLACES, object)[place])}
    difference, areas = {}, {}
    for made in (plan(), with_positions()):
        tf.keras.utils.set_random_seed(0)
        ranker = new_ranker(made)
        compile_with_adam(ranker, 1e-2)
        names = [*asked(batch), "clicked", *made.context.names]
        ranker.fit(
            tf.data.Dataset.from_tensor_slices({name: batch[name] for name in names}).batch(256), epochs=4, verbose=0
        )
        odds = log_odds(ranker.answer(asked(batch)).numpy().astype(float))
        difference[made.context.names] = odds[items == b"b"].mean() - odds[items == b"a"].mean()
        areas[made.context.names] = auc((rng.random(len(items)) < sigmoid(liked)).astype(int), odds)
    assert difference[()] < -0.5, "a ranker that sees no positions takes them for the items"
    assert difference["position",] == pytest.approx(0.5, abs=0.35)
    assert areas["position",] > areas[()] + 0.02


def test_the_tower_is_saved_and_passed_on(tmp_path):
    made, batch = with_positions("cluster_id", unknown_rate=0.0), batch_of(np.random.default_rng(3))
    ranker = wide(made)
    ranker.position.served.assign(-0.9)
    save_ranker(ranker, made, tmp_path / "ranker")
    loaded = load_ranker(tmp_path / "ranker")
    assert load_context_names(tmp_path / "ranker") == () and loaded.position.served.numpy() == np.float32(-0.9)
    np.testing.assert_array_equal(loaded.pair_scores(batch, True)[0], ranker.pair_scores(batch, True)[0])
    later = with_positions("cluster_id", places=[b"", *PLACES, b"9"], unknown_rate=0.0)
    following = new_ranker(later)
    warm_start(following, later, ranker, made, transferable=True)
    np.testing.assert_allclose(following.answer(asked(batch)), ranker.answer(asked(batch)), rtol=1e-4)
    np.testing.assert_allclose(following.position(batch), ranker.position(batch), rtol=1e-4)
