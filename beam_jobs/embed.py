"""The embed job: turns items into embeddings (Parquet), with the exported embedder and Beam's RunInference."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from rich.console import Console

from beam_jobs.options import pipeline_options
from beam_jobs.stable import stable_hash
from beam_jobs.write import WriteShuffled
from courier_tf import schema
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import EmbedFacts
from courier_tf.workdir.stages import INGEST

#: One row per item, in a shuffled order that depends on the ids alone. Without a photo the embedding is null.
EMBEDDING_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("category", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("in_train_span", pa.bool_()),
        ("encoder", pa.string()),  # Fingerprint of the encoder.
    ]
)
ROW_GROUP = 8192  # Rows that a reader holds at once.
_SPECS = {
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "image": tf.io.FixedLenFeature([], tf.string),
    schema.column_feature(schema.CATEGORY): tf.io.FixedLenFeature([], tf.string),
    "available_from": tf.io.FixedLenFeature([], tf.int64),
}


class EmbedderHandler(ModelHandler[bytes, np.ndarray, Any]):
    """Runs the embedder SavedModel inside RunInference. It turns photos (PNG or JPEG) into embeddings.

    Args:
        saved_model: directory of the SavedModel.
        batch_size: photos per call; only the end of a bundle has fewer.
    """

    def __init__(self, saved_model: str, batch_size: int) -> None:
        super().__init__()
        self.saved_model, self.batch_size = saved_model, batch_size

    def load_model(self) -> Any:
        return tf.saved_model.load(self.saved_model)

    def run_inference(
        self, batch: Sequence[bytes], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[np.ndarray]:
        return list(model.signatures["serving_default"](tf.constant(batch))["embedding"].numpy())

    def batch_elements_kwargs(self) -> dict[str, int]:
        # Batches are always full. Beam would adapt their size to the time they take, and rounding would depend on it.
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}


class _ParseItem(beam.DoFn):
    """Serialised item record to ((item id, category, in train span), photo). Without a photo, to the output `bare`."""

    def __init__(self, valid_from_seconds: int) -> None:
        self.valid_from_seconds = valid_from_seconds

    def process(self, serialised: bytes) -> Iterator[Any]:
        item = tf.io.parse_single_example(serialised, _SPECS)
        category = item[schema.column_feature(schema.CATEGORY)].numpy().decode()
        key = (item["item_id"].numpy().decode(), category, bool(item["available_from"] < self.valid_from_seconds))
        photo = item["image"].numpy()
        yield (key, photo) if photo else beam.pvalue.TaggedOutput("bare", (key, None))


def embed(
    ingest: Path,
    embedder: Path,
    encoder: str,
    target: Path,
    settings: EmbedSettings,
    made_by: artefacts.MadeBy,
    beam_options: Sequence[str] = (),
) -> None:
    """Runs the embed job.

    Args:
        ingest: directory of the ingest stage.
        embedder: directory of the SavedModel of the encoder.
        encoder: fingerprint of the encoder, written into every row.
        target: directory to write.
        settings: settings of this stage.
        made_by: everything that determines the result.
        beam_options: Beam's own command-line options.
    """
    data = artefacts.read(ingest, INGEST).facts
    items_files = records.files(ingest / schema.ITEMS_FOLDER, "items")  # Raises where one is missing.
    handler = KeyedModelHandler(EmbedderHandler(str(embedder), settings.embed_batch_size))
    with artefacts.write_aside(target, made_by) as draft, Console(stderr=True).status("Embedding items"):
        with beam.Pipeline(options=pipeline_options(beam_options)) as pipeline:
            items = (
                pipeline
                | beam.Create(items_files)
                | beam.io.ReadAllFromTFRecord()
                | beam.ParDo(_ParseItem(data.valid_from_seconds)).with_outputs("bare", main="main")
            )
            rows = (items.main | RunInference(handler), items["bare"]) | beam.Flatten()
            _ = (
                rows
                | "Row" >> beam.Map(_row, encoder)
                | "Key" >> beam.Map(lambda row: (stable_hash(row["item_id"]), row))
                | WriteShuffled(
                    str(draft.path / schema.ITEMS_FOLDER),
                    "embeddings",
                    data.shards,
                    _sortable,
                    _write_parquet,
                    "parquet",
                )
            )
        draft.facts = EmbedFacts(encoder, data.image_size, data.valid_from_seconds)


def _sortable(row: dict[str, Any]) -> list[tuple[tuple[int, str], dict[str, Any]]]:
    """Sorts by a hash of the id: the first rows are then a fair sample, the same on every runner."""
    return [((stable_hash(row["item_id"]), row["item_id"]), row)]


def _write_parquet(file: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, EMBEDDING_SCHEMA), file, row_group_size=ROW_GROUP)


def _row(element: tuple[tuple[str, str, bool], np.ndarray | None], encoder: str) -> dict[str, Any]:
    (item_id, category, in_train_span), embedding = element
    return {
        "item_id": item_id,
        "category": category,
        "embedding": None if embedding is None else embedding.tolist(),
        "in_train_span": in_train_span,
        "encoder": encoder,
    }
