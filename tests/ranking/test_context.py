"""Context columns: what a ranker sees of them, that it learns from them, and that it keeps and hands them on."""

from collections import Counter

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.columns import Columns, TextInputs
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.numbers import MOST_QUANTILES, numbers_of, thinned
from courier_tf.ranking.ranker_files import load_context_names, load_ranker, new_ranker, save_ranker
from courier_tf.ranking.warm_start import warm_start
from courier_tf.training import compile_with_adam
from tests.ranking.shop import catalogue, catalogue_visuals, features, plan

DEVICES = [b"phone", b"web", b""]


def columns(devices=(b"", b"phone", b"web"), hours=(b"1", b"2", b"2", b"9")) -> Columns:
    counts = {"device": Counter(devices), "hour": Counter(hours)}
    return Columns.of(counts, ["hour"], "rank_context_number_columns")


def with_context(*visual_features, context=None, **architecture):
    return plan(*visual_features, **architecture)._replace(context=context or columns())


def batch_of(rng, rows=64, hours=(b"1", b"5", b"", b"77")):
    batch = {name: value for name, value in features(rng, rows).items() if name != "clicked"}
    told = {"device": rng.choice([*DEVICES, b"new"], rows), "hour": rng.choice(hours, rows)}
    return batch | {name: tf.constant(values.astype(object)) for name, values in told.items()}


def wide(made, seed=0):
    """A ranker whose weights are large, so that each input matters."""
    ranker, rng = new_ranker(made), np.random.default_rng(seed)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.4))
    return ranker


@pytest.mark.parametrize(
    ("text", "number"),
    [("12.5", 12.5), (" -3e2 ", -300), ("+.5", 0.5), ("7.", 7), ("", None), ("nan", None), ("1e999", None),
     ("1_000", None), ("1,5", None), ("0x1", None), ("inf", None), ("phone", None)],
)  # fmt: skip
def test_numbers_in_texts(text, number):
    (read,) = numbers_of(tf.constant([text])).numpy()
    assert np.isnan(read) if number is None else read == number


@pytest.mark.parametrize("seed", range(5))
def test_inputs_of_texts_equal_numpy(seed):
    """Codes by the sorted values of the train span; ranks by the shares of its numbers below and up to a number."""
    rng = np.random.default_rng(seed)
    devices = Counter({name: int(number) for name, number in zip(DEVICES, rng.integers(1, 9, 3), strict=True)})
    hours = rng.integers(-3, 9, 40) / 2
    told = Columns.of({"device": devices, "hour": Counter(b"%r" % float(hour) for hour in hours)}, ["hour"], "x")
    layer = TextInputs(told, dim=3)
    asked = rng.choice([*DEVICES, b"unknown"], 30).astype(object)
    numbers = rng.choice([*hours, 0.3, 100, -100, np.nan], 30)
    texts = np.array([b"" if np.isnan(number) else b"%r" % float(number) for number in numbers], object)
    shown = rng.integers(0, 2, 30).astype(np.int32)
    made = layer({"device": tf.constant(asked), "hour": tf.constant(texts)}, tf.constant(shown)).numpy()
    (table,) = (embedding.embeddings.numpy() for embedding in layer.inputs.embeddings)
    for row in range(30):
        code = 1 + sorted(DEVICES).index(asked[row]) if asked[row] in DEVICES and shown[row] else 0
        expected = [0.0, 0.0]
        if shown[row] and not np.isnan(numbers[row]):
            expected = [np.mean(hours < numbers[row]) + np.mean(hours <= numbers[row]) - 1, 1.0]
        np.testing.assert_allclose(made[row], [*table[code], *expected], rtol=1e-5, atol=1e-6)


def test_many_numbers_are_thinned_in_equal_steps():
    rng = np.random.default_rng(0)
    numbers, counts = rng.permutation(np.exp(rng.normal(size=3000))), rng.integers(1, 50, 3000)
    kept, every = thinned(numbers, counts), np.sort(np.repeat(numbers, counts))
    assert len(kept) == MOST_QUANTILES and (np.diff(kept) >= 0).all()
    shares = [np.searchsorted(known, numbers) / len(known) for known in (kept, every)]
    np.testing.assert_allclose(*shares, atol=1.1 / MOST_QUANTILES)
    few = thinned(numbers[:20], counts[:20])
    np.testing.assert_array_equal(few, np.sort(np.repeat(numbers[:20], counts[:20])))


