"""The embed job: turns items into embeddings (Parquet), with the exported embedder and Beam's RunInference."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.ingest_report import photos_of
from beam_jobs.item_photos import BARE, KEY, ReadItems, WriteItems, infer
from beam_jobs.known_rows import COMPUTED, TAKEN_OVER, CountEach, Row, RunOverPhotos, files_of_known
from beam_jobs.running import run
from beam_jobs.sources import NAMESPACE
from beam_jobs.work_done import EMBEDDED
from courier_tf import schema
from courier_tf.features.files import PHOTO, rows_together
from courier_tf.features.signatures import VECTORS
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.facts import EmbedFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import EMBED, FEATURES, INGEST

#: One row per item, in a shuffled order that depends on the ids alone. Without a photo the embedding is null.
EMBEDDING_SCHEMA = pa.schema(
    [
        ("item_id", pa.string()),
        ("category", pa.string()),
        ("embedding", pa.list_(pa.float32())),
        ("in_train_span", pa.bool_()),
        ("encoder", pa.string()),  # Fingerprint of the encoder.
        (PHOTO, pa.string()),  # Digest of the stored photo; null for a head on features, and without a photo.
    ]
)
ROW_GROUP = 8192  # Rows that a reader holds at once.
OUTPUT = "embedding"  # Of the encoder, and its column.


def embed(
    ingest: Place,
    embedder: Place,
    encoder: str,
    target: Place,
    settings: EmbedSettings,
    made_by: MadeBy,
    beam_options: Sequence[str] = (),
    features: Sequence[Place] = (),
    known: Sequence[Place] = (),
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
        known: directories of earlier results. Embeddings of unchanged photos are taken over from the first that the
            same encoder has made; a head on features is so fast that it runs over all items.
    """
    ingested = artefacts.read(ingest, INGEST)
    data = ingested.facts
    with stored.write_stage(target, made_by) as draft:
        before: list[str] = []
        embedded: _RunOverFeatures | RunOverPhotos
        if features:
            embedded = _RunOverFeatures(features, embedder, settings.embed_batch_size)
        else:
            items = ReadItems(ingested.place, data.valid_from_seconds)
            before = files_of_known(known, EMBED, made_by)
            embedded = RunOverPhotos(items, embedder, settings.embed_batch_size, before, {OUTPUT: OUTPUT})

        def build(pipeline: beam.Pipeline) -> None:
            _ = (
                pipeline
                | embedded
                | "Row" >> beam.Map(_row, encoder)
                | WriteItems(draft.place, "embeddings", len(embedded.files), _write_parquet)
            )

        expected = {} if before else {EMBEDDED: photos_of(data.counts)}
        counts = run(build, beam_options, draft.place, "Embedding items", NAMESPACE, expected)
        draft.facts = EmbedFacts(
            encoder, data.image_size, data.valid_from_seconds, counts[COMPUTED], counts[TAKEN_OVER]
        )


class _RunOverFeatures(beam.PTransform):
    """As `RunOverPhotos`, by an encoder that takes the vectors of some sources side by side."""

    def __init__(self, directories: Sequence[Place], embedder: Place, batch_size: int) -> None:
        super().__init__("Run over features")
        self.files = list(zip(*map(_files_of, directories), strict=True))
        self.infer = infer(embedder, VECTORS, batch_size)

    def expand(self, pipeline: Any) -> Any:
        items = (
            pipeline
            | beam.Create(self.files)
            | beam.Reshuffle()
            | beam.FlatMap(_rows)
            | beam.FlatMap(_bare_or_main).with_outputs(BARE, main="main")
        )
        return (items.main | CountEach(COMPUTED) | self.infer, items[BARE]) | beam.Flatten()


def _files_of(features: Place) -> list[str]:
    folder = artefacts.read(features, FEATURES).place / schema.ITEMS_FOLDER
    return [str(folder / name) for name in transfer.names_in(folder) if name.endswith(".parquet")]


def _rows(files: Sequence[str]) -> Iterator[tuple[KEY, np.ndarray | None]]:
    with contextlib.ExitStack() as copies:
        yield from rows_together([copies.enter_context(transfer.local_copy(place_of(file))) for file in files])


def _bare_or_main(row: tuple[KEY, np.ndarray | None]) -> Iterator[Any]:
    key, vectors = row
    yield ((key, None), vectors) if vectors is not None else beam.pvalue.TaggedOutput(BARE, ((key, None), {}))


def _write_parquet(file: str, rows: list[dict[str, Any]]) -> None:
    read = [{**row, OUTPUT: None if row[OUTPUT] is None else np.frombuffer(row[OUTPUT], np.float32)} for row in rows]
    pq.write_table(pa.Table.from_pylist(read, EMBEDDING_SCHEMA), file, row_group_size=ROW_GROUP)


def _row(element: Row, encoder: str) -> dict[str, Any]:
    ((item_id, category, in_train_span), photo), outputs = element
    return {
        "item_id": item_id,
        "category": category,
        # Beam packs bytes at once, and the numbers of a list one by one.
        OUTPUT: outputs[OUTPUT].astype(np.float32).tobytes() if outputs else None,
        "in_train_span": in_train_span,
        "encoder": encoder,
        PHOTO: photo,
    }
