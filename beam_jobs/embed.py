"""The embed job: items to embeddings (Parquet), with the exported embedder, by Beam's RunInference."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference
from rich.console import Console

from beam_jobs.options import pipeline_options
from courier_tf import artefacts, schema
from courier_tf.settings import EmbedSettings

#: One row per item; the embedding is null where there is no photo.
EMBEDDING_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("in_train_span", pa.bool_()),
        ("encoder", pa.string()),  # Fingerprint of the encoder.
    ]
)
_SPECS = {
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "image": tf.io.FixedLenFeature([], tf.string),
    "available_from": tf.io.FixedLenFeature([], tf.int64),
}


class EmbedderHandler(ModelHandler[bytes, np.ndarray, Any]):
    """Runs the embedder SavedModel inside RunInference: photos (PNG or JPEG) to embeddings.

    Args:
        saved_model: its directory.
        batch_size: photos per call; fewer only at the end of a bundle.
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
        # Always full: how a photo is rounded must not depend on how long the batch before it took.
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}


class _ParseItem(beam.DoFn):
    """Serialised item record to ((item id, in train span), photo); without a photo to the output `bare`."""

    def __init__(self, valid_from_seconds: int) -> None:
        self.valid_from_seconds = valid_from_seconds

    def process(self, serialised: bytes) -> Iterator:
        item = tf.io.parse_single_example(serialised, _SPECS)
        key = (item["item_id"].numpy().decode(), bool(item["available_from"] < self.valid_from_seconds))
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
    """Runs the job.

    Args:
        ingest: directory of the ingest stage.
        embedder: SavedModel of the encoder.
        encoder: its fingerprint, written into every row.
        target: directory to write.
        settings: those of this stage.
        made_by: what determines the result.
        beam_options: Beam's own command-line options.
    """
    facts = artefacts.read(ingest, "ingest").facts
    handler = KeyedModelHandler(EmbedderHandler(str(embedder), settings.embed_batch_size))
    with artefacts.write_aside(target, made_by) as (partial, found), Console(stderr=True).status("Embedding items"):
        with beam.Pipeline(options=pipeline_options(beam_options)) as pipeline:
            items = (
                pipeline
                | beam.io.ReadFromTFRecord(f"{ingest / schema.ITEMS_FOLDER}/items-*")
                | beam.ParDo(_ParseItem(facts["valid_from_seconds"])).with_outputs("bare", main="main")
            )
            rows = (items.main | RunInference(handler), items["bare"]) | beam.Flatten()
            _ = (
                rows
                | "Row" >> beam.Map(_row, encoder)
                | beam.io.WriteToParquet(
                    str(partial / schema.ITEMS_FOLDER / "embeddings"), EMBEDDING_SCHEMA, file_name_suffix=".parquet"
                )
            )
        found |= {"encoder": encoder, "image_size": facts["image_size"]}


def _row(element: tuple[tuple[str, bool], np.ndarray | None], encoder: str) -> dict[str, Any]:
    (item_id, in_train_span), embedding = element
    return {
        "item_id": item_id,
        "embedding": None if embedding is None else embedding.tolist(),
        "in_train_span": in_train_span,
        "encoder": encoder,
    }
