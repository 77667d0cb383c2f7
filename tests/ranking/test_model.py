"""The ranker: repeats, cold and unknown ids, padding, precisions, replicas, saving."""

import dataclasses
import itertools
import random

import h5py
import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.lookups import look_up, shown_parts
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import FORMAT, load_plan, load_ranker, new_ranker, packed, save_ranker, unpacked
from courier_tf.training import precision_policy
from tests.ranking.shop import NOW, catalogue, catalogue_visuals, features, items, plan

MODES = [(), ("cluster_id",), ("vector",), ("simscore",), ("cluster_id", "simscore", "vector")]


def test_compiled_training_in_every_precision(precision):
    tf.keras.utils.set_random_seed(0)
    ranker = new_ranker(plan("cluster_id", "simscore", "vector", cross_layers=1))
    ranker.compile(tf.keras.optimizers.Adam(0.01))
    batch = features(np.random.default_rng(0))
    data = tf.data.Dataset.from_tensors(batch).repeat()
    history = ranker.fit(data, epochs=2, steps_per_epoch=40, verbose=0)
    assert history.history["loss"][1] < history.history["loss"][0]
    probability = ranker(batch)
    assert probability.dtype == tf.float32 and np.isfinite(probability).all()
    assert int(ranker.steps) == 80


def test_columns_may_have_any_name():
    """As in the exports of shops; TensorFlow itself takes few characters in a name."""
    names = ["Product Type", "Größe (EN): a/b"]
    columns = {name: np.array([b"x", b"y", b"x", b"y"], object) for name in ("category", *names)}
    made = Catalogue.of(items(columns=columns), ["category", *names], NOW)
    ranker = new_ranker(plan("cluster_id", with_catalogue=made))
    ranker.compile(tf.keras.optimizers.Adam(0.01))
    ranker.fit(tf.data.Dataset.from_tensors(features(np.random.default_rng(0))), verbose=0)
    assert int(ranker.steps) == 1


def test_a_scaled_loss_takes_the_same_step():
    """The gradients are scaled back: in float32 a power of two changes no bit of them."""
    batch, weights = features(np.random.default_rng(1)), []
    for scale in (None, 1024):
        optimizer = tf.keras.optimizers.SGD(0.05)
        if scale:
            optimizer = tf.keras.mixed_precision.LossScaleOptimizer(optimizer, dynamic=False, initial_scale=scale)
        tf.keras.utils.set_random_seed(0)
        ranker = new_ranker(plan("cluster_id", unknown_rate=0.0))
        start = [weight.numpy() for weight in ranker.trainable_variables]
        ranker.compile(optimizer)
        ranker.fit(tf.data.Dataset.from_tensors(batch), verbose=0)
        weights.append([weight.numpy() for weight in ranker.trainable_variables])
    for plain, scaled in zip(*weights, strict=True):
        np.testing.assert_allclose(scaled, plain, rtol=1e-6, atol=1e-8)
    assert max(np.abs(plain - begin).max() for plain, begin in zip(weights[0], start, strict=True)) > 1e-3


def test_float16_recovers_from_an_overflow():
    """A loss scale far too high: steps are skipped, not taken with infinities, until it has come down."""
    data = tf.data.Dataset.from_tensors(features(np.random.default_rng(1))).repeat()
    with precision_policy("mixed_float16"):
        ranker = new_ranker(plan("cluster_id"))
        scaled = tf.keras.mixed_precision.LossScaleOptimizer(tf.keras.optimizers.SGD(0.1), initial_scale=2.0**40)
        ranker.compile(scaled)
        start = [weight.numpy() for weight in ranker.trainable_variables]
        ranker.fit(data, steps_per_epoch=1, verbose=0)
        for weight, before in zip(ranker.trainable_variables, start, strict=True):
            np.testing.assert_array_equal(weight, before)
        assert float(scaled.loss_scale) == 2.0**39 and int(ranker.steps) == 1
        losses = ranker.fit(data, steps_per_epoch=10, epochs=8, verbose=0).history["loss"]
    assert 1 < float(scaled.loss_scale) < 2.0**25
    assert all(np.isfinite(weight).all() for weight in ranker.get_weights())
    assert losses[-1] < losses[0] and int(ranker.steps) == 81


