"""A served model of one's own: one descriptor, and the rest of the product takes it."""

from collections.abc import Mapping
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format

from courier_tf import schema
from courier_tf.commands import load_test
from courier_tf.exporting import registry
from courier_tf.exporting.finished_stages import FinishedStages
from courier_tf.exporting.promotion import promote, roll_back
from courier_tf.exporting.promotion_checks import PromotionError
from courier_tf.exporting.samples import item_requests
from courier_tf.exporting.served_model import ServedModel
from courier_tf.exporting.versions import VersionError
from courier_tf.workdir import artefacts, records
from serving.bundle import warmup
from serving.bundle.graph_model import GraphModel, Method
from serving.bundle.server_config_pb2 import BatchingParameters
from serving.client import contract
from serving.client.client import CourierClient
from serving.local.local_server import LocalServer
from tests.exporting.promotions import LENIENT
from tests.sealing import seal_description
from tests.served_shop import IDS, export_again, write_rank


class ServedPopularity(tf.Module):
    """Item ids [B] to their number of events in the train span."""

    def __init__(self, ids: np.ndarray, events: np.ndarray, version: int) -> None:
        super().__init__()
        values = tf.lookup.KeyValueTensorInitializer(ids.astype(object), events)
        self.events, self.version = tf.lookup.StaticHashTable(values, default_value=-1), version

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        return {contract.DEFAULT_SIGNATURE: self.count}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="item_id")], autograph=False)
    def count(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        return {
            "train_events": self.events.lookup(item_id),
            "model_version": tf.fill(tf.shape(item_id), tf.constant(self.version, tf.int64)),
        }


class PopularItems(ServedModel):
    """How popular items are."""

    name = "popular_items"
    answers = "item -> events in the train span"
    signatures: ClassVar[Mapping[str, Method]] = {contract.DEFAULT_SIGNATURE: "predict"}
    joined = True
    most_rows = 32

    def inputs(self, stages: FinishedStages) -> dict[str, str]:
        return {"ingest": stages.ingest.fingerprint}

    def build(self, stages: FinishedStages, version: int) -> ServedPopularity:
        return ServedPopularity(*self.events(stages), version)

    def requests(self, stages: FinishedStages) -> list:
        return item_requests(stages.ingest.path, contract.DEFAULT_SIGNATURE)

    def differences(self, served: GraphModel, stages: FinishedStages) -> list[str]:
        ids, events = self.events(stages)
        right = np.array_equal(served(item_id=ids)["train_events"], events)
        return [] if right else ["popular items are served with other events than those of the log"]

    def events(self, stages: FinishedStages) -> tuple[np.ndarray, np.ndarray]:
        """([N] bytes, [N] int64) of all items."""
        features = {name: schema.ITEM_FEATURES[name] for name in ("item_id", "train_events")}
        files = records.files(stages.ingest.path / schema.ITEMS_FOLDER, "items")
        parsed = records.parse(next(iter(tf.data.TFRecordDataset(files).batch(1000))), features)
        return parsed["item_id"].numpy(), parsed["train_events"].numpy()


@pytest.fixture
def with_popular_items(workdir, monkeypatch):
    """A workdir whose exports also write `popular_items`."""
    monkeypatch.setattr(registry, "SERVED_MODELS", (*registry.SERVED_MODELS, PopularItems()))
    return workdir


def version_of(workdir, number):
    return workdir / "models" / "popular_items" / str(number)


@pytest.mark.slow
def test_one_descriptor_is_enough(with_popular_items):
    workdir = with_popular_items
    assert export_again(workdir) == [version_of(workdir, 1)], "the other models have not changed"
    written = version_of(workdir, 1) / "batching_params.pbtxt"
    parameters = text_format.Parse(written.read_text(), BatchingParameters())
    assert parameters.max_execution_batch_size.value == 32, "rows of a batch, as the descriptor says"
    assert len(list(warmup.read(version_of(workdir, 1)))) == 3
    bundle = workdir / "serving"
    assert 'name: "popular_items"' in (bundle / "models.config").read_text()
    assert "| `popular_items` | 1 | item -> events in the train span |" in (bundle / "model_card.md").read_text()
    assert load_test.chosen_models(bundle, workdir / "models", ()) == registry.model_names()
    with pytest.raises(load_test.LoadTestError, match=r"--models popular: .* serves .*popular_items"):
        load_test.chosen_models(bundle, workdir / "models", ("popular",))
    first = promote(workdir, LENIENT)
    assert first.versions["popular_items"] == 1 and "popular_items" not in first.measured
    write_rank(workdir, seed=2)
    export_again(workdir)
    assert promote(workdir, LENIENT).versions == first.versions | {"ctr_ranker": 2}
    assert roll_back(workdir) == first
    items = {"item_id": np.array([IDS[3].encode(), b"unknown"], object)}
    with LocalServer(bundle, workdir / "models", warm_up=False) as server:
        for target in (f"localhost:{server.port}", f"http://localhost:{server.rest_port}"):  # gRPC and REST.
            with CourierClient(target, timeout_seconds=20) as client:
                answers = client.predict("popular_items", contract.DEFAULT_SIGNATURE, items)
            assert answers["train_events"].tolist() == [1, -1] and answers["model_version"].tolist() == [1, 1]


class ServedByRow(ServedPopularity):
    """Takes a row of ids in place of one."""

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        return {contract.DEFAULT_SIGNATURE: self.rows}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.string, name="item_ids")], autograph=False)
    def rows(self, item_ids: tf.Tensor) -> dict[str, tf.Tensor]:
        return self.count(item_ids[:, 0])


def test_rows_that_may_differ_in_shape_are_not_joined(with_popular_items, monkeypatch):
    """A server would join a row of three ids with those of two, and refuse both."""
    monkeypatch.setattr(PopularItems, "build", lambda self, stages, n: ServedByRow(*self.events(stages), n))
    with pytest.raises(VersionError, match=r"popular_items is joined, but the input 'item_ids' of its signature"):
        export_again(with_popular_items)
    assert not version_of(with_popular_items, 1).exists()


@pytest.mark.slow
def test_answers_that_are_tampered_with_and_files_that_are_damaged(with_popular_items, monkeypatch):
    workdir = with_popular_items
    export_again(workdir)
    events = PopularItems.events
    with monkeypatch.context() as patch:
        patch.setattr(PopularItems, "events", lambda self, stages: (events(self, stages)[0], np.arange(60)))
        with pytest.raises(PromotionError, match="popular items are served with other events"):
            promote(workdir, LENIENT)
    file = version_of(workdir, 1) / artefacts.ARTEFACT_FILE
    file.write_text(file.read_text().replace('"ingest": "', '"ingest": "0'))
    seal_description(file.parent)
    with pytest.raises(PromotionError, match="popular_items/1 belongs to the ingest 0"):
        promote(workdir, LENIENT)
    (version_of(workdir, 1) / "batching_params.pbtxt").write_text("")
    with pytest.raises(PromotionError, match="popular_items/1 is damaged"):
        promote(workdir, LENIENT)
    assert export_again(workdir) == [version_of(workdir, 2)]
    assert promote(workdir, LENIENT).versions["popular_items"] == 2
