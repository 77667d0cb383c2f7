"""Turns catalogue rows into item records, each with its photo at the size that the encoder takes."""

import hashlib
import io
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics
from apache_beam.transforms.window import GlobalWindows
from PIL import Image

from beam_jobs import photos
from beam_jobs.checks import Item
from beam_jobs.photo_places import MissingPhotoError, PhotoPlaces
from beam_jobs.sources import NAMESPACE, REJECTS
from beam_jobs.splits import Splits
from beam_jobs.stable import stable_hash
from beam_jobs.work_done import ITEMS, Pieces
from courier_tf import images, schema
from courier_tf.escaping import printable
from courier_tf.workdir import records

MOST_SHOWN = 100  # Characters of the name of a photo in a reject. A name may be a photo as a text.

TOGETHER, BYTES_TOGETHER = 32, 4_000_000  # Photos that are decoded in one call, and their bytes.

PHOTOS = "photos"  # Tag of a further output: the `PhotoSize` of each photo that can be used.
PHOTOS_DECODED, PHOTOS_TAKEN_OVER = "photos_decoded", "photos_taken_over"  # Counters.
TRACES = "traces"  # Tag of a further output: the `Trace` of the photo of each item that names one.

#: (width, height, bytes) of a photo as the shop has it.
PhotoSize = tuple[int, int, int]
#: (impressions, positives, first timestamp) of an item on a day of the log. Each positive is an impression.
DayStatistics = tuple[int, int, int]
#: (hash of an item and the state of its photo's file, hash of the item and the photo's content), see `trace_of`.
Trace = tuple[int, int]


class KnownPhoto(NamedTuple):
    """A photo as the ingest before this one has stored it.

    Attributes:
        digest: sha256 of the shop's file.
        image: the stored photo; empty where the file cannot be used.
    """

    digest: bytes
    image: bytes


class ReadPhoto(NamedTuple):
    """The file of a photo, or why there is none.

    Attributes:
        encoded: its content; None where no file can be read.
        state: size and time of the file; empty where there is none.
        reject: why a photo that a row names cannot be read.
    """

    encoded: bytes | None = None
    state: str = ""
    reject: schema.Reject | None = None

    @property
    def digest(self) -> bytes:
        """sha256 of the content; empty where there is none."""
        return b"" if self.encoded is None else hashlib.sha256(self.encoded).digest()

    @property
    def size(self) -> int:
        """Bytes of the content."""
        return len(self.encoded or b"")


class _Waiting(NamedTuple):
    """An item whose photo is read and not yet decoded: what of its record is known, and the photo as it is known."""

    item: Item
    photo: ReadPhoto
    known: bytes | None
    values: dict[str, Any]


def trace_of(item_id: str, state: str, digest: bytes) -> Trace:
    """What tells whether the photo of an item is still the same: sums of it stand for all photos."""
    return stable_hash(item_id, state), stable_hash(item_id, digest.hex())


