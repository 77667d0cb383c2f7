"""A workdir as the chain leaves it, made in a second: random weights, three clusters, a few logs."""

import io
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow_serving.apis.prediction_service_pb2_grpc import PredictionServiceStub

from beam_jobs.embed import EMBEDDING_SCHEMA
from courier_tf import schema
from courier_tf.clusters.files import CODEBOOK_FILE, TABLE_FILE, TABLE_SCHEMA
from courier_tf.exporting.export import export
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.pretrain.encoder import Encoder
from courier_tf.pretrain.encoder_files import save_encoder
from courier_tf.pretrain.frozen_encoder import Embedder
from courier_tf.ranking.architecture import Architecture
from courier_tf.ranking.catalogue import Catalogue
from courier_tf.ranking.catalogue_visuals import CatalogueVisuals
from courier_tf.ranking.ranker_files import Plan, new_ranker, save_ranker
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.artefacts import fingerprint_of_file, fingerprint_of_tree
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts, EncoderFacts, IngestFacts, RankFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER, EMBED, INGEST, PRETRAIN, RANK
from serving.bundle.graph_model import GraphModel
from serving.client import contract
from serving.local.local_server import LocalServer
from tests.servers import SERVERS, Ports, running
from tests.stage_facts import example

SIZE, DIM, HISTORY, ITEMS, MODE = 16, 8, 4, 60, "cluster_id"
STAYS = 5  # The item, among those with a photo, that stays in a cluster which is not the nearest.
KEPT = {"items_in_previous": 1, "new_items": 0, "ids_kept": 1.0, "adjusted_rand_index": 1.0}
VALID_FROM = 1000
USERS = np.array([f"u{number}".encode() for number in range(9)], object)
IDS = [f"i{number:03d}" for number in range(ITEMS)]
BARE = IDS[-1]  # The item without a photo.


class Shop(NamedTuple):
    """A workdir with an exported version of each model, and what it was made from."""

    workdir: Path
    stages: FinishedStages


def png(pixels: np.ndarray) -> bytes:
    """[H, W, 3] uint8 as a PNG file."""
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "png")
    return stream.getvalue()


def export_again(workdir: Path, servers: Sequence[str] = ()) -> list[Path]:
    """Exports the models of a workdir that have changed."""
    return export(FinishedStages.read(workdir), workdir, servers=servers)


def write_rank(workdir: Path, seed: int) -> None:
    """The rank stage: a ranker with random weights of that seed."""
    items = records.read_items(workdir / "ingest", [schema.CATEGORY])
    catalogue = Catalogue.of(items, [schema.CATEGORY], VALID_FROM)
    visual = CatalogueVisuals.read(workdir / "cluster", None, items.ids, items.in_train_span(VALID_FROM))
    plan = Plan(catalogue, USERS, visual, Architecture(("cluster_id",), 4))
    made_from = {stage: artefacts.read(workdir / stage, stage).fingerprint for stage in (INGEST, CLUSTER)}
    tf.keras.utils.set_random_seed(seed)
    with artefacts.write_aside(workdir / RANK, MadeBy(RANK, {"seed": seed}, made_from)) as draft:
        ranker = new_ranker(plan)
        for weight in ranker.trainable_variables:  # Wide, so that answers differ from row to row.
            weight.assign(np.random.default_rng(seed).normal(size=weight.shape, scale=0.4))
        save_ranker(ranker, plan, draft.path / MODE / "start_0")
        figures = {"auc": 0.6, "gauc": 0.6, "logloss": 0.5, "calibration": 1.1}
        slices = {
            "category/<b>|sale": {**figures, "impressions": 80, "positives": 30},
            "cold": {**figures, "impressions": 70, "positives": 29},
        }
        measured = {**figures, "impressions": 90, "positives": 32, "slices": slices}
        draft.facts = example(
            RankFacts, modes=("none", MODE), history_length=HISTORY, best_start={MODE: 0}, metrics={MODE: measured}
        )


