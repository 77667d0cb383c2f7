"""Items with their photos, and the models that run over them: what the features job and the embed job share."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import tensorflow as tf
from apache_beam.ml.inference.base import KeyedModelHandler, ModelHandler, RunInference

from beam_jobs.stable import stable_hash
from beam_jobs.work_done import EMBEDDED, Pieces
from beam_jobs.write import WriteShuffled
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.workdir import records

KEY = tuple[str, str, bool]  # Item id, category, whether the item is in the train span.
BARE = "bare"  # The output of items without a photo.
_SPECS = {
    "item_id": tf.io.FixedLenFeature([], tf.string),
    "image": tf.io.FixedLenFeature([], tf.string),
    schema.column_feature(schema.CATEGORY): tf.io.FixedLenFeature([], tf.string),
    "available_from": tf.io.FixedLenFeature([], tf.int64),
}


class ReadItems(beam.PTransform):
    """The items of an ingest stage: (KEY, photo) pairs in the output `main`, (KEY, None) without a photo in `BARE`.

    Args:
        ingest: directory of the ingest stage.
        valid_from_seconds: when the train span ends.

    Raises:
        RecordError: a file is missing.
    """

    def __init__(self, ingest: Place, valid_from_seconds: int) -> None:
        super().__init__("ReadItems")
        self.files = records.files(ingest / schema.ITEMS_FOLDER, "items")
        self.valid_from_seconds = valid_from_seconds

    def expand(self, pipeline: Any) -> Any:
        return (
            pipeline
            | beam.Create(self.files)
            | beam.Reshuffle()
            | beam.FlatMap(items_of, self.valid_from_seconds)
            | beam.Map(bare_or_main).with_outputs(BARE, main="main")
        )


def items_of(file: str, valid_from_seconds: int) -> Iterator[tuple[KEY, bytes | None]]:
    """(KEY, photo) of each item of a file of items, in order; the photo is None where the item has none.

    Args:
        file: path or address of the file.
        valid_from_seconds: when the train span ends.
    """
    for item in records.examples_of(file, _SPECS):
        category = item[schema.column_feature(schema.CATEGORY)].decode()
        yield (
            (item["item_id"].decode(), category, bool(item["available_from"] < valid_from_seconds)),
            item["image"] or None,
        )


def bare_or_main(row: tuple[KEY, Any]) -> Any:
    """A row for the main output, or one without photo or vectors for the output `BARE`."""
    return row if row[1] is not None else beam.pvalue.TaggedOutput(BARE, row)


class SavedModelHandler(ModelHandler[Any, dict[str, np.ndarray], Any]):
    """Runs a SavedModel inside RunInference. Its signature takes one batch and gives one row of each output for each.

    Args:
        saved_model: directory of the SavedModel.
        signature: name of its signature.
        batch_size: elements per call. A smaller batch is filled up, as rounding depends on the size of a batch.
    """

    def __init__(self, saved_model: str, signature: str, batch_size: int) -> None:
        super().__init__()
        self.saved_model, self.signature, self.batch_size = saved_model, signature, batch_size
        self.done = Pieces(EMBEDDED)

    def load_model(self) -> Any:
        with transfer.local_copy(place_of(self.saved_model)) as local:
            return tf.saved_model.load(str(local))

    def run_inference(
        self, batch: Sequence[Any], model: Any, inference_args: dict[str, Any] | None = None
    ) -> Iterable[dict[str, np.ndarray]]:
        signature = model.signatures[self.signature]
        (name,) = signature.structured_input_signature[1]
        full = [*batch, *[batch[-1]] * (self.batch_size - len(batch))]
        outputs = {key: value.numpy() for key, value in signature(**{name: tf.constant(full)}).items()}
        self.done.add(len(batch))
        return [{key: rows[place] for key, rows in outputs.items()} for place in range(len(batch))]

    def batch_elements_kwargs(self) -> dict[str, int]:
        # Batches are always full. Beam would adapt their size to the time they take, and rounding would depend on it.
        return {"min_batch_size": self.batch_size, "max_batch_size": self.batch_size}


def infer(saved_model: Place, signature: str, batch_size: int) -> beam.PTransform:
    """(key, element) pairs to (key, {output: row}) pairs, by a SavedModel; see `SavedModelHandler`."""
    return RunInference(KeyedModelHandler(SavedModelHandler(str(saved_model), signature, batch_size)))


class WriteItems(beam.PTransform):
    """Writes rows with an `item_id` to Parquet shards, in an order that depends on the ids alone.

    Args:
        folder: of the unfinished stage.
        prefix: first part of the file names.
        shards: number of files.
        write: writes the rows of a shard to a file.
    """

    def __init__(self, folder: Place, prefix: str, shards: int, write: Callable[[str, list[Any]], None]) -> None:
        super().__init__(f"WriteItems {prefix}")
        self.folder, self.prefix, self.shards, self.write = str(folder), prefix, shards, write

    def expand(self, rows: beam.PCollection) -> beam.PCollection:
        shards = rows.pipeline | "Number" >> beam.Create([self.shards])
        keyed = rows | "Key" >> beam.Map(lambda row: (stable_hash(row["item_id"]), row))
        return keyed | WriteShuffled(
            self.folder, schema.ITEMS_FOLDER, self.prefix, shards, _sortable, self.write, "parquet"
        )


def _sortable(row: dict[str, Any]) -> list[tuple[tuple[int, str], dict[str, Any]]]:
    """Sorts by a hash of the id: the first rows are then a fair sample, the same on every runner."""
    return [((stable_hash(row["item_id"]), row["item_id"]), row)]