class BuildItems(beam.DoFn):
    """Turns an item, joined with what is known of it, into (sort key, serialised record).

    Takes (item id, {"rows": [Item], "days": [(day start, DayStatistics)], "known": [KnownPhoto]}).

    An item whose photo is missing or broken is kept, with an empty image. A photo that a row names and that is missing
    or not usable goes to the rejects. A photo whose file is as it was known is not decoded again.

    Args:
        raw: the raw folder.
        image_size: side of the stored photo, in pixels.
        seed: seed of the order.
        follow_links: take photos that lie behind symbolic links outside the raw folder.
    """

    def __init__(self, raw: str, image_size: int, seed: int, follow_links: bool) -> None:
        self.raw, self.image_size, self.seed, self.follow_links = raw, image_size, seed, follow_links
        self.none_named = Metrics.counter(NAMESPACE, "items_without_image_named")
        self.by_name = Metrics.counter(NAMESPACE, "photos_found_by_name")
        self.inside = Metrics.counter(NAMESPACE, "photos_inside_rows")
        self.done = Pieces(ITEMS)
        self.decoded = Metrics.counter(NAMESPACE, PHOTOS_DECODED)
        self.taken_over = Metrics.counter(NAMESPACE, PHOTOS_TAKEN_OVER)

    def setup(self) -> None:
        self.places = PhotoPlaces(self.raw, self.follow_links)

    def start_bundle(self) -> None:
        self.waiting: list[_Waiting] = []

    def process(self, element: tuple[str, dict[str, Iterable[Any]]], splits: Splits | None) -> Iterator[Any]:
        if splits is None:  # The job has failed, and its driver reports why. No photo needs to be read.
            return
        item_id, joined = element
        for item in joined["rows"]:  # There is one: duplicates have been rejected.
            days = list(joined["days"])
            photo = self.read(item)
            digest = photo.digest
            # There is one at most.
            known = next((known.image for known in joined["known"] if known.image and known.digest == digest), None)
            if item.image and item.photo is None:
                yield beam.pvalue.TaggedOutput(TRACES, trace_of(item_id, photo.state, digest))
            train = [statistics for start, statistics in days if start < splits.valid_from]
            values = {
                "item_id": item_id,
                "photo_digest": digest,
                "title": item.title,
                "available_from": available_from(item, days),
                "train_impressions": sum(impressions for impressions, _, _ in train),
                "train_events": sum(positives for _, positives, _ in train),
                **{schema.column_feature(column): value for column, value in item.columns.items()},
            }
            self.waiting.append(_Waiting(item, photo, known, values))
        if len(self.waiting) >= TOGETHER or sum(row.photo.size for row in self.waiting) >= BYTES_TOGETHER:
            yield from self._finished()

    def finish_bundle(self) -> Iterator[Any]:
        for output in self._finished():
            if isinstance(output, beam.pvalue.TaggedOutput):
                yield beam.pvalue.TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value))
            else:
                yield GlobalWindows.windowed_value(output)

    def _finished(self) -> Iterator[Any]:
        """The records of the items that wait, and what goes to other outputs."""
        waiting, self.waiting = self.waiting, []
        new = [row.photo.encoded for row in waiting if row.photo.encoded is not None and row.known is None]
        made = iter(photos.normalise_all(new, self.image_size) if new else [])
        self.decoded.inc(len(new))
        for item, photo, known, values in waiting:
            image, reject = b"", photo.reject
            if photo.encoded is not None and known is not None:
                self.taken_over.inc()
                image = known
            elif photo.encoded is not None:
                image, reject = _stored(item, next(made))
            if reject:
                yield beam.pvalue.TaggedOutput(REJECTS, reject)
            elif photo.encoded is not None and (size := size_of(photo.encoded)):
                yield beam.pvalue.TaggedOutput(PHOTOS, size)
            features = records.item_features(list(item.columns))
            self.done.add()
            yield stable_hash(self.seed, values["item_id"]), records.serialise({**values, "image": image}, features)

    def read(self, item: Item, whole: bool = True) -> ReadPhoto:
        """The file of the photo of an item; without `whole` its state alone."""
        try:
            return self._read(item, whole)
        except MissingPhotoError as error:
            return ReadPhoto(reject=_reject(item, str(error), "missing_photo"))
        except images.PhotoError as error:
            return ReadPhoto(reject=_reject(item, str(error), "photo"))

    def normalised(self, item: Item, encoded: bytes) -> tuple[bytes, schema.Reject | None]:
        """(photo to store, None), or (b"", reject)."""
        return _stored(item, *photos.normalise_all([encoded], self.image_size))

    def _read(self, item: Item, whole: bool) -> ReadPhoto:
        if item.photo is not None:
            self.inside.inc()
            return ReadPhoto(item.photo)
        if not item.image:
            self.none_named.inc()
            return ReadPhoto()
        photo = self.places.read(item.image, whole)
        self.by_name.inc(photo.by_name)
        return ReadPhoto(photo.content, photo.state)


def _stored(item: Item, made: bytes | images.PhotoError) -> tuple[bytes, schema.Reject | None]:
    """(photo to store, None), or (b"", reject)."""
    if isinstance(made, images.PhotoError):
        return b"", _reject(item, str(made), "photo")
    return made, None


def available_from(item: Item, days: Iterable[tuple[int, DayStatistics]]) -> int:
    """The second from which on an item is there: as its row says, or that of its first event where this is earlier."""
    return min([item.available_from or schema.NEVER, *(statistics[2] for _, statistics in days)])


def size_of(encoded: bytes) -> PhotoSize | None:
    """The size of a photo, whose header alone is read; None where Pillow does not understand it."""
    try:
        with Image.open(io.BytesIO(encoded)) as header:
            return (*header.size, len(encoded))
    except Exception:  # TensorFlow has decoded it: no reason to lose the photo, let alone the job.
        return None


def _reject(item: Item, reason: str, kind: schema.RejectKind) -> schema.Reject:
    shown = f"'{printable(item.image, MOST_SHOWN)}': {reason}" if item.image else reason
    return schema.Reject(*item.place, "image", shown, kind)
