"""The embed job: turns items into embeddings (Parquet), with the exported embedder and Beam's RunInference."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.item_photos import BARE, KEY, ReadItems, WriteItems, infer
from beam_jobs.running import run
from courier_tf.features.files import FeatureFiles, rows_together
from courier_tf.features.signatures import PHOTOS, VECTORS
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts
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


def embed(
    ingest: Path,
    embedder: Path,
    encoder: str,
    target: Path,
    settings: EmbedSettings,
    made_by: artefacts.MadeBy,
    beam_options: Sequence[str] = (),
    features: Sequence[Path] = (),
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
    data = artefacts.read(ingest, INGEST).facts
    with artefacts.write_aside(target, made_by) as draft:

        def build(pipeline: beam.Pipeline) -> None:
            items = pipeline | (_ReadFeatures(features) if features else ReadItems(ingest, data.valid_from_seconds))
            embedded = items.main | infer(embedder, VECTORS if features else PHOTOS, settings.embed_batch_size)
            _ = (
                (embedded, items[BARE])
                | beam.Flatten()
                | "Row" >> beam.Map(_row, encoder)
                | WriteItems(draft.path, "embeddings", data.shards, _write_parquet)
            )

        run(build, beam_options, draft.path, "Embedding items")
        draft.facts = EmbedFacts(encoder, data.image_size, data.valid_from_seconds)


class _ReadFeatures(beam.PTransform):
    """The items of a features stage, with the vectors of some sources side by side in place of photos.

    The outputs are those of `ReadItems`.
    """

    def __init__(self, directories: Sequence[Path]) -> None:
        super().__init__("ReadFeatures")
        self.shards = list(zip(*(FeatureFiles(directory).files for directory in directories), strict=True))

    def expand(self, pipeline: Any) -> Any:
        return (
            pipeline
            | beam.Create(self.shards)
            | beam.Reshuffle()
            | beam.FlatMap(rows_together)
            | beam.Map(_bare_or_main).with_outputs(BARE, main="main")
        )


def _bare_or_main(row: tuple[KEY, np.ndarray | None]) -> Any:
    return row if row[1] is not None else beam.pvalue.TaggedOutput(BARE, row)


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
