"""Columns of users: their table, the lookup inside the model, and that a ranker learns from them and keeps them."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.ranking.columns import Columns
from courier_tf.ranking.data import RankingError
from courier_tf.ranking.metrics import auc
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.user_columns import UserColumns, UserTable, useful_columns
from courier_tf.ranking.warm_start import warm_start
from courier_tf.training import compile_with_adam
from courier_tf.workdir.records import Users
from tests.ranking.shop import features, plan

COUNTRIES = [b"de", b"fr", b""]
NUMBER = 40


def users_of(rng, countries=COUNTRIES, **columns) -> Users:
    ages = np.array([b"" if n % 7 == 6 else b"%d" % age for n, age in enumerate(rng.integers(15, 80, NUMBER))], object)
    ids = np.array([b"u%02d" % n for n in range(NUMBER)], object)
    return Users(ids, {"country": rng.choice(countries, NUMBER).astype(object), "age": ages, **columns})


def table_of(users, trained=None, columns=("country",)):
    return UserTable.of(users, np.ones(NUMBER, bool) if trained is None else trained, columns, ["age"])


def batch_of(rng, users, rows=64):
    batch = {name: value for name, value in features(rng, rows).items() if name != "clicked"}
    return batch | {"user_id": tf.constant(rng.choice([*users.ids, b"nobody"], rows).astype(object))}


@pytest.mark.parametrize("seed", range(5))
def test_inputs_equal_numpy(seed):
    """Codes and ranks by the users of the train span; a user whom nobody knows has what a missing value has."""
    rng = np.random.default_rng(seed)
    users, trained = users_of(rng, countries=[*COUNTRIES, b"at"]), rng.random(NUMBER) < 0.6
    trained &= users.columns["country"] != b"at"
    layer = UserColumns(table_of(users, trained), dim=3)
    asked = rng.choice([*users.ids, b"nobody", b""], 50).astype(object)
    shown = rng.integers(0, 2, 50).astype(np.int32)
    made = layer(tf.constant(asked), tf.constant(shown)).numpy()
    (table,) = (embedding.embeddings.numpy() for embedding in layer.inputs.embeddings)
    vocabulary = sorted(set(users.columns["country"][trained]))
    ages = np.array([float(age) for age in users.columns["age"][trained] if age])
    for row in range(50):
        country, age = b"", b""
        if shown[row] and asked[row] in users.ids:
            (place,) = np.flatnonzero(users.ids == asked[row])
            country, age = users.columns["country"][place], users.columns["age"][place]
        code = 1 + vocabulary.index(country) if country in vocabulary else 0
        rank = [np.mean(ages < float(age)) + np.mean(ages <= float(age)) - 1, 1.0] if age else [0.0, 0.0]
        np.testing.assert_allclose(made[row], [*table[code], *rank], rtol=1e-5, atol=1e-6)


def test_without_names_the_useful_columns_are_taken():
    rng = np.random.default_rng(0)
    users = users_of(
        rng, name=np.array([b"name %d" % n for n in range(NUMBER)], object), one=np.full(NUMBER, b"x", object)
    )
    assert list(table_of(users, columns=()).columns.vocabularies) == ["country"]
    assert useful_columns({"few": np.array([b"a", b"b"] * 3, object)}) == ["few"]


def test_what_is_no_number_is_refused_also_after_the_train_span():
    users = users_of(np.random.default_rng(0))
    users.columns["age"][3] = b"old"
    with pytest.raises(RankingError, match="rank_user_number_columns: the column age holds 'old'"):
        table_of(users, trained=np.arange(NUMBER) > 10)


def test_a_table_of_other_users_is_refused_where_its_columns_are_named():
    users, nobody = users_of(np.random.default_rng(0)), np.zeros(NUMBER, bool)
    with pytest.raises(RankingError, match="none of the 40 users of the table is in the train span"):
        table_of(users, trained=nobody)
    assert UserTable.of(users, nobody, (), ()).columns.names == ()


@pytest.mark.slow
def test_a_ranker_learns_of_users_it_has_never_seen():
    """Clicks follow the country alone. The users of the test are others, so that their ids tell nothing."""
    rng = np.random.default_rng(1)
    users = users_of(rng)
    batch = batch_of(rng, users, 8192)
    country = dict(zip(users.ids, users.columns["country"], strict=True))
    odds = {b"de": 1.5, b"fr": -1.5, b"": 0.0}
    clicked = rng.random(8192) < 1 / (
        1 + np.exp(-np.array([odds[country.get(u, b"")] for u in batch["user_id"].numpy()]))
    )
    train = batch["user_id"].numpy() < b"u20"
    train |= batch["user_id"].numpy() == b"nobody"
    data = {name: tf.boolean_mask(value, train) for name, value in {**batch, "clicked": clicked.astype(int)}.items()}
    areas = {}
    for table in (UserTable(), table_of(users, users.ids < b"u20")):
        tf.keras.utils.set_random_seed(0)
        ranker = new_ranker(plan(users=users.ids[:20])._replace(user_table=table))
        compile_with_adam(ranker, 1e-2)
        ranker.fit(tf.data.Dataset.from_tensor_slices(data).batch(256), epochs=2, verbose=0)
        areas[bool(table.columns.names)] = auc(clicked[~train].astype(int), ranker.answer(batch).numpy()[~train])
    assert areas[True] > 0.68 > 0.6 > areas[False]


def test_columns_are_saved_and_passed_on(tmp_path):
    """To the next ranker too, whose table has other users, one more country and one more column."""
    rng = np.random.default_rng(2)
    users = users_of(rng)
    made, batch = plan("cluster_id")._replace(user_table=table_of(users)), batch_of(rng, users)
    ranker = new_ranker(made)
    for weight in ranker.trainable_weights:
        weight.assign(rng.normal(size=weight.shape, scale=0.4))
    answers = ranker.answer(batch).numpy()
    other = ranker.answer({**batch, "user_id": tf.fill([64], "nobody")}).numpy()
    assert np.abs(answers - other).max() > 1e-2
    pairs = {**batch, "item_id": batch["item_id"][:, None]}
    np.testing.assert_allclose(ranker.rank(pairs)[:, 0], answers, rtol=1e-4)
    save_ranker(ranker, made, tmp_path / "ranker")
    np.testing.assert_array_equal(load_ranker(tmp_path / "ranker").answer(batch), answers)
    more = Users(
        np.append(users.ids, b"z"),
        {
            "at": np.append(np.full(NUMBER, b"1", object), b"2"),
            "country": np.append(users.columns["country"], b"at"),
            "age": np.append(users.columns["age"], b""),
        },
    )
    table = UserTable.of(more, np.ones(NUMBER + 1, bool), ["at", "country"], ["age"])
    later = made._replace(user_table=table)
    following = new_ranker(later)
    warm_start(following, later, ranker, made, transferable=True)
    np.testing.assert_allclose(following.answer(batch), answers, rtol=1e-4)


def test_a_ranker_without_columns_of_users_has_no_layer_for_them():
    assert new_ranker(plan()).user_columns is None and UserTable().columns == Columns()
