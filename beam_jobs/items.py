"""Turns catalogue rows into item records, each with its photo at the size that the encoder takes."""

import io
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.metrics import Metrics
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

PHOTOS = "photos"  # Tag of a further output: the `PhotoSize` of each photo that can be used.

#: (width, height, bytes) of a photo as the shop has it.
PhotoSize = tuple[int, int, int]
#: (impressions, positives, first timestamp) of an item on a day of the log. Each positive is an impression.
DayStatistics = tuple[int, int, int]


class BuildItems(beam.DoFn):
    """Turns (item id, {"rows": [Item], "days": [(day start, DayStatistics)]}) into (sort key, serialised record).

    An item whose photo is missing or broken is kept, with an empty image. A photo that a row names and that is missing
    or not usable goes to the rejects.

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

    def setup(self) -> None:
        self.places = PhotoPlaces(self.raw, self.follow_links)

    def process(self, element: tuple[str, dict[str, Iterable[Any]]], splits: Splits | None) -> Iterator[Any]:
        if splits is None:  # The job has failed, and its driver reports why. No photo needs to be read.
            return
        item_id, joined = element
        for item in joined["rows"]:  # There is one: duplicates have been rejected.
            days = list(joined["days"])
            photo, reject, size = self._photo(item)
            if reject:
                yield beam.pvalue.TaggedOutput(REJECTS, reject)
            if size:
                yield beam.pvalue.TaggedOutput(PHOTOS, size)
            train = [statistics for start, statistics in days if start < splits.valid_from]
            values = {
                "item_id": item_id,
                "image": photo,
                "title": item.title,
                "available_from": available_from(item, days),
                "train_impressions": sum(impressions for impressions, _, _ in train),
                "train_events": sum(positives for _, positives, _ in train),
                **{schema.column_feature(column): value for column, value in item.columns.items()},
            }
            self.done.add()
            yield stable_hash(self.seed, item_id), records.serialise(values, records.item_features(list(item.columns)))

    def _photo(self, item: Item) -> tuple[bytes, schema.Reject | None, PhotoSize | None]:
        """(photo to store, None, its size), or (b"", reject, None). Where no photo is named, (b"", None, None)."""
        encoded, reject = self.read(item)
        if encoded is None:
            return b"", reject, None
        photo, reject = self.normalised(item, encoded)
        return photo, reject, None if reject else size_of(encoded)

    def read(self, item: Item) -> tuple[bytes | None, schema.Reject | None]:
        """(file of the photo, None), or (None, reject). Where no photo is named, (None, None)."""
        try:
            return self._encoded(item), None
        except MissingPhotoError as error:
            return None, _reject(item, str(error), "missing_photo")
        except images.PhotoError as error:
            return None, _reject(item, str(error), "photo")

    def normalised(self, item: Item, encoded: bytes) -> tuple[bytes, schema.Reject | None]:
        """(photo to store, None), or (b"", reject)."""
        try:
            return photos.normalise(encoded, self.image_size), None
        except images.PhotoError as error:
            return b"", _reject(item, str(error), "photo")

    def _encoded(self, item: Item) -> bytes | None:
        """The photo's file; None where the row has none."""
        if item.photo is not None:
            self.inside.inc()
            return item.photo
        if not item.image:
            self.none_named.inc()
            return None
        photo = self.places.read(item.image)
        self.by_name.inc(photo.by_name)
        return photo.content


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