def _write_ingest(workdir: Path, rng: np.random.Generator) -> dict[str, bytes]:
    photos = {item: png(rng.integers(0, 256, [SIZE, SIZE, 3], np.uint8)) for item in IDS}
    photos[BARE] = b""
    with artefacts.write_aside(workdir / INGEST, MadeBy(INGEST, {}, {})) as draft:
        partial = draft.path
        for folder in (schema.ITEMS_FOLDER, schema.IMPRESSIONS_FOLDER):
            (partial / folder).mkdir()
        with tf.io.TFRecordWriter(str(partial / schema.ITEMS_FOLDER / "items-00000-of-00001.tfrecord")) as writer:
            for number, item in enumerate(IDS):
                values = {
                    "item_id": item,
                    "image": photos[item],
                    "photo_digest": b"",
                    "title": "",
                    "available_from": number,
                }
                values |= {
                    "train_impressions": 1,
                    "train_events": 1,
                    schema.column_feature(schema.CATEGORY): f"c{number % 3}",
                }
                writer.write(records.serialise(values, records.item_features([schema.CATEGORY])))
        file = partial / schema.IMPRESSIONS_FOLDER / "valid-00000-of-00001.tfrecord"
        with tf.io.TFRecordWriter(str(file)) as writer:
            for number in range(300):
                history = list(rng.choice(IDS, rng.integers(0, 7)))
                values = {"user_id": f"u{number % 12}", "page_view_id": f"p{number // 3}", "timestamp": VALID_FROM}
                values |= {"history_item_ids": history, "item_id": rng.choice(IDS), "clicked": int(number % 3 == 0)}
                writer.write(records.serialise(values, schema.IMPRESSION_FEATURES))
        draft.facts = example(IngestFacts, valid_from_seconds=VALID_FROM)
    return photos


def make_workdir(workdir: Path) -> None:
    """All stages before the export."""
    rng = np.random.default_rng(0)
    photos = _write_ingest(workdir, rng)
    made_from = {INGEST: artefacts.read(workdir / INGEST, INGEST).fingerprint}
    tf.keras.utils.set_random_seed(0)
    with artefacts.write_aside(workdir / PRETRAIN, MadeBy(PRETRAIN, {}, made_from)) as draft:
        save_encoder(Encoder("micro", DIM), draft.path / "encoder")
        encoder = fingerprint_of_tree(draft.path / "encoder")
        draft.facts = example(EncoderFacts, encoder=encoder, embedding_dim=DIM, image_size=SIZE)
    seen = [item for item in IDS if photos[item]]
    embedder = Embedder(workdir / "pretrain" / "encoder", SIZE)
    vectors = embedder.embed(tf.constant([photos[item] for item in seen]))["embedding"].numpy()
    with artefacts.write_aside(workdir / EMBED, MadeBy(EMBED, {}, made_from)) as draft:
        (draft.path / schema.ITEMS_FOLDER).mkdir()
        rows = [
            {"item_id": item, "category": "c", "embedding": vector, "in_train_span": True, "encoder": encoder}
            for item, vector in [*zip(seen, vectors.tolist(), strict=True), (BARE, None)]
        ]
        order = rng.permutation(len(rows))
        table = pa.Table.from_pylist([rows[place] for place in order], EMBEDDING_SCHEMA)
        pq.write_table(table, draft.path / schema.ITEMS_FOLDER / "embeddings-00000-of-00001.parquet")
        draft.facts = example(EmbedFacts, encoder=encoder, image_size=SIZE)
    with artefacts.write_aside(workdir / CLUSTER, MadeBy(CLUSTER, {}, made_from)) as draft:
        partial = draft.path
        codebook = np.stack([vectors[:3], 0.1 * vectors[3:6]])
        np.save(partial / CODEBOOK_FILE, codebook)
        nearest = ((vectors[:, None] - codebook[0]) ** 2).sum(axis=2).argmin(axis=1)
        stayed = np.where(np.arange(len(seen)) == STAYS, (nearest + 1) % 3, nearest)
        table = {"item_id": seen}
        for name, cluster in (("", stayed), ("nearest_", nearest)):
            left = vectors - codebook[0][cluster]
            finer = ((left[:, None] - codebook[1]) ** 2).sum(axis=2).argmin(axis=1)
            table |= {f"{name}cluster_id": cluster, f"{name}codes": np.stack([cluster, finer], axis=1).tolist()}
        pq.write_table(pa.table(table, TABLE_SCHEMA), partial / TABLE_FILE)
        draft.facts = example(
            ClusterFacts, encoder=encoder, levels=2, embedding_dim=DIM, items_not_in_nearest=1, **KEPT
        )
    write_rank(workdir, seed=1)


