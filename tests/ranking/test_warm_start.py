"""What a new ranker takes over from a previous one, and what it must not."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.ranker_files import new_ranker
from courier_tf.ranking.warm_start import rows_in_common, warm_start
from tests.ranking.shop import NOW, catalogue, catalogue_visuals, features, items, plan


def ranker_of(made, seed=None):
    """A ranker with weights far from those it was made with."""
    ranker = new_ranker(made)
    if seed is not None:
        draw = np.random.default_rng(seed)
        for weight in ranker.trainable_weights:
            weight.assign(draw.normal(size=weight.shape, scale=0.3))
    return ranker


def shuffled(**changes) -> Catalogue:
    """The same items with one more, known in training: all codes move up."""
    old = items()
    extended = {
        "ids": np.concatenate([[b"0"], old.ids]),
        "columns": {name: np.concatenate([[b"a new value"], values]) for name, values in old.columns.items()},
        "titles": np.array([b""] * 5, object),
        "available_from": np.concatenate([[1], old.available_from]),
        "train_impressions": np.concatenate([[9], old.train_impressions]),
        "train_events": np.concatenate([[9], old.train_events]),
        "photos": np.concatenate([[b"p"], old.photos]),
    }
    return Catalogue.of(items(**extended), ["category"], NOW, ["product"])


def with_one_more(old: CatalogueVisuals) -> CatalogueVisuals:
    first = old.codes[:1], old.embeddings[:1]
    return CatalogueVisuals(
        np.concatenate([first[0], old.codes]), old.centroids, np.concatenate([first[1], old.embeddings]),
        np.concatenate([[True], old.in_train_span]),
    )  # fmt: skip


@pytest.mark.parametrize("cross_layers", [0, 2])
@pytest.mark.parametrize("mode", [(), ("cluster_id",), ("cluster_id", "simscore", "vector")], ids="+".join)
def test_what_is_known_of_old_ids_stays_whatever_row_they_have_now(mode, cross_layers):
    old_plan = plan(*mode, cross_layers=cross_layers)
    users = np.array([b"u0", b"u1", b"u2"], object)
    made = plan(
        *mode,
        with_catalogue=shuffled(),
        users=users,
        visual=with_one_more(catalogue_visuals()),
        cross_layers=cross_layers,
    )
    previous, ranker = ranker_of(old_plan, 0), ranker_of(made)
    warm_start(ranker, made, previous, old_plan, transferable=True)
    for feature in ranker.image.features:  # Measured from the visual features, of which there is one more now.
        for weight, source in zip(
            feature.non_trainable_weights,
            previous.image.features[ranker.image.features.index(feature)].non_trainable_weights,
            strict=True,
        ):
            weight.assign(source)
    batch = features(np.random.default_rng(0), 64)
    np.testing.assert_allclose(ranker(batch), previous(batch), rtol=1e-4, atol=1e-6)
    # A new user and a new item start as the unknown ones did.
    asked = {"user_id": tf.constant([b"u0"]), "item_id": tf.constant([b"a"]), "history_item_ids": tf.constant([[b"b"]])}
    np.testing.assert_allclose(ranker(asked), previous({**asked, "user_id": tf.constant([b"?"])}), rtol=1e-4)
    assert rows_in_common(made, old_plan) == {"users": 2, "item": 2, "column/category": 2}


@pytest.mark.parametrize("cross_layers", [0, 1])
def test_a_new_visual_feature_changes_nothing_at_first_and_then_learns(cross_layers):
    old_plan, made = (
        plan(cross_layers=cross_layers),
        plan("cluster_id", "vector", "simscore", cross_layers=cross_layers),
    )
    previous, ranker = ranker_of(old_plan, 0), ranker_of(made)
    warm_start(ranker, made, previous, old_plan, transferable=True)
    batch = features(np.random.default_rng(0), 64)
    np.testing.assert_allclose(ranker(batch), previous(batch), rtol=1e-4, atol=1e-6)
    with tf.GradientTape() as tape:
        loss = ranker.compute_loss(batch)
    gradient = tape.gradient(loss, ranker.mlp.layers[0].kernel).numpy()
    width = ranker.mlp.layers[0].kernel.shape[0] - previous.mlp.layers[0].kernel.shape[0]
    new = ~ranker.mlp.layers[0].kernel.numpy().any(axis=1)
    assert width == 3 * 2 * 4 + 4 + 3 == new.sum(), "the weights of new inputs, and no others, are 0"
    # Of the four directions of an ID's embedding so few centroids fill one; each stands in three places.
    assert (np.abs(gradient[new]).sum(axis=1) > 1e-9).sum() == width - 3 * 3


def test_visual_features_with_another_meaning_start_anew():
    made = plan("cluster_id")
    previous, ranker, none = ranker_of(made, 0), ranker_of(made), ranker_of(plan())
    table = ranker.image.features[0].tables[0].embeddings.numpy()
    previous.image.gate.opened.assign(tf.zeros_like(previous.image.gate.opened))
    warm_start(ranker, made, previous, made, transferable=False)
    np.testing.assert_array_equal(ranker.image.features[0].tables[0].embeddings, table)
    np.testing.assert_array_equal(ranker.image.gate.values(), 1)
    known = 2 * 4  # Of an item: its own and its category's embedding.
    assert not ranker.attention.of_item.kernel.numpy()[known:].any()
    np.testing.assert_array_equal(ranker.attention.of_item.kernel[:known], previous.attention.of_item.kernel[:known])
    assert none.attention.of_item.kernel.shape[0] == known


def test_hashed_ids_are_taken_over_only_among_as_many_buckets():
    def hashed(buckets):
        return plan(with_catalogue=catalogue(buckets=buckets), users=np.array([], object), user_buckets=buckets)

    assert rows_in_common(hashed(5), hashed(5)) == {"users": 5, "item": 5, "column/category": 2}
    assert rows_in_common(hashed(5), hashed(6)) == {"users": 0, "item": 0, "column/category": 2}
    assert rows_in_common(hashed(5), plan()) == {"users": 0, "item": 0, "column/category": 2}


def test_what_does_not_fit_is_refused():
    ranker, previous = ranker_of(plan("cluster_id")), ranker_of(plan("vector"))
    with pytest.raises(RankingError, match="cannot start from one with"):
        warm_start(ranker, plan("cluster_id"), previous, plan("vector"), transferable=True)
    with pytest.raises(RankingError, match="rank_dim=4.*rank_dim=3"):
        warm_start(ranker, plan("cluster_id"), ranker_of(plan(dim=3)), plan(dim=3), transferable=True)
    bare = plan("cluster_id", gated=False)
    with pytest.raises(
        RankingError, match="rank_category_gate=True cannot start from one with rank_category_gate=False"
    ):
        warm_start(ranker, plan("cluster_id"), ranker_of(bare), bare, transferable=True)
    warm_start(ranker, plan("cluster_id"), ranker_of(plan(gated=False)), plan(gated=False), transferable=True)
