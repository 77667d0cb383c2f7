"""The three SavedModels by graph and session, against the trained parts and against NumPy."""

import struct
import zlib

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.images import MAX_PIXELS
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.ranking.ranker_files import load_ranker
from courier_tf.workdir import records
from serving.bundle.graph_model import GraphModel
from serving.bundle.stock_ops import StockOpsError, require_stock_ops
from serving.client import contract
from serving.client.contract import RowStatus
from tests.served_shop import BARE, DIM, HISTORY, IDS, SIZE, png


@pytest.fixture(scope="module")
def embedder(shop):
    return GraphModel(shop.workdir / "models" / contract.IMAGE_EMBEDDER / "1")


@pytest.fixture(scope="module")
def similar(shop):
    return GraphModel(shop.workdir / "models" / contract.SIMILAR_ITEMS / "1")


@pytest.fixture(scope="module")
def vectors(shop):
    """[N, D] embeddings of all items that have a photo, by the encoder as it was trained."""
    photos = records.read_photos(shop.stages.ingest.path, {item.encode() for item in IDS[:-1]})
    embedder = Embedder(shop.stages.pretrain.path / "encoder", SIZE)
    return embedder.embed(tf.constant([photos[item.encode()] for item in IDS[:-1]]))["embedding"].numpy()


def asked(rows=6, candidates=None, seed=0):
    """Features with known and unknown ids, padding, and an empty history."""
    rng = np.random.default_rng(seed)
    ids = np.array([*(item.encode() for item in IDS), b"unknown", b""], object)
    history = rng.choice(ids, [rows, HISTORY])
    history[0] = b""
    return {
        "user_id": rng.choice(np.array([b"u1", b"u2", b"nobody"], object), rows),
        "history_item_ids": history,
        "item_id": rng.choice(ids[:-1], rows if candidates is None else [rows, candidates]),
    }


def examples(features):
    """The same as serialised tf.Example."""
    found = []
    for row in range(len(features["user_id"])):
        example = tf.train.Example()
        for name, value in features.items():
            example.features.feature[name].bytes_list.value.extend(np.atleast_1d(value[row]))
        found.append(example.SerializeToString())
    return np.array(found, object)


def test_probabilities_are_those_of_the_trained_ranker(shop, ranker):
    features = asked(20)
    moved = [sorted(row, key=lambda item: item == b"") for row in features["history_item_ids"]]  # Padding at the end.
    trained = load_ranker(shop.stages.ranker)
    inputs = {**features, "history_item_ids": np.array(moved, object)}
    expected = trained({name: tf.constant(value) for name, value in inputs.items()}, training=False)
    found = ranker(**features)
    np.testing.assert_allclose(found["probability"], expected, atol=5e-6)
    assert np.ptp(found["probability"]) > 0.1
    np.testing.assert_array_equal(found["model_version"], np.ones(20))


def test_history_of_any_length(ranker):
    features = asked(1)
    history = np.array([[item.encode() for item in IDS[:10]]], object)
    values = [
        ranker(**{**features, "history_item_ids": given})["probability"][0]
        for given in (history, history[:, -HISTORY:], np.zeros([1, 0], object), np.array([[b""]], object))
    ]
    assert values[0] == pytest.approx(values[1], abs=5e-6) and values[2] == pytest.approx(values[3], abs=5e-6)
    assert abs(values[0] - values[2]) > 1e-3


def test_what_is_unknown_shares_one_embedding(ranker):
    features = {"user_id": [b"nobody", b"no one"], "history_item_ids": [[b"?"], [b"!"]], "item_id": [b"x", b""]}
    first, second = ranker(**features)["probability"]
    assert first == second and 0 < first < 1


