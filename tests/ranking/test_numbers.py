"""Columns of numbers: their ranks, what a ranker sees of them, and that it learns from them and keeps them."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.numbers import STATISTICS, number_statistics, quantile_ranks
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.warm_start import warm_start
from courier_tf.training import compile_with_adam
from courier_tf.workdir.records import Items
from tests.ranking.columns_shop import IDS, batch_of, known_by_columns, plan_without_photos
from tests.ranking.shop import NOW

NUMBER = len(IDS)


def priced(rng, **columns) -> Items:
    """Items whose price, at any scale, is all that tells them apart; some have none."""
    prices = np.exp(rng.normal(size=NUMBER) * 3)
    values = np.array([b"" if number % 9 == 8 else b"%.5g" % price for number, price in enumerate(prices)], object)
    return known_by_columns(price=values, **columns)


def plan_of(items, columns=("price",)):
    return plan_without_photos(Catalogue.of(items, (), NOW, number_columns=columns))


@pytest.mark.parametrize("seed", range(5))
def test_ranks_are_shares_of_the_train_span(seed):
    rng = np.random.default_rng(seed)
    numbers = rng.integers(-5, 5, NUMBER) * 10.0 ** rng.integers(-3, 3)
    there, train = rng.random(NUMBER) < 0.8, rng.random(NUMBER) < 0.6
    values = np.array([b"%r" % float(n) if t else b" " for n, t in zip(numbers, there, strict=True)], object)
    known = numbers[there & train]
    expected = [
        (np.mean(known < n) + np.mean(known <= n)) / 2 if t else -1 for n, t in zip(numbers, there, strict=True)
    ]
    np.testing.assert_allclose(quantile_ranks(values, train, "price", IDS), expected, rtol=1e-6)
    np.testing.assert_array_equal(
        quantile_ranks(values, np.zeros(NUMBER, bool), "price", IDS), np.where(there, 0.5, -1)
    )


@pytest.mark.parametrize("value", ["cheap", "nan", "inf", "1e400", "1_000", "1,5", "\x1b[2J"])
def test_what_is_no_number_is_refused_with_its_item(value):
    values = np.array([b"1"] * NUMBER, object)
    values[7] = value.encode()
    with pytest.raises(RankingError, match=re.escape("item i07 has ")) as error:
        quantile_ranks(values, np.ones(NUMBER, bool), "price", IDS)
    assert "the column price" in str(error.value) and "\x1b" not in str(error.value)


def test_statistics_equal_numpy():
    rng = np.random.default_rng(0)
    candidates, history = (np.where(rng.random(shape) < 0.3, -1, rng.random(shape)) for shape in ([6, 3, 2], [6, 4, 2]))
    mask = rng.random([6, 4]) < 0.7
    mask[0] = False
    found = number_statistics(*(tf.constant(part, tf.float32) for part in (candidates, history)), tf.constant(mask))
    for row, number, column in np.ndindex(6, 3, 2):
        rank = candidates[row, number, column]
        others = [
            past[column] for past, real in zip(history[row], mask[row], strict=True) if real and past[column] >= 0
        ]
        expected = [2 * rank - 1, 1, 0, 0] if rank >= 0 else [0, 0, 0, 0]
        if rank >= 0 and others:
            expected[2:] = [abs(rank - np.mean(others)), 1]
        np.testing.assert_allclose(found[row, number, column::2], expected, rtol=1e-5, atol=1e-6)
    assert found.shape[2] == 2 * len(STATISTICS)


@pytest.mark.slow
def test_a_ranker_learns_whose_prices_are_near():
    """Clicks follow the distance of prices alone; without the column there is nothing to know."""
    rng = np.random.default_rng(1)
    items = priced(rng)
    train, test = batch_of(rng, 16_384), batch_of(rng, 4096)
    seen = Catalogue.of(items, (), NOW, number_columns=("price",))
    row = {item: place for place, item in enumerate(IDS)}

    def clicks(batch):
        ranks = seen.numbers[[row[item] for item in batch["item_id"].numpy()], 0]
        past = seen.numbers[
            [[row.get(item, NUMBER) for item in history] for history in batch["history_item_ids"].numpy()], 0
        ]
        mean = np.ma.masked_less(past, 0).mean(axis=1).filled(0.5)
        return (rng.random(len(ranks)) < 1 / (1 + np.exp(12 * np.abs(ranks - mean) - 3))).astype(int)

    answers, areas = clicks(test), {}
    for columns in ((), ("price",)):
        made = plan_of(items, columns)
        tf.keras.utils.set_random_seed(0)
        ranker = new_ranker(made)
        compile_with_adam(ranker, 1e-2)
        data = tf.data.Dataset.from_tensor_slices({**train, "clicked": clicks(train)}).batch(1024)
        ranker.fit(data, epochs=3, verbose=0)
        areas[columns] = auc(answers, ranker.answer(test).numpy())
    assert areas["price",] > 0.7 > 0.6 > areas[()]


def test_numbers_are_saved_and_passed_on(tmp_path):
    """To the next ranker too, whose catalogue has another item, another scale and one more column."""
    rng = np.random.default_rng(2)
    items, batch = priced(rng), batch_of(rng)
    made = plan_of(items)
    ranker = new_ranker(made)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    answers = ranker.answer(batch).numpy()
    save_ranker(ranker, made, tmp_path / "ranker")
    loaded = load_ranker(tmp_path / "ranker")
    np.testing.assert_array_equal(loaded.answer(batch), answers)
    pairs = {**batch, "item_id": tf.stack([batch["item_id"], batch["item_id"][::-1]], axis=1)}
    np.testing.assert_allclose(ranker.rank(pairs)[:, 0], answers, rtol=1e-5)
    more = dataclasses.replace(items, columns={**items.columns, "rating": np.full(NUMBER, b"4.5", object)})
    later = plan_of(more, ("rating", "price"))
    following = new_ranker(later)
    warm_start(following, later, ranker, made, transferable=False)
    np.testing.assert_allclose(following.answer(batch), answers, rtol=1e-4)


def test_a_ranker_without_numbers_is_what_it_was():
    made = plan_of(priced(np.random.default_rng(3)), ())
    ranker = Ranker(*made)
    assert ranker.lookup.numbers.shape == (NUMBER + 1, 0)
    new_ranker(made)
