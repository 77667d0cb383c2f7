"""The served embedder by graph and session, against the trained encoder and against NumPy."""

import struct
import zlib

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf.clusters.files import TABLE_FILE
from courier_tf.images import MAX_PIXELS
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel
from serving.client import contract
from serving.client.contract import RowStatus
from tests.served_shop import DIM, SIZE, STAYS, png


@pytest.fixture(scope="module")
def embedder(shop):
    return GraphModel(shop.workdir / "models" / contract.IMAGE_EMBEDDER / "1")


def png_that_claims(width, height):
    """A PNG whose header promises pixels that do not come."""
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 9)), (b"IEND", b"")]
    parts = [
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body)) for kind, body in chunks
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def jpeg_that_claims(width, height):
    """A JPEG with another size in its frame header."""
    encoded = tf.io.encode_jpeg(np.zeros([8, 8, 3], np.uint8)).numpy()
    place = encoded.index(b"\xff\xc0") + 5
    return encoded[:place] + struct.pack(">HH", height, width) + encoded[place + 4 :]


def test_a_broken_photo_costs_its_own_row(shop, embedder, vectors):
    photo = records.read_photos(shop.stages.ingest.path, {b"i004"})[b"i004"]
    jpeg = tf.io.encode_jpeg(np.full([30, 20, 3], 90, np.uint8)).numpy()
    wide = MAX_PIXELS // 1000
    rows = [
        (photo, RowStatus.OK),
        (b"", RowStatus.EMPTY),
        (b"GIF89a" + bytes(50), RowStatus.UNKNOWN_FORMAT),
        (photo[:60], RowStatus.BROKEN),
        (photo[:18], RowStatus.BROKEN),
        (jpeg[:25], RowStatus.BROKEN),
        (b"\xff\xd8\xff", RowStatus.BROKEN),
        (png_that_claims(60_000, 60_000), RowStatus.TOO_LARGE),
        (png_that_claims(wide + 1, 1000), RowStatus.TOO_LARGE),
        (png_that_claims(2**31, 1), RowStatus.BROKEN),
        (png_that_claims(0, 10), RowStatus.BROKEN),
        (jpeg_that_claims(65_000, 65_000), RowStatus.TOO_LARGE),
        (jpeg, RowStatus.OK),
        (photo, RowStatus.OK),
    ]
    answers = embedder(photos=np.array([photo for photo, _ in rows], object))
    assert answers["status"].tolist() == [status for _, status in rows]
    for row in (0, len(rows) - 1):
        np.testing.assert_allclose(answers["embedding"][row], vectors[4], atol=1e-5)
    bad = answers["status"] != RowStatus.OK
    assert (answers["embedding"][bad] == 0).all() and (answers["codes"][bad] == -1).all()
    assert (answers["cluster_id"][bad] == -1).all() and (answers["cluster_id"][~bad] >= 0).all()


@pytest.mark.parametrize("photos", [[], [b"junk"]])
def test_a_batch_without_a_single_photo(embedder, photos):
    answers = embedder(photos=np.array(photos, object))
    assert answers["embedding"].shape == (len(photos), DIM) and answers["status"].tolist() == [2] * len(photos)


def test_photos_of_items_get_the_nearest_cluster_of_the_table(shop, embedder):
    """One item stays in its previous cluster: rankers know it by that one, but a photo does not tell whose it is."""
    table = pq.read_table(shop.stages.cluster.path / TABLE_FILE).to_pydict()
    names = [item.encode() for item in table["item_id"]]
    photos = records.read_photos(shop.stages.ingest.path, set(names))
    answers = embedder(photos=np.array([photos[name] for name in names], object))
    np.testing.assert_array_equal(answers["cluster_id"], table["nearest_cluster_id"])
    np.testing.assert_array_equal(answers["codes"], table["nearest_codes"])
    (differs,) = np.flatnonzero(answers["cluster_id"] != np.array(table["cluster_id"]))
    assert differs == STAYS
    ids = np.array([*names, b"unknown"], object)
    known = CatalogueVisuals.read(shop.stages.cluster.path, None, ids, np.ones(len(ids), bool))
    np.testing.assert_array_equal(known.codes[: len(names)] - 1, table["codes"])


def test_codes_by_numpy_and_pixels_like_photos(shop, embedder):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, [7, SIZE, SIZE, 3], np.uint8)
    by_pixels = embedder.run(contract.PIXELS, {"pixels": np.array([photo.tobytes() for photo in pixels], object)})
    by_photo = embedder(photos=np.array([png(photo) for photo in pixels], object))
    np.testing.assert_allclose(by_pixels["embedding"], by_photo["embedding"], atol=5e-6)
    left = by_photo["embedding"]
    codebook = np.load(shop.stages.cluster.path / "codebook.npy")
    for level, centroids in enumerate(codebook):
        code = ((left[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(by_photo["codes"][:, level], code)
        left = left - centroids[code]
    np.testing.assert_array_equal(by_photo["cluster_id"], by_pixels["codes"][:, 0])


def test_pixels_of_another_size_cost_their_own_row(embedder):
    """A server joins requests without a look at shapes: as an array, such a row would fail all the others."""
    photo = np.random.default_rng(6).integers(0, 256, [SIZE, SIZE, 3], np.uint8).tobytes()
    rows = [(photo, RowStatus.OK), (photo[:-1], RowStatus.BROKEN), (b"", RowStatus.EMPTY), (photo, RowStatus.OK)]
    rows += [(photo + b"\0", RowStatus.BROKEN), (photo * 2, RowStatus.BROKEN)]
    (shape,) = [info.tensor_shape for info in embedder.signatures[contract.PIXELS].inputs.values()]
    assert len(shape.dim) == 1, "rows of one size each cannot differ in shape"
    alone = embedder.run(contract.PIXELS, {"pixels": np.array([photo], object)})
    joined = embedder.run(contract.PIXELS, {"pixels": np.array([pixels for pixels, _ in rows], object)})
    assert joined["status"].tolist() == [status for _, status in rows]
    for row, (_, status) in enumerate(rows):
        expected = alone["embedding"][0] if status == RowStatus.OK else np.zeros(DIM)
        np.testing.assert_allclose(joined["embedding"][row], expected, atol=5e-6)
    assert (joined["codes"][joined["status"] != RowStatus.OK] == -1).all()
    nobody = embedder.run(contract.PIXELS, {"pixels": np.array([], object)})
    assert nobody["embedding"].shape == (0, DIM)
