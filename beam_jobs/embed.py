"""The embed job: turns items into embeddings (Parquet), with the exported embedder and Beam's RunInference."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.ingest_report import photos_of
from beam_jobs.item_photos import BARE, KEY, ReadItems, WriteItems, bare_or_main, infer
from beam_jobs.running import run
from beam_jobs.work_done import EMBEDDED
from courier_tf import schema
from courier_tf.features.files import rows_together
from courier_tf.features.signatures import PHOTOS, VECTORS
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.facts import EmbedFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import FEATURES, INGEST

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


def embed(
    ingest: Place,
    embedder: Place,
    encoder: str,
    target: Place,
    settings: EmbedSettings,
    made_by: MadeBy,
    beam_options: Sequence[str] = (),
    features: Sequence[Place] = (),
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
        features: directories of the sources that the encoder takes: photos are then not read again. None for an
            encoder that takes photos.
    """
    ingested = artefacts.read(ingest, INGEST)
    data = ingested.facts
    with stored.write_stage(target, made_by) as draft:

        def build(pipeline: beam.Pipeline) -> None:
            read = _ReadFeatures(features) if features else ReadItems(ingested.place, data.valid_from_seconds)
            items = pipeline | read
            embedded = items.main | infer(embedder, VECTORS if features else PHOTOS, settings.embed_batch_size)
            _ = (
                (embedded, items[BARE])
                | beam.Flatten()
                | "Row" >> beam.Map(_row, encoder)
                | WriteItems(draft.place, "embeddings", len(read.files), _write_parquet)
            )

        run(build, beam_options, draft.place, "Embedding items", expected={EMBEDDED: photos_of(data.counts)})
        draft.facts = EmbedFacts(encoder, data.image_size, data.valid_from_seconds)


class _ReadFeatures(beam.PTransform):
    """The items of a features stage, with the vectors of some sources side by side in place of photos.

    The outputs are those of `ReadItems`.
    """

    def __init__(self, directories: Sequence[Place]) -> None:
        super().__init__("ReadFeatures")
        self.files = list(zip(*map(_files_of, directories), strict=True))

    def expand(self, pipeline: Any) -> Any:
        return (
            pipeline
            | beam.Create(self.files)
            | beam.Reshuffle()
            | beam.FlatMap(_rows)
            | beam.Map(bare_or_main).with_outputs(BARE, main="main")
        )


def _files_of(features: Place) -> list[str]:
    folder = artefacts.read(features, FEATURES).place / schema.ITEMS_FOLDER
    return [str(folder / name) for name in transfer.names_in(folder) if name.endswith(".parquet")]


def _rows(files: Sequence[str]) -> Iterator[tuple[KEY, np.ndarray | None]]:
    with contextlib.ExitStack() as copies:
        yield from rows_together([copies.enter_context(transfer.local_copy(place_of(file))) for file in files])


def _write_parquet(file: str, rows: list[dict[str, Any]]) -> None:
    pq.write_table(pa.Table.from_pylist(rows, EMBEDDING_SCHEMA), file, row_group_size=ROW_GROUP)


def _row(element: tuple[KEY, dict[str, np.ndarray] | None], encoder: str) -> dict[str, Any]:
    (item_id, category, in_train_span), outputs = element
    return {
        "item_id": item_id,
        "category": category,
        "embedding": None if outputs is None else outputs["embedding"].tolist(),
        "in_train_span": in_train_span,
        "encoder": encoder,
    }
