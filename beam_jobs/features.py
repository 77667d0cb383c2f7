"""The features job: turns the photos of items into vectors (Parquet) by a source that does not learn."""

import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.ingest_report import photos_of
from beam_jobs.item_photos import BARE, KEY, ReadItems, WriteItems, infer
from beam_jobs.running import run
from beam_jobs.work_done import EMBEDDED
from courier_tf.features.files import EXTRACTOR_FOLDER, features_schema, vector_column
from courier_tf.features.signatures import PHOTOS, output_of
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, stored
from courier_tf.workdir.facts import FeatureFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

ROW_GROUP = 2048  # Rows that a reader holds at once.


def features(
    ingest: Place,
    target: Place,
    source: str,
    views: int,
    settings: EmbedSettings,
    made_by: MadeBy,
    beam_options: Sequence[str] = (),
) -> None:
    """Runs the features job.

    Args:
        ingest: directory of the ingest stage.
        target: directory to write.
        source: name of the feature source.
        views: number of further views of each photo, by fixed augmentations.
        settings: those of embedding, for the size of a batch.
        made_by: everything that determines the result.
        beam_options: Beam's own command-line options.

    Raises:
        FeatureError: the source does not exist, or cannot be had.
    """
    from courier_tf.features.extractor import Extractor  # Here, as workers load the SavedModel and need no network.

    ingested = artefacts.read(ingest, INGEST)
    data = ingested.facts
    with stored.write_stage(target, made_by) as draft:
        extractor = Extractor([source], data.image_size, views)
        with tempfile.TemporaryDirectory(prefix="courier-") as folder:
            extractor.save(Path(folder, EXTRACTOR_FOLDER))
            transfer.upload(Path(folder, EXTRACTOR_FOLDER), draft.place / EXTRACTOR_FOLDER)

        def build(pipeline: beam.Pipeline) -> None:
            items = pipeline | ReadItems(ingested.place, data.valid_from_seconds)
            vectors = items.main | infer(draft.place / EXTRACTOR_FOLDER, PHOTOS, settings.embed_batch_size)
            _ = (
                (vectors, items[BARE])
                | beam.Flatten()
                | "Row" >> beam.Map(_row, views)
                | WriteItems(draft.place, "features", data.shards, _WriteParquet(views))
            )

        run(build, beam_options, draft.place, f"Features {source}", expected={EMBEDDED: photos_of(data.counts)})
        # Two writings of a SavedModel differ, and what was made from these vectors would not be current any more.
        transfer.remove(draft.place / EXTRACTOR_FOLDER)
        (made,) = extractor.sources
        draft.facts = FeatureFacts(source, made.parts, made.fingerprint(), views, data.image_size)


class _WriteParquet:
    """Writes the rows of a shard."""

    def __init__(self, views: int) -> None:
        self.views = views

    def __call__(self, file: str, rows: Iterable[dict[str, Any]]) -> None:
        table = pa.Table.from_pylist(list(rows), features_schema(self.views))
        pq.write_table(table, file, row_group_size=ROW_GROUP)


def _row(element: tuple[KEY, dict[str, np.ndarray] | None], views: int) -> dict[str, Any]:
    (item_id, category, in_train_span), vectors = element
    return {
        "item_id": item_id,
        "category": category,
        "in_train_span": in_train_span,
        **{vector_column(view): None if vectors is None else vectors[output_of(0, view)] for view in range(views + 1)},
    }
