"""Each visual feature against NumPy; codes of several levels; the gate; controls; what has no photo."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue_visuals import CatalogueVisuals, usual_cosine, usual_embedding
from courier_tf.ranking.gated_visual_features import GatedVisualFeatures
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.visual_features.cluster_ids import ClusterId, PlainClusterId
from courier_tf.ranking.visual_features.registry import VISUAL_FEATURES, register, require_known
from courier_tf.ranking.visual_features.similarity import SimScore
from courier_tf.ranking.visual_features.vectors import Vector
from courier_tf.ranking.visual_features.visual_feature import ItemVisuals
from courier_tf.settings import RankSettings, SettingsError
from tests.ranking.shop import catalogue_visuals, features, plan

#: Rows of candidates and histories in `catalogue_visuals()`: 3 has no photo, 4 is unknown or padding.
CANDIDATE, HISTORY = np.array([0, 1, 2, 3, 0, 2]), np.array([[0, 1], [1, 4], [3, 0], [0, 1], [4, 4], [3, 3]])
MASK = HISTORY != 4
HALVES = ("mixed_bfloat16", "mixed_float16")


def visuals_of(made: CatalogueVisuals, rows: np.ndarray) -> ItemVisuals:
    return ItemVisuals(tf.constant(made.codes[rows]), tf.constant(made.embeddings[rows]))


def seen_by(layer, made: CatalogueVisuals):
    signals = layer(visuals_of(made, CANDIDATE[:, None]), visuals_of(made, HISTORY), tf.constant(MASK))
    candidate, history, numbers = (tf.cast(part, tf.float32).numpy() for part in signals[:3])
    return candidate[:, 0], history, numbers[:, 0]


def cosine(vector, other):
    lengths = np.linalg.norm(vector) * np.linalg.norm(other)
    return vector @ other / lengths if lengths else 0.0


@pytest.mark.parametrize(
    "mode, hint",
    [
        ("cluster", "Did you mean 'cluster_id'? Modes: none, "),
        ("cluster_id+simscor", "Did you mean 'cluster_id+simscore'? Modes: none, "),
        ("cluster_id+looks", "there is no mode 'cluster_id+looks'. Modes: none, "),
    ],
)
def test_an_unknown_visual_feature_is_refused_with_the_nearest_and_all(mode, hint):
    with pytest.raises(SettingsError, match=re.escape(hint)) as error:
        require_known(["none", mode])
    assert all(name in str(error.value) for name in VISUAL_FEATURES)


@pytest.mark.parametrize("mode", ["", "cluster_id+", "cluster_id+cluster_id", "none_permuted", "none+vector"])
def test_what_is_no_mode_is_refused_with_the_settings(mode):
    with pytest.raises(SettingsError, match=re.escape(f"rank_modes: '{mode}' is not a mode")):
        RankSettings(rank_modes=("none", mode))


@pytest.mark.parametrize("name", ["none", "my_permuted", "a+b", "Cluster", ""])
def test_an_visual_feature_needs_a_name_that_can_stand_in_a_mode(name):
    with pytest.raises(SettingsError, match="cannot be the name of a visual feature"):
        register(name)


def test_two_visual_features_cannot_have_one_name():
    with pytest.raises(SettingsError, match="the visual feature 'vector' exists already: Vector"):
        register("vector")(SimScore)
    assert register("vector")(Vector) is Vector, "the same class once more"


def test_cluster_id_of_all_levels(precision):
    made = catalogue_visuals(levels=3, clusters=2)
    layer = ClusterId(made, 4)
    candidate, history, numbers = seen_by(layer, made)
    tables = [table.embeddings.numpy() for table in layer.tables]
    assert len(tables) == 3 and tables[0].shape == (3, 4)
    usual = layer.usual.numpy()
    rounding = 1e-6 if precision == "float32" else 0.01  # Of the embeddings; the numbers are float32 under any policy.
    for row, codes in enumerate(made.codes[CANDIDATE]):
        np.testing.assert_allclose(
            candidate[row], np.concatenate([t[c] for t, c in zip(tables, codes, strict=True)]), rtol=rounding, atol=1e-6
        )
        others = made.codes[HISTORY[row]]
        for place, other in enumerate(others):
            np.testing.assert_allclose(
                history[row, place],
                np.concatenate([t[c] for t, c in zip(tables, other, strict=True)]),
                rtol=rounding,
                atol=1e-6,
            )
        for level in range(3):
            same = [
                (other[: level + 1] == codes[: level + 1]).all() and codes[0] > 0
                for other, real in zip(others, MASK[row], strict=True)
                if real
            ]
            share = np.mean(same) if same else 0.0
            np.testing.assert_allclose(numbers[row, [level, 3 + level]], [share, np.sqrt(share)], rtol=1e-6)
        coded = [
            sum(made.centroids[level][code - 1] for level, code in enumerate(codes_of_item))
            for codes_of_item in (codes, *others)
        ]
        cosines = [
            (cosine(coded[0], past) - usual[0]) / usual[1]
            for past, other, real in zip(coded[1:], others, MASK[row], strict=True)
            if real and other[0] > 0 and codes[0] > 0
        ]
        expected = [max(cosines), np.mean(cosines)] if cosines else [0, 0]
        np.testing.assert_allclose(numbers[row, 6:], expected, rtol=1e-4)


def test_a_plain_cluster_id_is_one_more_id(precision):
    """It tells which codes are equal, by its embedding and by the shares, and nothing of which are alike."""
    made = catalogue_visuals(levels=2, clusters=3)
    layer = PlainClusterId(made, 4)
    candidate, history, numbers = seen_by(layer, made)
    full = ClusterId(made, 4)
    np.testing.assert_array_equal(numbers, seen_by(full, made)[2][:, :4])
    assert candidate.shape == (6, 8) and history.shape == (6, 2, 8)
    tables = [table.embeddings.numpy() for table in layer.tables]
    assert [len(table) for table in tables] == [4, 4] and all(table.std() > 0.01 for table in tables)
    expected = np.concatenate([table[made.codes[CANDIDATE, level]] for level, table in enumerate(tables)], axis=1)
    np.testing.assert_allclose(candidate, expected, rtol=1e-6 if precision == "float32" else 0.01)
    assert not layer.non_trainable_weights, "no centroid is in it"
    assert [len(full.non_trainable_weights), len(full.trainable_weights)] == [2, 2]


def test_the_embedding_of_a_cluster_starts_from_its_centroid():
    codes = np.array([[1, 2], [2, 1], [3, 3], [0, 0], [0, 0]], np.int32)  # Each stands in the train span.
    made = dataclasses.replace(catalogue_visuals(levels=2, clusters=3, width=6), codes=codes)
    layer = ClusterId(made, 4)
    seen_by(layer, made)
    for level, table in enumerate(layer.tables):
        start = table.embeddings.numpy()
        np.testing.assert_array_equal(start[0], 0)  # Of an item without a photo.
        assert np.square(start[1:]).mean() ** 0.5 == pytest.approx(0.1, rel=1e-5)
        # Three centroids lie in a plane: four directions hold all of their distances, up to one scale.
        ours, theirs = (
            np.linalg.norm(part[[0, 0, 1]] - part[[1, 2, 2]], axis=1) for part in (start[1:], made.centroids[level])
        )
        np.testing.assert_allclose(ours / theirs, ours[0] / theirs[0], rtol=1e-4)


def test_directions_are_those_of_the_items_of_the_train_span():
    """Two codes are frequent, and lie apart in the second direction; a rare one lies far away in the first."""
    codes = np.array([1] * 50 + [2] * 50 + [3] * 60 + [0], np.int32)[:, None]
    centroids = np.array([[[0, 1, 0], [0, -1, 0], [3, 0, 0]]], np.float32)
    train = np.arange(161) < 101  # One item of the third code.
    made = CatalogueVisuals(codes, centroids, np.zeros([161, 0], np.float32), train)
    coordinates = made.centroids_in(1)[0, :, 0]
    assert abs(coordinates[0] - coordinates[1]) > 10 * abs(coordinates[0] + coordinates[1] - 2 * coordinates[2])
    # The centre is that of the items with a photo, however many have none.
    some = CatalogueVisuals(
        np.concatenate([codes[:101], 0 * codes]), centroids + 5, made.embeddings, np.ones(262, bool)
    )
    of_items = some.centroids_in(3)[0][some.codes[:101, 0] - 1]
    np.testing.assert_allclose(of_items.mean(axis=0), 0, atol=1e-6)
    assert not CatalogueVisuals(codes, centroids[..., :0], made.embeddings, train).centroids_in(4).any()


def test_vector_is_the_centred_embedding_projected(precision):
    made = catalogue_visuals()
    layer = Vector(made, 4)
    candidate, history, numbers = seen_by(layer, made)
    known = made.embeddings[:3].astype(float)
    mean = known.mean(axis=0)
    deviation = np.sqrt(((known - mean) ** 2).mean())
    centred = np.concatenate([(known - mean) / deviation, np.zeros([2, 6])])
    projected = centred @ layer.projection.kernel.numpy()
    tolerance = 1e-5 if precision == "float32" else 0.03
    np.testing.assert_allclose(candidate, projected[CANDIDATE], atol=tolerance)
    np.testing.assert_allclose(history, projected[HISTORY], atol=tolerance)
    assert numbers.shape == (6, 0)


def test_simscore_is_the_largest_and_the_mean_cosine(precision):
    made = catalogue_visuals()
    layer = SimScore(made, 4)
    candidate, history, numbers = seen_by(layer, made)
    assert candidate.shape == (6, 0) and history.shape == (6, 2, 0)
    usual = layer.usual.numpy()
    for row in range(6):
        embedding, others = made.embeddings[CANDIDATE[row]], made.embeddings[HISTORY[row]]
        cosine = [(embedding @ other - usual[0]) / usual[1] for other in others if other.any() and embedding.any()]
        expected = [max(cosine), np.mean(cosine), 1] if cosine else [0, 0, 0]
        np.testing.assert_allclose(numbers[row], expected, rtol=1e-4, atol=1e-5)


def test_the_usual_is_measured_on_the_train_span_alone():
    made = catalogue_visuals()
    later = dataclasses.replace(made, in_train_span=np.array([True, True, False, False, False]))
    known = made.embeddings[:2].astype(float)
    np.testing.assert_allclose(usual_embedding(later.embedding_sample())[0], known.mean(axis=0), rtol=1e-5)
    # Of two items there is one cosine, and rounding is no deviation.
    mean, deviation = usual_cosine(later.embedding_sample())
    assert mean == pytest.approx(known[0] @ known[1], rel=1e-5) and deviation == 1.0
    nothing = dataclasses.replace(made, in_train_span=np.zeros(5, bool)).embedding_sample()
    assert usual_cosine(nothing) == (0.0, 1.0) and usual_embedding(nothing)[1] == 1.0


def test_what_codes_say_is_the_sum_of_their_centroids():
    made = dataclasses.replace(
        catalogue_visuals(levels=2, clusters=3), in_train_span=np.array([True, True, False, False, False])
    )
    coded = made.coded(np.arange(5))
    for row, codes in enumerate(made.codes):
        expected = sum(made.centroids[level][code - 1] for level, code in enumerate(codes)) if codes[0] else np.zeros(6)
        np.testing.assert_allclose(coded[row], expected / (np.linalg.norm(expected) or 1), rtol=1e-5)
    mean, _ = usual_cosine(made.coded_sample())
    assert mean == pytest.approx(coded[0] @ coded[1], rel=1e-5)
    layer = ClusterId(made, 4)
    assert layer.usual.numpy()[0] == pytest.approx(mean) and layer.codebook.dtype == tf.float32


def test_gates_switch_visual_features_off_for_a_category():
    made = catalogue_visuals()
    layer = GatedVisualFeatures(("cluster_id", "simscore"), made, 4, categories=3)
    category = tf.constant([[1], [1], [1], [2], [2], [0]])
    arguments = tf.constant(CANDIDATE[:, None]), tf.constant(HISTORY), tf.constant(MASK), category
    layer(*arguments)
    bare = seen_by(layer.features[0], made)
    np.testing.assert_array_equal(layer.gate.values(), 1)
    layer.gate.opened.assign([0.5, 0.0, 1.0])
    np.testing.assert_allclose(layer.gate.values(), [0.5, 0.0, 1.0], atol=1e-6)
    seen, opened = layer(*arguments)
    np.testing.assert_allclose(opened[:, 0, 0], [0, 0, 0, 1, 1, 0.5], atol=1e-6)
    for part in (seen.candidate, seen.statistics):
        np.testing.assert_allclose(part[:3], 0, atol=1e-6)
    np.testing.assert_allclose(seen.candidate[3:5, 0], bare[0][3:5], rtol=1e-6)
    np.testing.assert_allclose(seen.candidate[5, 0], bare[0][5] / 2, rtol=1e-6)
    np.testing.assert_allclose(seen.statistics[3:5, 0, : bare[2].shape[1]], bare[2][3:5], rtol=1e-6)


def test_training_hides_the_visual_features_of_the_rows_that_it_draws_whatever_the_gates():
    made = catalogue_visuals()
    layer = GatedVisualFeatures(("cluster_id", "simscore"), made, 4, categories=3)
    category = tf.constant([[1], [1], [1], [2], [2], [0]])
    arguments = tf.constant(CANDIDATE[:, None]), tf.constant(HISTORY), tf.constant(MASK), category
    layer(*arguments)
    expected, _ = layer(*arguments)
    layer.gate.opened.assign([0.0, 1.0, 0.0])
    shown = np.array([1, 0, 1, 0, 1, 1], np.int32)
    seen, opened = layer(*arguments, tf.constant(shown))
    np.testing.assert_array_equal(opened[:, 0, 0], shown)
    for part, whole in zip((seen.candidate, seen.statistics), (expected.candidate, expected.statistics), strict=True):
        np.testing.assert_array_equal(part, whole * shown[:, None, None])
    assert "opened" not in [weight.name.split("/")[-1] for weight in layer.trainable_weights]


def test_permuted_visual_features_stay_together_and_with_items_that_have_some():
    rng = np.random.default_rng(0)
    codes = np.concatenate([rng.integers(1, 50, [40, 2]), np.zeros([3, 2], int)]).astype(np.int32)
    embeddings = np.where(codes[:, :1] > 0, codes[:, :1] * 100 + codes[:, 1:], 0).astype(np.float32)
    made = CatalogueVisuals(codes, np.zeros([2, 50, 0], np.float32), embeddings, np.ones(43, bool))
    dealt = made.permuted(seed=1)
    np.testing.assert_array_equal(np.sort(dealt.embeddings, axis=0), np.sort(embeddings, axis=0))
    np.testing.assert_array_equal(dealt.codes[:, 0] * 100 + dealt.codes[:, 1], dealt.embeddings[:, 0])
    np.testing.assert_array_equal(dealt.codes[40:], 0)
    assert (dealt.codes[:40] != codes[:40]).any(axis=1).mean() > 0.8


@pytest.mark.parametrize(
    "names, precision",
    [*(((name,), "float32") for name in VISUAL_FEATURES), *((tuple(VISUAL_FEATURES), half) for half in HALVES)],
    indirect=["precision"],
)
def test_a_ranker_learns_visual_features_and_keeps_them(names, precision, tmp_path):
    """Every weight gets a gradient; what is saved answers alike, and many candidates at once as one at a time."""
    rng = np.random.default_rng(0)
    made = plan(*names, visual=catalogue_visuals(levels=2, clusters=3))
    ranker, batch = new_ranker(made), features(rng, rows=32)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    weights = [weight for layer in ranker.image.features for weight in layer.trainable_weights]
    with tf.GradientTape() as tape:
        loss = ranker.compute_loss(batch)
    for gradient in tape.gradient(loss, weights):
        dense = tf.convert_to_tensor(gradient).numpy()
        assert np.isfinite(dense).all() and np.abs(dense).max() > 0
    asked = {part: batch[part] for part in ("user_id", "history_item_ids", "item_id")}
    save_ranker(ranker, made, tmp_path / "ranker")
    tf.keras.mixed_precision.set_global_policy("float32")
    loaded = load_ranker(tmp_path / "ranker")
    answers = loaded.answer(asked).numpy()
    tolerance = 1e-6 if precision == "float32" else 0.02
    np.testing.assert_allclose(ranker.answer(asked), answers, atol=tolerance)
    pairs = {**asked, "item_id": tf.stack([asked["item_id"], asked["item_id"][::-1]], axis=1)}
    np.testing.assert_allclose(loaded.rank(pairs)[:, 0], answers, atol=1e-6)