def test_two_replicas_train_like_one(two_replicas):
    batch = features(np.random.default_rng(1), 15)  # 8 and 7: shares of the loss, not means of means.
    weights = []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        tf.keras.utils.set_random_seed(0)
        with strategy.scope():
            ranker = Ranker(*plan("cluster_id", "simscore", "vector", unknown_rate=0.0, cross_layers=1))
            ranker({name: batch[name][:1] for name in batch}, training=False)
            ranker.compile(tf.keras.optimizers.SGD(0.05))
        before = [w.numpy() for w in ranker.trainable_variables]
        data = tf.data.Dataset.from_tensor_slices(batch).batch(15).repeat()
        loss = ranker.fit(data, steps_per_epoch=3, verbose=0).history["loss"]
        weights.append((loss[0], before, [w.numpy() for w in ranker.trainable_variables]))
        assert int(ranker.steps.numpy()) == 3
    assert weights[0][0] == pytest.approx(weights[1][0], rel=1e-5)
    for start, weight, other in zip(weights[0][1], weights[0][2], weights[1][2], strict=True):
        np.testing.assert_allclose(weight, other, atol=1e-5)
        assert start.shape == weight.shape
    assert max(np.abs(a - b).max() for a, b in zip(weights[0][1], weights[0][2], strict=True)) > 1e-3


def test_what_training_hides_depends_on_seed_and_step_alone():
    """So an interrupted training goes on as it would have."""
    batch, made = features(np.random.default_rng(4), 200), plan()
    first, again, other = new_ranker(made, seed=1), new_ranker(made, seed=1), new_ranker(made, seed=2)

    def shown(ranker):
        rate = ranker.architecture.unknown_rate
        return shown_parts(tf.constant(200), rate, ranker.seed, ranker.steps.read_value()).numpy()

    drawn = [shown(ranker) for ranker in (first, again, other)]
    np.testing.assert_array_equal(drawn[0], drawn[1])
    assert (drawn[0] != drawn[2]).any() and (drawn[0][0] != drawn[0][1]).any()
    assert all(0.05 < 1 - part.mean() < 0.3 for part in drawn[0]) and (drawn[0][1] != drawn[0][2]).any()
    first.steps.assign_add(1)
    assert (shown(first) != drawn[0]).any()
    assert not np.allclose(first(batch, training=True), first(batch, training=False), atol=1e-7)


@pytest.mark.parametrize("table, place", [("user", 0), ("item", 1)])
def test_whom_training_hides_is_unknown(table, place):
    """Its own embedding counts for nothing; all else, the item's category among it, counts as before."""
    ranker, batch = new_ranker(plan("cluster_id")), features(np.random.default_rng(4), 50)
    embedding = {"user": ranker.user_embedding, "item": ranker.embeddings[ranker.item_column]}[table]
    batch = {**batch, "history_item_ids": tf.zeros([50, 0], tf.string)}
    keep = np.ones([3, 50], int)
    keep[place, :20] = 0

    def logits():
        pairs = {**batch, "item_id": batch["item_id"][:, None]}
        return ranker._scores(pairs, tf.constant(keep, tf.int32))[0].numpy()[:, 0]

    before = logits()
    embedding.embeddings.assign_add(
        np.arange(embedding.input_dim)[:, None] * np.ones([1, embedding.output_dim], np.float32)
    )
    changed = np.abs(logits() - before) > 1e-6
    assert not changed[:20].any() and changed[20:].any()
    ranker.embeddings[ranker.category_column].embeddings.assign_add(
        tf.random.normal([ranker.embeddings[ranker.category_column].input_dim, embedding.output_dim])
    )
    assert (np.abs(logits() - before) > 1e-6)[:20].any()


@pytest.mark.parametrize("mode", MODES, ids="+".join)
def test_pairs_with_and_without_a_history_are_scored_in_their_order(mode):
    """They are computed apart: together they must equal one by one. A gap in a history is padding, too."""
    ranker, batch = new_ranker(plan(*mode)), features(np.random.default_rng(5), 12)
    history = batch["history_item_ids"].numpy()
    history[::3] = b""
    history[1] = [b"", b"a", *history[1][2:]]
    batch = {**batch, "history_item_ids": tf.constant(history)}
    alone = [float(ranker({name: value[row : row + 1] for name, value in batch.items()})[0]) for row in range(12)]
    np.testing.assert_allclose(ranker(batch), alone, atol=1e-6)
    nobody = {**batch, "history_item_ids": tf.fill(history.shape, "")}
    no_columns = {**batch, "history_item_ids": tf.zeros([12, 0], tf.string)}
    np.testing.assert_allclose(ranker(nobody), ranker(no_columns), atol=1e-6)
    assert ranker({name: value[:0] for name, value in batch.items()}).shape == (0,)