def test_rank_gives_what_the_pairs_give(ranker):
    features = asked(4, candidates=9)
    features["item_id"][1, 5:] = b""
    found = ranker.run(contract.RANK, features)
    for row in range(4):
        pairs = {name: np.repeat(features[name][row : row + 1], 9, axis=0) for name in ("user_id", "history_item_ids")}
        expected = ranker(**pairs, item_id=features["item_id"][row])["probability"]
        expected[features["item_id"][row] == b""] = 0
        np.testing.assert_allclose(found["probability"][row], expected, atol=5e-6)
    assert (found["probability"][1, 5:] == 0).all() and found["model_version"].tolist() == [1] * 4


def test_requests_joined_into_a_batch_get_their_own_answers(ranker):
    """As TF Serving joins them: every input padded with its own first id to the longest, the answers cut by rows."""
    one, other = asked(2, candidates=3, seed=1), asked(3, candidates=8, seed=2)
    one["history_item_ids"] = np.array([[b"", b"i001"], [b"i002", b"i003"]], object)  # The first is empty: see README.
    joined = {"user_id": np.concatenate([one["user_id"], other["user_id"]])}
    for name in ("history_item_ids", "item_id"):
        width = max(one[name].shape[1], other[name].shape[1])
        padded = [
            np.pad(part[name], [(0, 0), (0, width - part[name].shape[1])], constant_values=part[name].flat[0])
            for part in (one, other)
        ]
        joined[name] = np.concatenate(padded)
    found = ranker.run(contract.RANK, joined)["probability"]
    np.testing.assert_allclose(found[:2, :3], ranker.run(contract.RANK, one)["probability"], atol=5e-6)
    np.testing.assert_allclose(found[2:], ranker.run(contract.RANK, other)["probability"], atol=5e-6)


