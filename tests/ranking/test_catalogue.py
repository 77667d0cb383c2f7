"""Codes of known, cold and unknown items; what vocabularies may know; hashed ids."""

import numpy as np
import tensorflow as tf

from courier_tf.ranking.catalogue import ITEM, Catalogue, CatalogueLookup, ValueCodes
from courier_tf.ranking.model import Ranker
from courier_tf.ranking.ranker_files import load_ranker, new_ranker, save_ranker
from courier_tf.ranking.train_span import train_users
from tests.ranking.shop import NOW, catalogue, features, items, plan, write_impressions


def test_codes_of_known_cold_and_unknown_items():
    made = catalogue()
    assert made.names == (ITEM, "column/category") and made.sizes == (3, 3)
    lookup = CatalogueLookup(made)
    rows = lookup(tf.constant([[b"a", b"b", b"c"], [b"d", b"never seen", b""]]))
    found, repeats = (tf.gather(table, rows).numpy() for table in (lookup.codes, lookup.repeats))
    np.testing.assert_array_equal(found, [[[1, 1], [2, 2], [0, 1]], [[0, 0], [0, 0], [0, 0]]])
    # Repeats are only compared: the later item's value has a number, too; an empty value has none.
    assert repeats[0, 0] == repeats[0, 1] > 0 and repeats[0, 2] == 0 and repeats[1, 0] > 0
    np.testing.assert_array_equal(repeats[1, 1:], 0)


def test_the_category_is_always_among_the_columns():
    assert catalogue(columns=()).names == catalogue().names
    assert catalogue(columns=("product",)).names == (ITEM, "column/category", "column/product")


def test_vocabularies_do_not_see_later_items():
    changed = {**items().columns, "category": np.array([b"x", b"y", b"x", b"zzz"], object)}
    later = Catalogue.of(items(columns=changed), ["category"], NOW)
    assert later.sizes == catalogue().sizes
    np.testing.assert_array_equal(later.codes, catalogue().codes)


def test_columns_may_have_any_name():
    """A shop's own column `item` is a column like any other."""
    columns = {**items().columns, "item": np.array([b"x", b"y", b"x", b"y"], object)}
    made = Catalogue.of(items(columns=columns), ["item"], NOW)
    assert made.names == (ITEM, "column/category", "column/item")
    np.testing.assert_array_equal(made.codes[:3], [[1, 1, 1], [2, 2, 2], [0, 1, 1]])
    new_ranker(plan(with_catalogue=made))


def test_hashed_items_keep_cold_ones_apart_and_need_no_vocabulary():
    made = catalogue(buckets=5)
    assert made.sizes[0] == 6 and not len(made.vocabularies[ITEM])
    codes = made.codes[:, 0]
    assert (codes[:2] > 0).all() and (codes[:2] <= 5).all() and not codes[2:].any()
    np.testing.assert_array_equal(codes[:2], ValueCodes(np.array([], object), 5)(tf.constant([b"a", b"b"])))


def test_hashed_users_have_a_row_of_few():
    hashed = ValueCodes(np.array([], object), 7)
    codes = hashed(tf.constant([f"u{n}" for n in range(1000)])).numpy()
    assert set(codes) == set(range(1, 8)) and hashed.size == 8
    ranker = Ranker(*plan(with_catalogue=catalogue(buckets=5), users=np.array([], object), user_buckets=7))
    assert len(ranker.tables) == 1, "no table of users is kept"


def test_a_log_may_leave_no_user_with_an_embedding_of_its_own(tmp_path):
    """As where nobody has `rank_min_user_page_views` page views."""
    nobody = np.array([], object)
    np.testing.assert_array_equal(ValueCodes(nobody)(tf.constant([b"a", b"b"])), [0, 0])
    made = plan(users=nobody)
    ranker = new_ranker(made)
    save_ranker(ranker, made, tmp_path)
    batch = features(np.random.default_rng(0))
    rows = {name: batch[name] for name in ranker.call_features}
    np.testing.assert_array_equal(load_ranker(tmp_path).answer(rows), ranker.answer(rows))


def test_an_item_that_was_shown_and_never_clicked_is_no_unknown_one():
    """Else all training rows of the unknown item were negative, and a new item would seem to be never clicked."""
    shown, clicked = np.array([9, 3, 2, 0]), np.array([5, 1, 0, 0])
    assert catalogue(train_impressions=shown, train_events=clicked).codes[:, 0].tolist() == [1, 2, 3, 0, 0]


def test_items_that_were_shown_rarely_have_no_embedding_of_their_own():
    for buckets in (0, 5):
        made = Catalogue.of(items(), ["category"], NOW, hash_buckets=buckets, min_impressions=5)
        assert made.codes[0, 0] > 0 and not made.codes[1:, 0].any()
        np.testing.assert_array_equal(made.codes[:, 1], [1, 2, 1, 0, 0])  # The category is known of all.
    assert Catalogue.of(items(), ["category"], NOW, min_impressions=5).vocabularies[ITEM].tolist() == [b"a"]


def test_users_of_few_page_views_are_unknown(tmp_path):
    users = np.array([b"u1"] * 4 + [b"u2"] * 5 + [b"u3"] * 3, object)  # Page views are four rows each.
    batch = features(np.random.default_rng(0), len(users))
    write_impressions(tmp_path, "train", {**batch, "user_id": tf.constant(users)})
    assert train_users(tmp_path).tolist() == [b"u1", b"u2", b"u3"]
    assert train_users(tmp_path, min_page_views=2).tolist() == [b"u2"]
    assert train_users(tmp_path, min_page_views=3).tolist() == []
