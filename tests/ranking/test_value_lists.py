"""Columns of lists: how they are read, what a ranker sees of them, and that it learns from them and keeps them."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.value_lists import MOST_VALUES, ValueLists, list_statistics, mean_embeddings
from courier_tf.ranking.warm_start import warm_start
from courier_tf.training import compile_with_adam, precision_policy
from courier_tf.workdir.records import Items
from tests.ranking.columns_shop import IDS, batch_of, known_by_columns, plan_without_photos
from tests.ranking.shop import NOW

NUMBER = len(IDS)
TAGS = [b"red", b"blue", b"wool", b"silk", b"long", b"short"]


def tagged(rng, **columns) -> Items:
    """Items with up to four tags each, which are all that tells them apart; some have none."""
    lists = [b"|".join(rng.choice(TAGS, rng.integers(0, 5), replace=False)) for _ in range(NUMBER)]
    return known_by_columns(**{"tags": np.array(lists, object), **columns})


def plan_of(items, columns=("tags",)):
    return plan_without_photos(Catalogue.of(items, (), NOW, list_columns=columns))


def test_lists_are_read_as_exports_write_them():
    texts = [b"red|blue", b" blue | red |blue|", b'["blue", "red"]', b"[3, 2.5, null]", b"", b"[]", b"green"]
    items = tagged(np.random.default_rng(0), tags=np.array([*texts, *[b""] * (NUMBER - len(texts))], object))
    train = np.arange(NUMBER) != 6  # green comes later.
    lists = ValueLists.of(items, ["tags"], train, "|")
    assert lists.vocabularies["tags"].tolist() == [b"2.5", b"3", b"blue", b"red"]
    found = [sorted(row[row > 0].tolist()) for row in lists.codes[:7, 0]]
    assert found == [[3, 4], [3, 4], [3, 4], [1, 2], [], [], []]
    assert lists.codes.shape == (NUMBER + 1, 1, 2) and not lists.codes[-1].any()
    semicolons = ValueLists.of(
        dataclasses.replace(items, columns={"tags": items.columns["tags"]}), ["tags"], train, ";"
    )
    assert b"red|blue" in semicolons.vocabularies["tags"].tolist()


@pytest.mark.parametrize("text", ["[red, blue]", '[["red"]]', '[{"name": "red"}]', "[\x1b[2J"])
def test_what_is_no_list_is_refused_with_its_item(text):
    items = tagged(np.random.default_rng(0))
    items.columns["tags"][7] = text.encode()
    with pytest.raises(RankingError, match=re.escape("item i07 has ")) as error:
        ValueLists.of(items, ["tags"], np.ones(NUMBER, bool), "|")
    assert "the column tags" in str(error.value) and "\x1b" not in str(error.value)


def test_of_many_values_the_most_frequent_are_kept():
    lists = [b"|".join(b"t%03d" % value for value in range(number)) for number in range(100, 160)]
    made = ValueLists.of(
        tagged(np.random.default_rng(0), tags=np.array(lists, object)), ["tags"], np.ones(60, bool), "|"
    )
    assert made.codes.shape[2] == MOST_VALUES
    assert {made.vocabularies["tags"][code - 1] for code in made.codes[0, 0]} == {
        b"t%03d" % n for n in range(MOST_VALUES)
    }


def random_codes(rng, *shape):
    """Lists of different codes, 0 after their ends."""
    rows = [rng.permutation(6)[: shape[-1]] + 1 for _ in range(int(np.prod(shape[:-1])))]
    lengths = rng.integers(0, shape[-1] + 1, len(rows))
    padded = [np.where(np.arange(shape[-1]) < length, row, 0) for row, length in zip(rows, lengths, strict=True)]
    return np.array(padded, np.int32).reshape(shape)


@pytest.mark.parametrize("columns", [0, 1, 2])
def test_statistics_equal_sets(columns):
    rng = np.random.default_rng(columns)
    candidates, history = random_codes(rng, 6, 3, columns, 4), random_codes(rng, 6, 5, columns, 4)
    mask = rng.random([6, 5]) < 0.7
    mask[0] = False
    found = list_statistics(*map(tf.constant, (candidates, history, mask)))
    assert found.shape == (6, 3, 2 * columns)
    for row, number, column in np.ndindex(6, 3, columns):
        ours = set(candidates[row, number, column]) - {0}
        pasts = [set(past[column]) - {0} for past, real in zip(history[row], mask[row], strict=True) if real]
        share = np.mean([len(ours & past) / len(ours) for past in pasts]) if ours and pasts else 0.0
        np.testing.assert_allclose(found[row, number, column::columns], [share, np.sqrt(share)], rtol=1e-5, atol=1e-6)


def test_mean_embeddings_equal_a_loop(precision):
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 5, 3, 4)
    with precision_policy(precision):
        table = tf.keras.layers.Embedding(7, 3)
        means = mean_embeddings(table, tf.constant(codes))
    rows = table.embeddings.numpy()
    for place in np.ndindex(5, 3):
        known = codes[place][codes[place] > 0]
        expected = rows[known].mean(axis=0) if len(known) else np.zeros(3)
        np.testing.assert_allclose(means[place], expected, atol=1e-6 if precision == "float32" else 2e-3)


def test_a_ranker_learns_whose_tags_are_liked():
    """Clicks follow one tag, and the tags that candidate and history share; without the column nothing can be known."""
    rng = np.random.default_rng(1)
    items = tagged(rng)
    train, test = batch_of(rng, 8192), batch_of(rng, 4096)
    sets = {item: set(text.split(b"|")) - {b""} for item, text in zip(IDS, items.columns["tags"], strict=True)}

    def clicks(batch):
        odds = []
        for item, history in zip(batch["item_id"].numpy(), batch["history_item_ids"].numpy(), strict=True):
            pasts = [sets.get(past, set()) for past in history if past]
            shared = np.mean([len(sets[item] & past) for past in pasts]) if pasts else 0
            odds.append(2 * shared + 2 * (b"red" in sets[item]) - 2)
        return (rng.random(len(odds)) < 1 / (1 + np.exp(-np.array(odds)))).astype(int)

    answers, areas = clicks(test), {}
    for columns in ((), ("tags",)):
        tf.keras.utils.set_random_seed(0)
        ranker = new_ranker(plan_of(items, columns))
        compile_with_adam(ranker, 1e-2)
        data = tf.data.Dataset.from_tensor_slices({**train, "clicked": clicks(train)}).batch(1024)
        ranker.fit(data, epochs=3, verbose=0)
        areas[columns] = auc(answers, ranker.answer(test).numpy())
    assert areas["tags",] > 0.75 > 0.6 > areas[()]


def test_lists_are_saved_served_and_passed_on(tmp_path):
    """To the next ranker too, whose catalogue has another vocabulary and one more column."""
    rng = np.random.default_rng(2)
    items, batch = tagged(rng), batch_of(rng)
    made = plan_of(items)
    ranker = new_ranker(made)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.3))
    answers = ranker.answer(batch).numpy()
    save_ranker(ranker, made, tmp_path / "ranker")
    np.testing.assert_array_equal(load_ranker(tmp_path / "ranker").answer(batch), answers)
    pairs = {**batch, "item_id": tf.stack([batch["item_id"], batch["item_id"][::-1]], axis=1)}
    np.testing.assert_allclose(ranker.rank(pairs)[:, 0], answers, rtol=1e-5)
    genres = np.array([b"drama|" + text for text in items.columns["tags"]], object)
    more = dataclasses.replace(items, columns={**items.columns, "genres": genres})
    later = plan_of(more, ("genres", "tags"))
    following = new_ranker(later)
    warm_start(following, later, ranker, made, transferable=False)
    # The attention's hidden layer has new inputs of weight 0; the lists themselves keep their embeddings.
    np.testing.assert_allclose(following.answer(batch), answers, rtol=1e-4)


def test_a_ranker_without_lists_and_numbers_has_the_weights_of_version_0_14(tmp_path):
    """So that a daily run goes on after an update. A file that does not fit is refused in a line."""
    made = plan_of(tagged(np.random.default_rng(0)), ())
    ranker = new_ranker(made)
    assert [weight.name for weight in ranker.lookup.weights] == ["codes:0", "repeats:0"]
    save_ranker(ranker, made, tmp_path / "ranker")
    other = plan_of(tagged(np.random.default_rng(0)), ("tags",))
    new_ranker(other).save_weights(str(tmp_path / "ranker" / "ranker.weights.h5"))
    with pytest.raises(RankingError, match="does not fit this version of the code: train the ranker again"):
        load_ranker(tmp_path / "ranker")
