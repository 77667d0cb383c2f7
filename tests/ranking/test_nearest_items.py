"""Of a long history each candidate gets the items most similar to it."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.nearest_items import nearest_items
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from tests.ranking.shop import NOW, items, plan

IDS = [f"item{n:02}".encode() for n in range(40)]
MODES = [("cluster_id",), ("simscore", "simtier", "simattention", "cluster_id")]


def many_items():
    number = len(IDS)
    made = items(
        ids=np.array(IDS, object),
        columns={
            "category": np.array([b"x", b"y"] * (number // 2), object),
            "product": np.array([b"p%d" % (n // 3) for n in range(number)], object),
        },
        titles=np.array([b""] * number, object),
        available_from=np.arange(number),
        train_impressions=np.arange(number) % 5,
        train_events=np.arange(number) % 5,
        photos=np.array([b"p"] * number, object),
    )
    return Catalogue.of(made, ["category"], NOW, ["product"])


def many_visuals(rng):
    """Of each fifth item there is no photo; two items are equal. The last row is the unknown item."""
    embeddings = rng.normal(size=[len(IDS) + 1, 6]).astype(np.float32)
    embeddings[7] = embeddings[3]
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings[::5] = 0
    known = np.any(embeddings != 0, axis=1)
    codes = np.where(known, rng.integers(1, 4, len(embeddings)), 0)[:, None].astype(np.int32)
    centroids = rng.normal(size=[1, 3, 6]).astype(np.float32)
    return CatalogueVisuals(codes, centroids, embeddings, known)


def slowly(candidate, history, mask, embeddings, most):
    """The same in plain Python, one pair after the other."""
    places = []
    for row, clicked in enumerate(history):
        for wanted in candidate[row]:
            scored = []
            for place, item in enumerate(clicked):
                both = embeddings[wanted].any() and embeddings[item].any()
                cosine = float(np.dot(embeddings[wanted].astype(float), embeddings[item])) if both else -2.0
                scored.append((round(cosine, 5) if mask[row, place] else -3.0, place))
            places.append(sorted(place for _, place in sorted(scored)[::-1][:most]))
    return np.reshape(places, [*candidate.shape, -1])


@pytest.mark.parametrize("most", [1, 4, 9, 30])
def test_the_nearest_items_equal_a_loop(most):
    rng = np.random.default_rng(most)
    visual = many_visuals(rng).embeddings
    candidate, history = rng.integers(0, 41, [5, 3]), rng.integers(0, 41, [5, 9])
    mask = np.arange(9) < np.array([9, 6, 1, 0, 9])[:, None]
    history[~mask] = 40
    places, cosines = nearest_items(*map(tf.constant, (candidate, history, mask, visual)), most)
    np.testing.assert_array_equal(places, slowly(candidate, history, mask, visual, most))
    taken = np.take_along_axis(history[:, None], places.numpy(), 2)
    np.testing.assert_allclose(cosines, np.einsum("bnd,bnkd->bnk", visual[candidate], visual[taken]), atol=1e-6)
    assert not cosines.numpy()[~visual[taken].any(axis=3)].any()


def test_without_embeddings_they_are_the_most_recent():
    mask = np.arange(6) < np.array([6, 4, 2])[:, None]
    rows = tf.zeros([3, 6], tf.int32)
    places, _ = nearest_items(tf.zeros([3, 1], tf.int32), rows, tf.constant(mask), tf.zeros([5, 0]), 3)
    np.testing.assert_array_equal(places[:, 0], [[3, 4, 5], [1, 2, 3], [0, 1, 5]])  # 5 is padding.


def long_features(rng, rows=12, length=17, candidates=()):
    history = rng.choice(IDS, [rows, length]).astype(object)
    for row, clicks in enumerate(rng.integers(0, length + 1, rows)):
        history[row, clicks:] = b""
    history[0] = rng.choice(IDS, length)
    return {
        "user_id": tf.constant(rng.choice([b"u1", b"u2", b"nobody"], rows).astype(object)),
        "history_item_ids": tf.constant(history),
        "item_id": tf.constant(rng.choice([*IDS, b"unknown"], [rows, *candidates]).astype(object)),
    }


def rankers_of(mode, *numbers):
    """Rankers of equal weights that use so many history items."""
    visual = many_visuals(np.random.default_rng(3))
    if not set(mode) - {"cluster_id"}:
        visual = visual.without_embeddings()
    plans = [plan(*mode, with_catalogue=many_items(), visual=visual, nearest_items=number) for number in numbers]
    rankers = [new_ranker(made, 7) for made in plans]
    features = long_features(np.random.default_rng(0))
    for ranker in rankers:
        ranker(features)
        for weight, first in zip(ranker.trainable_weights, rankers[0].trainable_weights, strict=True):
            # A step of similarity attention starts at 0, where it changes nothing.
            weight.assign(tf.ones_like(first) if "steps" in first.name else first)
    return rankers, plans


@pytest.mark.parametrize("mode", MODES)
def test_a_ranker_of_few_sees_what_one_of_all_sees_of_a_history_that_was_cut_by_hand(mode):
    (few, all_of_them), _ = rankers_of(mode, 5, 0)
    features = long_features(np.random.default_rng(1), rows=30)
    rows = [few.lookup(features[name]).numpy() for name in ("item_id", "history_item_ids")]
    embeddings = np.zeros([41, 0]) if few.image.embeddings is None else few.image.embeddings.numpy()
    history = features["history_item_ids"].numpy()
    places = slowly(rows[0][:, None], rows[1], history != b"", embeddings, 5)[:, 0]
    cut = {**features, "history_item_ids": tf.constant(np.take_along_axis(history, places, 1))}
    np.testing.assert_allclose(few.answer(features), all_of_them.answer(cut), rtol=1e-5)
    assert not np.allclose(few.answer(features), all_of_them.answer(features), rtol=1e-4)
    weights = np.zeros(history.shape)
    np.put_along_axis(weights, places, all_of_them.attention_weights(cut).numpy(), 1)
    np.testing.assert_allclose(few.attention_weights(features), weights, atol=1e-6)


@pytest.mark.parametrize("mode", MODES)
def test_many_candidates_have_what_their_pairs_have(mode):
    (few, all_of_them), _ = rankers_of(mode, 5, 0)
    features = long_features(np.random.default_rng(2), rows=6, candidates=[7])
    ranked = few.rank(features).numpy()
    for column in range(7):
        pairs = {**features, "item_id": features["item_id"][:, column]}
        np.testing.assert_allclose(ranked[:, column], few.answer(pairs), rtol=1e-5)
    short = {**features, "history_item_ids": features["history_item_ids"][:, :5]}
    np.testing.assert_allclose(few.rank(short), all_of_them.rank(short), rtol=1e-6)


def test_it_trains_and_is_saved(tmp_path):
    (few,), (made,) = rankers_of(("simscore",), 5)
    few.compile("adam")
    rng = np.random.default_rng(4)
    features = long_features(rng, rows=64) | {"clicked": tf.constant(rng.integers(0, 2, 64))}
    losses = few.fit(tf.data.Dataset.from_tensors(features).repeat(40), verbose=0, epochs=2).history["loss"]
    assert losses[1] < losses[0]
    save_ranker(few, made, tmp_path)
    asked = {name: features[name] for name in few.call_features}
    np.testing.assert_array_equal(load_ranker(tmp_path).answer(asked), few.answer(asked))
