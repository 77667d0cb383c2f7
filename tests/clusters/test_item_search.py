"""Similar items against brute force."""

import numpy as np
import pytest

from courier_tf.clusters.item_search import ItemSearch
from courier_tf.clusters.seeding import ClusterError

from .planted import planted


@pytest.mark.parametrize(("number", "block"), [(1, 143), (7, 143), (30, 20), (720, 143)])
def test_exact_search_equals_brute_force(monkeypatch, number, block):
    """Blocks that do not divide the items, smaller than what is asked for; all items."""
    monkeypatch.setattr("courier_tf.clusters.item_search.COLUMNS", block)
    monkeypatch.setattr("courier_tf.clusters.item_search.QUERIES", 8)
    points, _ = planted()
    queries = points[:30]
    nearest_items, cosine = ItemSearch(points)(queries, number)
    for query, items, values in zip(queries, nearest_items, cosine, strict=True):
        table = points.astype(float) @ query.astype(float)
        np.testing.assert_allclose(values, np.sort(table)[::-1][:number], atol=1e-6)
        np.testing.assert_allclose(table[items], values, atol=1e-6)
        assert len(set(items)) == number


def test_scann_finds_nearly_all_of_them():
    points, _ = planted(clusters=400, each=30, dim=32)
    queries = points[::40]
    exact = ItemSearch(points)(queries, 10)[0]
    nearest_items, cosine = ItemSearch(points, "scann")(queries, 10)
    kept = [len(set(a) & set(b)) / 10 for a, b in zip(exact, nearest_items, strict=True)]
    assert np.mean(kept) > 0.95
    np.testing.assert_allclose(cosine, np.einsum("qnd,qd->qn", points[nearest_items], queries), atol=1e-5)
    with pytest.raises(ClusterError, match="needs 10000 items or more, but there are 99"):
        ItemSearch(points[:99], "scann")