def test_many_candidates_per_user_equal_the_pairs(precision):
    """Up to the rounding of the compute dtype; padding, unknown ids and empty histories among them."""
    rng, candidates = np.random.default_rng(4), 7
    ranker = new_ranker(plan("cluster_id", "simscore", "vector", cross_layers=1, visual=catalogue_visuals(levels=2)))
    for weight in ranker.trainable_weights:  # Gates among them.
        weight.assign_add(tf.random.stateless_normal(weight.shape, [1, 2], stddev=0.1))
    batch = features(rng, 5)
    items_of_row = rng.choice([b"a", b"b", b"c", b"d", b"unknown", b""], [5, candidates]).astype(object)
    probability = ranker.rank({**batch, "item_id": tf.constant(items_of_row)})
    pairs = {name: tf.repeat(batch[name], candidates, axis=0) for name in ("user_id", "history_item_ids")}
    expected = ranker({**pairs, "item_id": tf.constant(items_of_row.ravel())}, training=False)
    tolerance = {"float32": 1e-6, "mixed_float16": 5e-3, "mixed_bfloat16": 4e-2}[precision]
    np.testing.assert_allclose(probability.numpy().ravel(), expected, atol=tolerance)
    assert np.ptp(expected) > 0.1
    assert ranker.rank({**batch, "item_id": tf.zeros([5, 0], tf.string)}).shape == (5, 0)


@pytest.mark.parametrize("mode", MODES, ids="+".join)
def test_more_padding_changes_nothing(mode):
    ranker = new_ranker(plan(*mode))
    batch = features(np.random.default_rng(2))
    wider = {**batch, "history_item_ids": tf.pad(batch["history_item_ids"], [[0, 0], [0, 5]], constant_values="")}
    np.testing.assert_allclose(ranker(batch), ranker(wider), atol=1e-6)


@pytest.mark.parametrize("mode", [(), ("cluster_id", "simscore", "vector")], ids=["none", "all"])
def test_saved_ranker_gives_the_same(tmp_path, mode):
    made = plan(*mode, cross_layers=2, visual=catalogue_visuals(levels=2))
    ranker = new_ranker(made)
    for weight in ranker.trainable_weights:  # What is measured from the visual features is not trained.
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.1))
    batch = features(np.random.default_rng(3))
    save_ranker(ranker, made, tmp_path / "ranker")
    np.testing.assert_allclose(load_ranker(tmp_path / "ranker")(batch), ranker(batch), atol=1e-6)
    with pytest.raises(ValueError, match="holds no ranker"):
        load_ranker(tmp_path / "nowhere")
    config = tmp_path / "ranker" / "ranker.json"
    config.write_text(config.read_text().replace(f'"format": {FORMAT}', '"format": 1'))
    with pytest.raises(ValueError, match="format of another version"):
        load_ranker(tmp_path / "ranker")


def test_a_ranker_of_version_0_14_can_be_read(tmp_path):
    """There the visual features are called image features."""
    made = plan("cluster_id", "simscore")
    ranker, batch = new_ranker(made), features(np.random.default_rng(3))
    save_ranker(ranker, made, tmp_path)
    config = tmp_path / "ranker.json"
    before = config.read_text().replace('"visual_features"', '"image_features"')
    assert before.count('"image_features"') == 1
    config.write_text(before)
    with h5py.File(tmp_path / "ranker.weights.h5", "r+") as weights:
        weights.move("layers/gated_visual_features", "layers/gated_image_features")
    assert load_plan(tmp_path).architecture == made.architecture
    np.testing.assert_allclose(load_ranker(tmp_path)(batch), ranker(batch), atol=1e-6)


def test_a_saved_ranker_with_hashed_ids_gives_the_same(tmp_path):
    made = plan("cluster_id", with_catalogue=catalogue(buckets=5), users=np.array([], object), user_buckets=5)
    ranker, batch = new_ranker(made), features(np.random.default_rng(3))
    save_ranker(ranker, made, tmp_path)
    np.testing.assert_allclose(load_ranker(tmp_path)(batch), ranker(batch), atol=1e-6)


def hostile_ids(number, seed):
    """Different ids of any characters and lengths, in UTF-8; some end in NUL bytes, which NumPy's strings lose."""
    draw = random.Random(seed)
    ids = {b"", b"\0", b"a", b"a\0", b"a\0\0", b"\0a", b"x" * 10_000, b"x" * 9_999 + b"\0"}
    while len(ids) < number:
        letters = [chr(draw.choice([0, draw.randrange(0xD800), draw.randrange(0xE000, 0x110000)])) for _ in range(3)]
        ids.add("".join(letters).encode() * draw.choice([1, 1, 1, 1000]))
    ids = list(ids)
    draw.shuffle(ids)
    return np.array(ids, object)


