"""The features job: turns the photos of items into vectors (Parquet) by a source that does not learn."""

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics

from beam_jobs.ingest_report import photos_of
from beam_jobs.item_photos import KEY, SavedModelHandler, items_of
from beam_jobs.known_rows import COMPUTED, TAKEN_OVER, KnownRows, digest_of, files_of_known, opened_rows
from beam_jobs.running import run
from beam_jobs.sources import NAMESPACE
from beam_jobs.work_done import EMBEDDED
from courier_tf import schema
from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.files import EXTRACTOR_FOLDER, PHOTO, features_schema, vector_column
from courier_tf.features.signatures import PHOTOS, output_of
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, records, stored
from courier_tf.workdir.facts import FeatureFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import FEATURES, INGEST

ROW_GROUP = 2048  # Rows that a reader holds at once.


def features(
    ingest: Place,
    target: Place,
    source: str,
    views: int,
    settings: EmbedSettings,
    made_by: MadeBy,
    beam_options: Sequence[str] = (),
    known: Sequence[Place] = (),
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
        known: directories of earlier results. Vectors of unchanged photos are taken over from the first that the same
            source has made, while the number of files of items stays.

    Raises:
        FeatureError: the source does not exist, cannot be had, or gives no vector of finite numbers for an item.
    """
    from courier_tf.features.extractor import Extractor  # Here, as workers load the SavedModel and need no network.

    ingested = artefacts.read(ingest, INGEST)
    data = ingested.facts
    with stored.write_stage(target, made_by) as draft:
        extractor = Extractor([source], data.image_size, views)
        with tempfile.TemporaryDirectory(prefix="courier-") as folder:
            extractor.save(Path(folder, EXTRACTOR_FOLDER))
            transfer.upload(Path(folder, EXTRACTOR_FOLDER), draft.place / EXTRACTOR_FOLDER)

        files = records.files(ingested.place / schema.ITEMS_FOLDER, "items")
        before = files_of_known(known, FEATURES, made_by)
        (made,) = extractor.sources
        write = _WriteFeatures(
            str(draft.place), data.valid_from_seconds, source, made.width, views, settings.embed_batch_size, before
        )

        def build(pipeline: beam.Pipeline) -> None:
            _ = pipeline | beam.Create(files) | beam.Reshuffle() | beam.ParDo(write)

        expected = {} if before else {EMBEDDED: photos_of(data.counts)}
        counts = run(build, beam_options, draft.place, f"Features {source}", NAMESPACE, expected)
        # Two writings of a SavedModel differ, and what was made from these vectors would not be current any more.
        transfer.remove(draft.place / EXTRACTOR_FOLDER)
        draft.facts = FeatureFacts(
            source, made.parts, made.fingerprint(), views, data.image_size, counts[COMPUTED], counts[TAKEN_OVER]
        )


class _WriteFeatures(beam.DoFn):
    """Turns each file of items into a file of their vectors, in the same order.

    Memory holds the vectors of a row group, however many photos there are. No vector goes through a shuffle.

    Args:
        draft: the draft of the stage, with the extractor.
        valid_from_seconds: when the train span ends.
        source: name of the feature source.
        width: W, the length of a vector.
        views: number of further views of each photo.
        batch_size: photos per call of the extractor.
        known: files of vectors of an earlier run. That of the same name is looked up for each file of items.

    Raises (when it runs):
        FeatureError: the source does not give a vector of finite numbers for an item. It would fail every training.
    """

    def __init__(
        self,
        draft: str,
        valid_from_seconds: int,
        source: str,
        width: int,
        views: int,
        batch_size: int,
        known: list[str],
    ) -> None:
        self.draft, self.valid_from_seconds, self.source, self.width = draft, valid_from_seconds, source, width
        self.batch_size, self.known = batch_size, {place_of(file).name: file for file in known}
        self.views, self.columns = views, {vector_column(view): output_of(0, view) for view in range(views + 1)}
        self.computed = Metrics.counter(NAMESPACE, COMPUTED)
        self.taken_over = Metrics.counter(NAMESPACE, TAKEN_OVER)

    def setup(self) -> None:
        extractor = str(place_of(self.draft) / EXTRACTOR_FOLDER)
        self.handler = SavedModelHandler(extractor, PHOTOS, self.batch_size)
        self.model = self.handler.load_model()

    def process(self, file: str) -> None:
        draft, columns = place_of(self.draft), features_schema(self.views)
        shard = place_of(file).name.removeprefix("items").removesuffix(".tfrecord")
        name = f"features{shard}.parquet"
        items = items_of(file, self.valid_from_seconds)
        with (
            opened_rows(self.known.get(name), self.columns) as known,
            transfer.written_aside(draft / schema.ITEMS_FOLDER / name) as aside,
        ):
            with pq.ParquetWriter(aside, columns) as writer:
                while group := list(itertools.islice(items, ROW_GROUP)):
                    writer.write_table(pa.Table.from_pylist(list(self._rows(group, known)), columns))
            stored.note(draft, f"{schema.ITEMS_FOLDER}/{name}", aside)

    def _rows(self, items: Sequence[tuple[KEY, bytes | None]], known: KnownRows) -> Iterator[dict[str, Any]]:
        digests = [digest_of(photo) if photo else None for _, photo in items]
        rows = [known.row(key[0], digest) for (key, _), digest in zip(items, digests, strict=True)]
        new = [photo for (_, photo), row in zip(items, rows, strict=True) if photo and row is None]
        self.computed.inc(len(new))
        self.taken_over.inc(sum(row is not None for row in rows))
        vectors = itertools.chain.from_iterable(
            self.handler.run_inference(new[start : start + self.batch_size], self.model)
            for start in range(0, len(new), self.batch_size)
        )
        for (key, photo), digest, row in zip(items, digests, rows, strict=True):
            made = next(vectors) if photo and row is None else row
            self._require_finite(key[0], made or {})
            yield _row(key, digest, made, self.views)

    def _require_finite(self, item: str, vectors: Mapping[str, np.ndarray]) -> None:
        for vector in vectors.values():
            if vector.shape != (self.width,) or not np.isfinite(vector).all():
                raise FeatureError(
                    f"features: {printable(self.source, LONGEST_PATH)} gives {printable(vector)} for the photo of item "
                    f"{printable(item)}, but {self.width} finite numbers are needed: mend the source, or leave it out"
                )


def _row(key: KEY, photo: str | None, vectors: dict[str, np.ndarray] | None, views: int) -> dict[str, Any]:
    item_id, category, in_train_span = key
    return {
        "item_id": item_id,
        "category": category,
        "in_train_span": in_train_span,
        PHOTO: photo,
        **{vector_column(view): None if vectors is None else vectors[output_of(0, view)] for view in range(views + 1)},
    }
