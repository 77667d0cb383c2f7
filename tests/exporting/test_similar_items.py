"""The served similar items by graph and session, against NumPy."""

import numpy as np
import pytest

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