@pytest.fixture(scope="session")
def shop(made_once) -> Shop:
    """Read it, copy it, do not change it."""

    def make(folder: Path) -> None:
        make_workdir(folder / "work")
        export_again(folder / "work")

    workdir = made_once("serving", make) / "work"
    return Shop(workdir, FinishedStages.read(workdir))


@pytest.fixture(scope="session")
def shop_server(shop):
    """A local server with the models of `shop`, for all tests of a process. It looks at the bundle once."""
    with LocalServer(shop.workdir / "serving", shop.workdir / "models", warm_up=False, poll_seconds=86_400) as server:
        yield server


@pytest.fixture(scope="session")
def server(shop_server):
    """The server of a module that starts none of its own."""
    return shop_server


@pytest.fixture(scope="module", params=SERVERS)
def any_server(shop, request, tmp_path_factory):
    """Where a server listens that has the models of `shop`."""
    if request.param == "local":
        server = request.getfixturevalue("shop_server")
        yield Ports(server.port, server.rest_port)
        return
    with running(request.param, shop.workdir, tmp_path_factory.mktemp("server")) as ports:
        yield ports


@pytest.fixture(scope="module")
def channel(server):
    """To the `server` of the module that asks."""
    with grpc.insecure_channel(f"localhost:{server.port}") as channel:
        yield channel


@pytest.fixture(scope="module")
def stub(channel):
    return PredictionServiceStub(channel)


@pytest.fixture(scope="module")
def url(server):
    return f"http://localhost:{server.rest_port}/v1/models"


@pytest.fixture(scope="module")
def ranker(shop):
    """What a server must answer."""
    return GraphModel(shop.workdir / "models" / contract.CTR_RANKER / "1")


@pytest.fixture(scope="module")
def vectors(shop):
    """[N, D] embeddings of all items that have a photo, by the encoder as it was trained."""
    photos = records.read_photos(shop.stages.ingest.path, {item.encode() for item in IDS[:-1]})
    embedder = Embedder(shop.stages.pretrain.path / "encoder", SIZE)
    return embedder.embed(tf.constant([photos[item.encode()] for item in IDS[:-1]]))["embedding"].numpy()


@pytest.fixture(scope="session")
def loaded_once():
    """What the promotion checks load, by name. Equal files are loaded once: copies of a workdir hold equal models."""
    graphs, embedders = {}, {}

    def graph_model(directory: Path) -> GraphModel:
        files = fingerprint_of_file(directory / "saved_model.pb"), fingerprint_of_tree(directory / "variables")
        if files not in graphs:
            graphs[files] = GraphModel(directory)
        return graphs[files]

    def embedder(directory: Path, image_size: int) -> Embedder:
        files = fingerprint_of_tree(directory)
        if files not in embedders:
            embedders[files] = Embedder(directory, image_size)
        return embedders[files]

    return {"GraphModel": graph_model, "Embedder": embedder}


@pytest.fixture
def workdir(shop, loaded_once, tmp_path, monkeypatch):
    """A copy to change. What has tests of its own is left out: the process that checks the ops."""
    for module in ("courier_tf.exporting.promotion_checks", "courier_tf.exporting.versions"):
        monkeypatch.setattr(f"{module}.require_stock_ops", lambda paths: None)
    monkeypatch.setattr("courier_tf.exporting.promotion_checks.GraphModel", loaded_once["GraphModel"])
    monkeypatch.setattr("courier_tf.exporting.samples.Embedder", loaded_once["Embedder"])
    shutil.copytree(shop.workdir, tmp_path / "work")
    return tmp_path / "work"
