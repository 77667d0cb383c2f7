"""Tiers of cosines, their histogram, and similarity in the attention: against NumPy, alone and in a ranker."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue_visuals import TIERS, CatalogueVisuals, cosine_tiers
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.visual_features import similarity
from courier_tf.ranking.visual_features.similarity import SimilarityAttention, SimTier
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals
from tests.ranking.shop import catalogue, catalogue_visuals, features, plan

ROWS, CANDIDATES, LENGTH = 5, 3, 4


def shown(seed=0, items=40, width=3):
    """Visual features of many items, some without a photo, and random candidates and histories of them."""
    rng = np.random.default_rng(seed)
    embeddings = rng.normal(size=[items, width]).astype(np.float32)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    embeddings[::7] = 0
    made = CatalogueVisuals(
        np.zeros([items, 1], np.int32), np.zeros([1, 0, 0], np.float32), embeddings, np.ones(items, bool)
    )
    candidate, history = rng.integers(items, size=[ROWS, CANDIDATES]), rng.integers(items, size=[ROWS, LENGTH])
    mask = rng.random([ROWS, LENGTH]) < 0.7
    mask[0] = False
    return made, embeddings[candidate], embeddings[history], mask


def signals_of(layer, candidate, history, mask):
    return layer(
        *(ItemVisuals(tf.zeros([*part.shape[:2], 1], tf.int32), tf.constant(part)) for part in (candidate, history)),
        tf.constant(mask),
    )


def tiers_of(layer, candidate, history, mask):
    """(row, candidate, place) -> tier of the cosine, from 0; without an entry where there is nothing to compare."""
    borders, tiers = layer.borders.numpy(), {}
    for row, number, place in np.ndindex(ROWS, CANDIDATES, LENGTH):
        ours, theirs = candidate[row, number], history[row, place]
        if mask[row, place] and ours.any() and theirs.any():
            tiers[row, number, place] = sum(ours @ theirs >= border for border in borders)
    return tiers


def test_each_tier_is_reached_by_half_as_many_pairs_as_the_one_before():
    embeddings = np.random.default_rng(1).normal(size=[3000, 8])
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    borders = cosine_tiers(embeddings)
    other = np.random.default_rng(2).normal(size=[200_000, 2, 8])
    other /= np.linalg.norm(other, axis=2, keepdims=True)
    cosine = (other[:, 0] * other[:, 1]).sum(axis=1)
    assert len(borders) == TIERS and (np.diff(borders) > 0).all()
    reached = [(cosine >= border).mean() for border in borders]
    np.testing.assert_allclose(reached[:6], 0.5 ** np.arange(1, 7), rtol=0.15)
    for nothing in (embeddings[:0], embeddings[:1]):
        assert (np.diff(cosine_tiers(nothing)) > 0).all() and len(cosine_tiers(nothing)) == TIERS


def test_simtier_counts_the_cosines_of_each_tier(precision):
    made, *batch = shown()
    layer = SimTier(made, 4)
    seen = signals_of(layer, *batch)
    counts = np.zeros([ROWS, CANDIDATES, TIERS + 1])
    for (row, number, _), tier in tiers_of(layer, *batch).items():
        counts[row, number, tier] += 1
    assert counts.sum() > 10 and counts[0].sum() == 0
    np.testing.assert_allclose(seen.statistics, np.log1p(counts), rtol=1e-5)
    assert seen.candidate.shape[2] == seen.history.shape[2] == 0 and seen.attention is None


def test_similarity_attention_adds_the_weight_of_the_tier(precision):
    made, *batch = shown(seed=3)
    layer = SimilarityAttention(made, 4)
    np.testing.assert_array_equal(signals_of(layer, *batch).attention, 0)
    steps = np.random.default_rng(4).normal(size=TIERS).astype(np.float32)
    layer.steps.assign(steps)
    expected = np.zeros([ROWS, CANDIDATES, LENGTH])
    for place, tier in tiers_of(layer, *batch).items():
        expected[place] = steps[:tier].sum()
    seen = signals_of(layer, *batch)
    np.testing.assert_allclose(seen.attention, expected, rtol=1e-4, atol=1e-5)
    assert np.abs(expected).max() > 0.5 and seen.statistics.shape[2] == 0


@pytest.mark.parametrize("gated", [False, True])
def test_a_ranker_learns_where_similarity_matters_and_serves_it(gated):
    """The steps of the tiers get a gradient; many candidates at once are answered as one at a time."""
    made = plan("simattention", "simtier", gated=gated)
    ranker = Ranker(catalogue(), made.users, catalogue_visuals(), made.architecture)
    batch = features(np.random.default_rng(0), rows=32)
    layer = ranker.image.features[0]
    ranker.compute_loss(batch)
    layer.steps.assign(np.random.default_rng(1).normal(size=TIERS))
    with tf.GradientTape() as tape:
        loss = ranker.compute_loss(batch)
    gradient = tape.gradient(loss, layer.steps).numpy()
    assert np.isfinite(gradient).all() and np.abs(gradient).max() > 0
    alone = ranker.answer({name: batch[name] for name in ("user_id", "history_item_ids", "item_id")}).numpy()
    pairs = {
        **{name: batch[name] for name in ("user_id", "history_item_ids")},
        "item_id": tf.repeat(batch["item_id"][:, None], 2, axis=1),
    }
    np.testing.assert_allclose(ranker.rank(pairs).numpy(), np.repeat(alone[:, None], 2, axis=1), rtol=1e-4)
    layer.steps.assign(np.zeros(TIERS))
    assert (
        np.abs(ranker.answer({name: batch[name] for name in ("user_id", "history_item_ids", "item_id")}) - alone).max()
        > 1e-5
    )
    if gated:
        ranker.image.gate.opened.assign(np.zeros(ranker.image.gate.opened.shape))
        shut = ranker.rank(pairs).numpy()
        layer.steps.assign(np.ones(TIERS))
        np.testing.assert_allclose(ranker.rank(pairs).numpy(), shut, rtol=1e-6)


@pytest.mark.parametrize("rounding", [0, -1e-6, 1e-6])
def test_rounding_does_not_part_equal_photos(rounding):
    """A border is the cosine of equal photos where many items share theirs."""
    rng = np.random.default_rng(0)
    one = rng.normal(size=[1, 8])
    sample = np.repeat(one / np.linalg.norm(one), 30, axis=0).astype(np.float32)
    sample[:3] = np.eye(8)[:3]
    borders = cosine_tiers(sample)
    cosine = tf.constant([[[1.0 + rounding]]])
    assert similarity.tiers_of(cosine, tf.ones([1, 1, 1], tf.bool), borders).numpy().item() == len(borders)
