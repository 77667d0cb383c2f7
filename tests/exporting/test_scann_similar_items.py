"""`similar_items` by ScaNN: the answers of exact search but for a few, apart from what a stock server loads."""

import shutil

import numpy as np
import pytest
import scann  # noqa: F401  (its ops)
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from courier_tf import schema
from courier_tf.clusters.seeding import ClusterError
from courier_tf.exporting import scann_similar_items
from courier_tf.exporting.export import export
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.scann_similar_items import ServedScannSimilarItems
from courier_tf.pretrain.frozen_encoder import FrozenEncoder, save_module
from serving.bundle.configuration import MODELS_CONFIG, SCANN_CONFIG
from serving.bundle.stock_ops import StockOpsError, require_stock_ops
from serving.client import contract
from serving.client.contract import RowStatus
from tests.served_shop import BARE, DIM, IDS, SIZE

NUMBER = 10_500


@pytest.fixture(scope="module")
def points():
    vectors = np.random.default_rng(0).normal(size=[NUMBER, DIM]).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def saved(shop, points, tmp_path_factory):
    """(Directory of the SavedModel, its signatures as loaded)."""
    encoder = FrozenEncoder(shop.stages.pretrain.path / "encoder", SIZE)
    ids = np.array([f"p{number}".encode() for number in range(NUMBER)], object)
    served = ServedScannSimilarItems(encoder, ids, points, version=3)
    # All leaves may fall short by a little: the candidates that are ranked again are limited, too.
    assert served.recall >= scann_similar_items.RECALL - 0.01
    folder = tmp_path_factory.mktemp("scann") / "1"
    save_module(served, served.signatures, folder)
    return folder, tf.saved_model.load(str(folder))


def test_answers_are_nearly_those_of_numpy(saved, points):
    model = saved[1].signatures
    chosen = np.arange(0, NUMBER, 211)
    cosine = points[chosen] @ points.T
    cosine[np.arange(len(chosen)), chosen] = -np.inf
    nearest = np.argsort(-cosine, axis=1)[:, :50]
    answers = model["serving_default"](item_id=tf.constant([f"p{number}" for number in chosen]))
    rows = np.array([[int(item[1:]) for item in row] for row in answers["item_ids"].numpy()])
    assert (rows != chosen[:, None]).all(), "an item is not similar to itself"
    recall = np.mean([len(set(a) & set(b)) / 50 for a, b in zip(rows, nearest, strict=True)])
    assert recall > 0.95
    expected = np.take_along_axis(cosine, rows, axis=1)
    np.testing.assert_allclose(answers["similarity"], expected, atol=1e-5)
    assert (np.diff(answers["similarity"].numpy()) <= 0).all() and set(answers["model_version"].numpy()) == {3}
    by_embedding = model["by_embedding"](embedding=tf.constant(2 * points[chosen]))
    assert [row[0].decode() for row in by_embedding["item_ids"].numpy()] == [f"p{number}" for number in chosen]
    unknown = model["serving_default"](item_id=tf.constant(["nothing", "p1"]))
    assert unknown["status"].numpy().tolist() == [RowStatus.UNKNOWN_ITEM, RowStatus.OK]
    assert not unknown["similarity"].numpy()[0].any() and unknown["item_ids"].numpy()[0].tolist() == [b""] * 50


def test_a_stock_server_is_told_before_it_meets_it(saved):
    with pytest.raises(StockOpsError, match="[Ss]cann"):
        require_stock_ops([saved[0]])


@pytest.mark.slow
def test_export_keeps_it_apart(shop, tmp_path, monkeypatch):
    shutil.copytree(shop.workdir, tmp_path / "w", symlinks=True)
    workdir = tmp_path / "w"
    with pytest.raises(ClusterError, match="--scann needs 10000 items"):
        export(FinishedStages.read(workdir), workdir, scann=True)
    assert not list((workdir / schema.SCANN_MODELS_FOLDER).glob("*/*"))
    monkeypatch.setattr(scann_similar_items, "FEWEST_ITEMS", 10)
    before = (workdir / schema.BUNDLE_FOLDER / MODELS_CONFIG).read_text()
    (written,) = export(FinishedStages.read(workdir), workdir, scann=True)
    assert written == workdir / schema.SCANN_MODELS_FOLDER / contract.SIMILAR_ITEMS / "1"
    assert (workdir / schema.BUNDLE_FOLDER / MODELS_CONFIG).read_text() == before
    text = (workdir / schema.BUNDLE_FOLDER / SCANN_CONFIG).read_text()
    (config,) = text_format.Parse(text, ModelServerConfig()).model_config_list.config
    assert config.name == contract.SIMILAR_ITEMS and config.base_path == "/models_scann/similar_items"
    assert config.model_version_policy.specific.versions == [1]
    model = tf.saved_model.load(str(written)).signatures["serving_default"]
    assert model(item_id=tf.constant([IDS[0], BARE]))["status"].numpy().tolist() == [0, RowStatus.UNKNOWN_ITEM]
    assert not export(FinishedStages.read(workdir), workdir, scann=True), "unchanged"