@pytest.mark.parametrize("value", [b"noon", b"1_000", b"nan", b"1e999"])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(RankingError, match=f"rank_context_number_columns: the column hour holds '{value.decode()}'"):
        columns(hours=(b"1", b"", value))


def test_without_numbers_in_the_train_span_each_is_in_the_middle():
    layer = TextInputs(Columns.of({"hour": Counter([b""])}, ["hour"], "x"), dim=2)
    np.testing.assert_array_equal(layer({"hour": tf.constant(["7", ""])}), [[0.0, 1.0], [0.0, 0.0]])


def test_many_candidates_share_the_context_of_their_row():
    rng = np.random.default_rng(1)
    ranker, batch = wide(with_context("cluster_id", cross_layers=1)), batch_of(rng)
    items = tf.stack([batch["item_id"], batch["item_id"][::-1]], axis=1)
    ranked = ranker.rank({**batch, "item_id": items}).numpy()
    for place in range(2):
        np.testing.assert_allclose(ranked[:, place], ranker({**batch, "item_id": items[:, place]}), rtol=1e-4)
    for name in ("device", "hour"):
        other = {**batch, name: tf.fill([64], "web" if name == "device" else "1.5")}
        assert np.abs(ranker.answer(other) - ranker.answer(batch)).max() > 1e-3, name


@pytest.mark.slow
def test_training_hides_contexts_and_learns_from_the_others():
    """Clicks follow the device alone; an unknown device gets the mean of all."""
    rng = np.random.default_rng(2)
    batch = batch_of(rng, 8192)
    odds = {b"phone": 1.5, b"web": -1.5, b"": 0.0, b"new": 0.0}
    clicked = rng.random(8192) < 1 / (1 + np.exp(-np.array([odds[name] for name in batch["device"].numpy()])))
    known = batch["device"].numpy() != b"new"
    data = {name: tf.boolean_mask(value, known) for name, value in {**batch, "clicked": clicked.astype(int)}.items()}
    tf.keras.utils.set_random_seed(0)
    ranker = new_ranker(with_context())
    compile_with_adam(ranker, 1e-2)
    ranker.fit(tf.data.Dataset.from_tensor_slices(data).batch(512), epochs=3, verbose=0)
    probability = ranker.answer(batch).numpy()
    assert auc(clicked.astype(int), probability) > 0.7
    means = {name: probability[batch["device"].numpy() == name].mean() for name in odds}
    assert means[b"phone"] > 0.65 and means[b"web"] < 0.35
    assert abs(means[b"new"] - 0.5) < 0.1, "the unknown value was learned, too"


def test_contexts_are_saved_and_passed_on(tmp_path):
    """To the next ranker too, which knows one more device, another scale of hours and one more column."""
    rng = np.random.default_rng(3)
    made, batch = with_context("cluster_id"), batch_of(rng)
    ranker = wide(made)
    answers = ranker.answer(batch).numpy()
    save_ranker(ranker, made, tmp_path / "ranker")
    np.testing.assert_array_equal(load_ranker(tmp_path / "ranker").answer(batch), answers)
    assert load_context_names(tmp_path / "ranker") == ("device", "hour")
    more = Columns.of(
        {
            "shop": Counter([b"a"]),
            "device": Counter([b"", b"new", b"phone", b"web"]),
            "hour": Counter([b"1", b"2", b"2", b"9"]),
        },
        ["hour"],
        "x",
    )
    later = made._replace(context=more)
    following = new_ranker(later)
    warm_start(following, later, ranker, made, transferable=True)
    batch = {**batch, "shop": tf.fill([64], "a")}
    np.testing.assert_allclose(following.answer(batch), answers, rtol=1e-4)


def test_a_ranker_without_context_is_what_it_was():
    """The same layers in the same order: the same random weights."""
    tf.keras.utils.set_random_seed(0)
    plain = Ranker(catalogue(), np.array([b"u1"], object), catalogue_visuals(), Architecture(("cluster_id",), 4))
    assert plain.context is None and plain.position is None and plain.call_features == (
        "user_id", "history_item_ids", "item_id",
    )  # fmt: skip
    tf.keras.utils.set_random_seed(0)
    one = new_ranker(plan("cluster_id"))
    tf.keras.utils.set_random_seed(0)
    other = new_ranker(with_context("cluster_id", context=Columns()))
    assert len(one.weights) == len(other.weights)
    for weight, same in zip(one.weights, other.weights, strict=True):
        np.testing.assert_array_equal(weight, same)