def test_ten_thousand_candidates_and_one_too_many(ranker):
    features = asked(1, candidates=contract.MAX_CANDIDATES)
    assert ranker.run(contract.RANK, features)["probability"].shape == (1, contract.MAX_CANDIDATES)
    features["item_id"] = np.tile(features["item_id"], [1, 2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 10000 candidates"):
        ranker.run(contract.RANK, features)


def test_examples_classify_and_regress(ranker):
    features = asked(5)
    expected = ranker(**features)["probability"]
    inputs = {"inputs": examples(features)}
    np.testing.assert_allclose(ranker.run(contract.EXAMPLES, inputs)["probability"], expected, atol=5e-6)
    np.testing.assert_allclose(ranker.run(contract.REGRESS, inputs)["outputs"], expected, atol=5e-6)
    classified = ranker.run(contract.CLASSIFY, inputs)
    assert classified["classes"].tolist() == [[b"0", b"1"]] * 5
    np.testing.assert_allclose(classified["scores"], np.stack([1 - expected, expected], axis=1), atol=5e-6)
    methods = {
        name: ranker.signatures[name].method_name for name in (contract.CLASSIFY, contract.REGRESS, contract.RANK)
    }
    assert methods == {
        name: f"tensorflow/serving/{m}" for name, m in zip(methods, ("classify", "regress", "predict"), strict=True)
    }


def test_an_example_may_lack_user_and_history_but_not_the_item(ranker):
    item = examples({"user_id": [b""], "item_id": [b"i001"]})
    bare = tf.train.Example.FromString(item[0])
    del bare.features.feature["user_id"]
    found = ranker.run(contract.EXAMPLES, {"inputs": [bare.SerializeToString()]})["probability"]
    expected = ranker(user_id=[b"nobody"], history_item_ids=[[b""]], item_id=[b"i001"])["probability"]
    np.testing.assert_allclose(found, expected, atol=5e-6)
    del bare.features.feature["item_id"]
    with pytest.raises(tf.errors.InvalidArgumentError, match="item_id"):
        ranker.run(contract.EXAMPLES, {"inputs": [bare.SerializeToString()]})


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
    found = embedder(photos=np.array([photo for photo, _ in rows], object))
    assert found["status"].tolist() == [status for _, status in rows]
    for row in (0, len(rows) - 1):
        np.testing.assert_allclose(found["embedding"][row], vectors[4], atol=1e-5)
    bad = found["status"] != RowStatus.OK
    assert (found["embedding"][bad] == 0).all() and (found["codes"][bad] == -1).all()
    assert (found["cluster_id"][bad] == -1).all() and (found["cluster_id"][~bad] >= 0).all()


@pytest.mark.parametrize("photos", [[], [b"junk"]])
def test_a_batch_without_a_single_photo(embedder, photos):
    found = embedder(photos=np.array(photos, object))
    assert found["embedding"].shape == (len(photos), DIM) and found["status"].tolist() == [2] * len(photos)


def test_codes_by_numpy_and_pixels_like_photos(shop, embedder):
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, [7, SIZE, SIZE, 3], np.uint8)
    by_pixels = embedder.run(contract.PIXELS, {"pixels": pixels})
    by_photo = embedder(photos=np.array([png(one) for one in pixels], object))
    np.testing.assert_allclose(by_pixels["embedding"], by_photo["embedding"], atol=5e-6)
    left = by_photo["embedding"]
    codebook = np.load(shop.stages.cluster.path / "codebook.npy")
    for level, centroids in enumerate(codebook):
        code = ((left[:, None] - centroids) ** 2).sum(axis=2).argmin(axis=1)
        np.testing.assert_array_equal(by_photo["codes"][:, level], code)
        left = left - centroids[code]
    np.testing.assert_array_equal(by_photo["cluster_id"], by_pixels["codes"][:, 0])


def test_similar_items_by_numpy(similar, vectors):
    ids = np.array(IDS[:-1])
    found = similar(item_id=np.array([b"i003", b"nothing", BARE.encode()], object))
    assert found["status"].tolist() == [RowStatus.OK, RowStatus.UNKNOWN_ITEM, RowStatus.UNKNOWN_ITEM]
    cosine = vectors @ vectors[3]
    cosine[3] = -np.inf
    order = np.argsort(-cosine, kind="stable")[:50]
    np.testing.assert_allclose(found["similarity"][0], cosine[order], atol=1e-5)
    agree = found["item_ids"][0] == np.char.encode(ids[order])
    assert agree.mean() > 0.9 and b"i003" not in found["item_ids"][0]  # Equal cosines may change places.
    assert (found["item_ids"][1:] == b"").all() and (found["similarity"][1:] == 0).all()


def test_similar_items_by_photo_and_by_embedding(shop, similar, vectors):
    photo = records.read_photos(shop.stages.ingest.path, {b"i007"})[b"i007"]
    by_photo = similar.run(contract.BY_PHOTO, {"photos": np.array([photo, b"junk"], object)})
    assert by_photo["status"].tolist() == [RowStatus.OK, RowStatus.UNKNOWN_FORMAT]
    assert by_photo["item_ids"][0, 0] == b"i007" and by_photo["similarity"][0, 0] == pytest.approx(1, abs=1e-5)
    bad = np.zeros([3, DIM], np.float32)
    bad[1, 2], bad[2, 0] = np.nan, np.inf
    query = np.concatenate([5 * vectors[7:8], bad])
    found = similar.run(contract.BY_EMBEDDING, {"embedding": query})
    assert found["status"].tolist() == [RowStatus.OK] + [RowStatus.NO_DIRECTION] * 3
    np.testing.assert_allclose(found["similarity"][0], by_photo["similarity"][0], atol=1e-5)
    assert np.isfinite(found["similarity"]).all()


def test_stock_ops_alone(shop, tmp_path):
    """All three were checked before they appeared; a foreign op is named."""
    module = tf.Module()
    module.call = tf.function(lambda x: x + 1.0, [tf.TensorSpec([None], tf.float32)])
    tf.saved_model.save(module, str(tmp_path))
    file = tmp_path / "saved_model.pb"
    file.write_bytes(file.read_bytes().replace(b"AddV2", b"Sc>an"))
    with pytest.raises(StockOpsError, match="lacks: Sc>an"):
        require_stock_ops([shop.workdir / "models" / contract.CTR_RANKER / "1", tmp_path])
