"""The served similar items by graph and session, against NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel
from serving.client import contract
from serving.client.contract import RowStatus
from tests.served_shop import BARE, DIM, IDS


@pytest.fixture(scope="module")
def similar(shop):
    return GraphModel(shop.workdir / "models" / contract.SIMILAR_ITEMS / "1")


def test_similar_items_by_numpy(similar, vectors):
    ids = np.array(IDS[:-1])
    answers = similar(item_id=np.array([b"i003", b"nothing", BARE.encode()], object))
    assert answers["status"].tolist() == [RowStatus.OK, RowStatus.UNKNOWN_ITEM, RowStatus.UNKNOWN_ITEM]
    cosine = vectors @ vectors[3]
    cosine[3] = -np.inf
    order = np.argsort(-cosine, kind="stable")[:50]
    np.testing.assert_allclose(answers["similarity"][0], cosine[order], atol=1e-5)
    agree = answers["item_ids"][0] == np.char.encode(ids[order])
    assert agree.mean() > 0.9 and b"i003" not in answers["item_ids"][0]  # Equal cosines may change places.
    assert (answers["item_ids"][1:] == b"").all() and (answers["similarity"][1:] == 0).all()


def test_similar_items_by_photo_and_by_embedding(shop, similar, vectors):
    photo = records.read_photos(shop.stages.ingest.path, {b"i007"})[b"i007"]
    by_photo = similar.run(contract.BY_PHOTO, {"photos": np.array([photo, b"junk"], object)})
    assert by_photo["status"].tolist() == [RowStatus.OK, RowStatus.UNKNOWN_FORMAT]
    assert by_photo["item_ids"][0, 0] == b"i007" and by_photo["similarity"][0, 0] == pytest.approx(1, abs=1e-5)
    bad = np.zeros([3, DIM], np.float32)
    bad[1, 2], bad[2, 0] = np.nan, np.inf
    query = np.concatenate([5 * vectors[7:8], bad])
    answers = similar.run(contract.BY_EMBEDDING, {"embedding": query})
    assert answers["status"].tolist() == [RowStatus.OK] + [RowStatus.NO_DIRECTION] * 3
    np.testing.assert_allclose(answers["similarity"][0], by_photo["similarity"][0], atol=1e-5)
    assert np.isfinite(answers["similarity"]).all()


def test_a_large_request_is_answered_in_parts(similar):
    """Rows after the 64th get their own answers, and more than the limit are refused in one line."""
    chosen = np.random.default_rng(0).integers(0, len(IDS) - 1, 150)
    together = similar(item_id=np.array([IDS[n].encode() for n in chosen], object))
    alone = [similar(item_id=np.array([IDS[n].encode()], object)) for n in range(len(IDS) - 1)]
    for name, values in together.items():
        expected = np.concatenate([alone[n][name] for n in chosen])
        if name == "similarity":
            np.testing.assert_allclose(values, expected, atol=1e-6)
        elif name != "item_ids":  # Equal cosines may change places.
            np.testing.assert_array_equal(values, expected)
    assert (together["item_ids"] == np.concatenate([alone[n]["item_ids"] for n in chosen])).mean() > 0.9
    none = similar(item_id=np.zeros([0], object))
    assert {name: value.shape for name, value in none.items()} == {
        name: (0, *value.shape[1:]) for name, value in together.items()
    }
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"more than 1024 rows:\] \[1025\]"):
        similar(item_id=np.full([1025], b"i001", object))