def test_ids_of_any_bytes_survive_saving(tmp_path):
    ids, users = hostile_ids(60, seed=1), hostile_ids(50, seed=2)
    ids = np.sort(ids[ids != b""])
    known = np.arange(len(ids)) % 2 == 0
    values = {
        "ids": ids,
        "columns": {"category": ids[::-1], "product": ids},
        "titles": ids,
        "available_from": np.where(known, 1, NOW + 1),
        "train_impressions": known.astype(int),
        "train_events": known.astype(int),
        "photos": np.full(len(ids), b"", object),
    }
    few, codes = catalogue_visuals(), np.resize([1, 2, 0], [len(ids) + 1, 1]).astype(np.int32)
    embeddings = np.zeros([len(ids) + 1, few.embeddings.shape[1]], np.float32)
    visual = dataclasses.replace(few, codes=codes, embeddings=embeddings, in_train_span=codes[:, 0] > 0)
    coded = Catalogue.of(items(**values), ["category"], NOW, ["product"])
    made = plan("cluster_id", with_catalogue=coded, users=users[users != b""], visual=visual)
    ranker = new_ranker(made)
    for weight in ranker.trainable_weights:
        weight.assign_add(tf.random.normal(weight.shape, stddev=0.5))
    save_ranker(ranker, made, tmp_path)
    loaded = load_plan(tmp_path)
    assert loaded.catalogue.ids.tolist() == made.catalogue.ids.tolist()
    assert loaded.users.tolist() == made.users.tolist()
    for name, known_values in made.catalogue.vocabularies.items():
        assert loaded.catalogue.vocabularies[name].tolist() == known_values.tolist()
    batch = {"user_id": np.resize(users, len(ids)), "history_item_ids": np.stack([ids, ids[::-1]], 1), "item_id": ids}
    batch = {name: tf.constant(value) for name, value in batch.items()}
    np.testing.assert_allclose(load_ranker(tmp_path)(batch), ranker(batch), atol=1e-6)
    assert len(set(np.asarray(ranker(batch)).tolist())) > len(ids) // 2  # Different ids, different predictions.


def test_a_long_id_costs_its_own_bytes_alone():
    values = np.array([b"a"] * 50_000 + [b"x" * 10_000], object)
    tables = packed("ids", values)
    assert sum(array.nbytes for array in tables.values()) < 9 * len(values) + 11_000
    assert unpacked("ids", tables).tolist() == values.tolist()


def score(ranker, item, history=(b"a", b"b"), user=b"u1"):
    asked = {"user_id": [user], "history_item_ids": [list(history) or [b""]], "item_id": [item]}
    return float(ranker({name: tf.constant(value) for name, value in asked.items()})[0])


def test_a_cold_item_has_no_embedding_of_its_own_but_its_visual_features():
    """a is known, c was never shown in the train span, d came later and has no photo; nobody knows the last."""
    ranker = new_ranker(plan("cluster_id"))
    items = (b"a", b"c", b"d", b"unknown")

    def scores_after_a_change_of(table):
        kept = table.embeddings.numpy()
        rows = np.arange(len(kept))[:, None]
        table.embeddings.assign(np.where(rows > 0, kept + rows, kept))  # Row 0 is that of the unknown.
        changed = [score(ranker, item, history=()) for item in items]
        table.embeddings.assign(kept)
        return np.abs(np.array(changed) - [score(ranker, item, history=()) for item in items]) > 1e-6

    np.testing.assert_array_equal(scores_after_a_change_of(ranker.embeddings[0]), [True, False, False, False])
    (clusters,) = ranker.image.features[0].tables
    np.testing.assert_array_equal(scores_after_a_change_of(clusters), [True, True, False, False])
    assert score(ranker, b"unknown") == score(ranker, b"unknown too")
    assert score(ranker, b"unknown", history=[b"unknown"]) != score(ranker, b"unknown too", history=[b"unknown"])


def test_repeat_statistics_equal_a_loop():
    """[stands, share, root] of the item itself, of the product and, without stands, of the category; the length."""
    product = {b"a": b"p", b"b": b"p", b"c": b"", b"d": b"q"}
    category = {b"a": b"x", b"b": b"y", b"c": b"x"}  # That of d is not known to the train span.
    ranker = new_ranker(plan())
    rows = list(itertools.product([*product, b"unknown"], [(b"a", b"c", b"unknown"), (b"d", b"b", b""), (b"",) * 3]))
    batch = {
        "user_id": tf.fill([len(rows)], "u1"),
        "item_id": tf.constant([[row[0]] for row in rows]),
        "history_item_ids": tf.constant([row[1] for row in rows]),
    }
    statistics = ranker._statistics(batch, look_up(batch, ranker.lookup, ranker.user_codes)).numpy()[:, 0]
    for (item, history), of_pair in zip(rows, statistics, strict=True):
        seen = [other for other in history if other]
        same = [
            [other == item for other in seen],
            [bool(product.get(item)) and product.get(other) == product[item] for other in seen],
            [item in category and category.get(other) == category[item] for other in seen],
        ]
        shares = [np.mean(values) if seen else 0.0 for values in same]
        expected = [shares[0] > 0, shares[1] > 0, *shares, *np.sqrt(shares), np.log1p(len(seen)), bool(seen)]
        np.testing.assert_allclose(of_pair, expected, rtol=1e-6)
