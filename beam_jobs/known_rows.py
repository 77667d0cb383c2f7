"""What a model has made of photos before, which is not computed again while model and photo are the same."""

import contextlib
import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.item_photos import BARE, KEY, ReadItems, infer
from beam_jobs.sources import NAMESPACE
from courier_tf import schema
from courier_tf.features.files import PHOTO
from courier_tf.features.signatures import PHOTOS
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST, F, Stage

COMPUTED, TAKEN_OVER = "computed", "taken_over"  # Counters.
_KNOWN = "known"  # Tag of an output.
_BLOCK = 4096  # Rows read at once.

#: An item with the digest of its stored photo, None without one; and the outputs of the model, {} without a photo.
Row = tuple[tuple[KEY, str | None], dict[str, np.ndarray]]


def digest_of(photo: bytes) -> str:
    """32 hex digits over a stored photo, which stand for its pixels."""
    return hashlib.sha256(photo).hexdigest()[:32]


def files_of_known(directories: Iterable[Place], stage: Stage[F], made_by: MadeBy) -> list[str]:
    """The Parquet files of the first result that the same code and model have made, of whatever photos.

    Args:
        directories: of the stage, finished or not.
        stage: it.
        made_by: what determines its result now.
    """
    for directory in directories:
        try:
            before = artefacts.read(directory, stage)
        except artefacts.ArtefactError:  # There is none, a broken one, or one of another version.
            continue
        of_these = {**made_by.inputs, INGEST: before.made_by.inputs.get(INGEST, "")}
        if dataclasses.replace(made_by, inputs=of_these).key == before.made_by.key:
            folder = before.place / schema.ITEMS_FOLDER
            return [str(folder / name) for name in transfer.names_in(folder) if name.endswith(".parquet")]
    return []


class KnownRows:
    """The rows of a Parquet file by their items. A group of them is in memory at a time.

    Args:
        file: the file on this machine; None for one without rows.
        columns: column -> output of the model.
    """

    def __init__(self, file: Path | None, columns: Mapping[str, str]) -> None:
        self.columns = columns
        self.places: dict[str, tuple[str, int, int]] = {}  # Item -> digest of its photo, row group, row in it.
        self.loaded: tuple[int, pa.Table] | None = None
        if file is None:
            return
        self.file = pq.ParquetFile(file)
        for group in range(self.file.num_row_groups):
            table = self.file.read_row_group(group, ["item_id", PHOTO])
            pairs = zip(table["item_id"].to_pylist(), table[PHOTO].to_pylist(), strict=True)
            self.places |= {item: (photo, group, row) for row, (item, photo) in enumerate(pairs) if photo}

    def row(self, item: str, photo: str | None) -> dict[str, np.ndarray] | None:
        """The outputs for an item, if they were made of this photo."""
        known, group, row = self.places.get(item, ("", 0, 0))
        if not photo or known != photo:
            return None
        if self.loaded is None or self.loaded[0] != group:
            self.loaded = group, self.file.read_row_group(group, list(self.columns))
        return {
            output: self.loaded[1][column][row].values.to_numpy(zero_copy_only=False)
            for column, output in self.columns.items()
        }


@contextlib.contextmanager
def opened_rows(file: str | None, columns: Mapping[str, str]) -> Iterator[KnownRows]:
    """The rows of a file here or on a store; none where there is no file."""
    if file is None:
        yield KnownRows(None, columns)
        return
    with transfer.local_copy(place_of(file)) as local:
        yield KnownRows(local, columns)


class RunOverPhotos(beam.PTransform):
    """`Row`s of all items of an ingest, by a model that takes photos.

    Args:
        items: the items.
        saved_model: directory of the model.
        batch_size: photos of a call.
        known: Parquet files of an earlier run of the same model.
        columns: column of these files -> output of the model.
    """

    def __init__(
        self, items: ReadItems, saved_model: Place, batch_size: int, known: list[str], columns: Mapping[str, str]
    ) -> None:
        super().__init__("Run over photos")
        self.items, self.files, self.known, self.columns = items, items.files, known, dict(columns)
        self.infer = infer(saved_model, PHOTOS, batch_size)

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, pipeline: Any) -> Any:
        items = pipeline | self.items
        photos = items.main | "Digest" >> beam.Map(_with_digest)
        parts = [items[BARE] | "Without photo" >> beam.Map(_without_photo)]
        if self.known:
            joined = (
                {
                    "photo": photos | "Key photos" >> beam.Map(lambda pair: (pair[0][0][0], pair)),
                    "known": pipeline
                    | "Known files" >> beam.Create(self.known)
                    | beam.Reshuffle()
                    | "Known rows" >> beam.FlatMap(_known_rows, self.columns),
                }
                | "Join known" >> beam.CoGroupByKey()
                | "Known or not" >> beam.ParDo(_KnownOrNot()).with_outputs(_KNOWN, main="main")
            )
            photos = joined.main
            parts.append(joined[_KNOWN])
        parts.append(photos | CountEach(COMPUTED) | self.infer)
        return parts | "All rows" >> beam.Flatten()


def _with_digest(pair: tuple[KEY, bytes]) -> tuple[tuple[KEY, str], bytes]:
    return (pair[0], digest_of(pair[1])), pair[1]


def _without_photo(pair: tuple[KEY, None]) -> Row:
    return (pair[0], None), {}


def _known_rows(file: str, columns: Mapping[str, str]) -> Iterator[tuple[str, tuple[str, dict[str, np.ndarray]]]]:
    """(item id, (digest of its photo, {output: value})) of each row with a photo."""
    with transfer.local_copy(place_of(file)) as local:
        for batch in pq.ParquetFile(local).iter_batches(_BLOCK, columns=["item_id", PHOTO, *columns]):
            vectors = [batch[column] for column in columns]
            for item, photo, *values in zip(
                batch["item_id"].to_pylist(), batch[PHOTO].to_pylist(), *vectors, strict=True
            ):
                if photo:
                    arrays = (value.values.to_numpy(zero_copy_only=False) for value in values)
                    yield item, (photo, dict(zip(columns.values(), arrays, strict=True)))


class _KnownOrNot(beam.DoFn):
    """Turns an item joined with what is known of it into its `Row`, or into its photo where that is new."""

    def __init__(self) -> None:
        self.taken_over = Metrics.counter(NAMESPACE, TAKEN_OVER)

    def process(self, element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[Any]:
        known = dict(element[1]["known"])
        for key, photo in element[1]["photo"]:
            if key[1] in known:
                self.taken_over.inc()
                yield beam.pvalue.TaggedOutput(_KNOWN, (key, known[key[1]]))
            else:
                yield key, photo


class CountEach(beam.PTransform):
    """Counts elements, and hands them on.

    Args:
        name: of the counter.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"Count {name}")
        self.count = _Count(name)

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        return elements | beam.ParDo(self.count)


class _Count(beam.DoFn):
    def __init__(self, name: str) -> None:
        self.counter = Metrics.counter(NAMESPACE, name)

    def process(self, element: Any) -> Iterator[Any]:
        self.counter.inc()
        yield element
