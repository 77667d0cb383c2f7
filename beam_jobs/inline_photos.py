"""Puts photos into the pre-training rows, so that a trainer reads them in the order in which it needs them."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsIter, AsSingleton
from apache_beam.typehints.decorators import no_annotations

from courier_tf import schema

Row = tuple[int, bytes]  # (sort key, serialised record)


class InlinePhotos(beam.PTransform):
    """Adds the photos of their items to pre-training rows.

    Takes {"rows": pre-training rows, "items": item records}, both of type `Row`. Rows may have equal sort keys. What
    comes out has no rows where the photos of all splits would take more than `most` bytes.

    Args:
        name: name of the split, for the labels of the steps.
        sizes: bytes of the photos of each split, a side input, as `inline_bytes` gives them.
        most: bytes.
    """

    def __init__(self, name: str, sizes: AsIter, most: int) -> None:
        super().__init__(f"Inline photos of {name}")
        self.sizes, self.most = sizes, most

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        rows = parts["rows"] | "If not too large" >> beam.Filter(_is_within, self.most, sizes=self.sizes)
        items_of_rows = rows | "Items of rows" >> beam.FlatMap(_items_of_row)
        photos_of_items = parts["items"] | "Photos of items" >> beam.Map(_photo_of_item)
        photos_of_rows = (
            {"keys": items_of_rows, "photo": photos_of_items}
            | "Join photos" >> beam.CoGroupByKey()
            | "Hand out" >> beam.FlatMap(_photos_by_row)
        )
        return (
            {"rows": rows, "photos": photos_of_rows}
            | "Join rows" >> beam.CoGroupByKey()
            | "Fill in" >> beam.FlatMap(_with_photos)
        )


def _is_within(_: Row, most: int, sizes: Iterable[int]) -> bool:
    return sum(sizes) <= most


def inline_bytes(rows: beam.PCollection, items: beam.PCollection, name: str) -> beam.PCollection:
    """The bytes that the photos of rows will take, about: their number times the mean size of a photo. One int.

    Args:
        rows: pre-training rows without photos.
        items: item records.
        name: name of the split, for the labels of the steps.
    """
    sizes = (
        items
        | f"Size of photos for {name}" >> beam.Map(lambda item: (1, len(_photo_of_item(item)[1])))
        | f"Size of all photos for {name}" >> beam.CombineGlobally(_add_pairs)
    )
    return (
        rows
        | f"Photos of {name} rows" >> beam.Map(_photos_in)
        | f"Photos of all {name} rows" >> beam.CombineGlobally(sum)
        | f"Bytes of {name} rows" >> beam.Map(_times_mean, sizes=AsSingleton(sizes))
    )


def _add_pairs(pairs: Iterable[tuple[int, int]]) -> tuple[int, int]:
    number = total = 0
    for photos, size in pairs:
        number, total = number + photos, total + size
    return number, total


def _times_mean(photos: int, sizes: tuple[int, int]) -> int:
    return photos * sizes[1] // max(1, sizes[0])


def _photos_in(row: Row) -> int:
    example = tf.train.Example.FromString(row[1])
    return sum(len(_bytes_list(example, items)) for items in schema.INLINE_PHOTO_FEATURES.values())


def _bytes_list(example: tf.train.Example, name: str) -> list[bytes]:
    return list(example.features.feature[name].bytes_list.value)


def _items_of_row(row: Row) -> set[tuple[bytes, int]]:
    """(item id, sort key of the row) for every item of a row."""
    example = tf.train.Example.FromString(row[1])
    return {(item, row[0]) for items in schema.INLINE_PHOTO_FEATURES.values() for item in _bytes_list(example, items)}


def _photo_of_item(item: Row) -> tuple[bytes, bytes]:
    """(item id, photo)."""
    example = tf.train.Example.FromString(item[1])
    return _bytes_list(example, "item_id")[0], _bytes_list(example, "image")[0]


def _photos_by_row(group: tuple[bytes, dict[str, Iterable[Any]]]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    """(sort key of a row, (item id, photo)) for every row of an item."""
    item, joined = group
    for photo in joined["photo"]:  # There is one: items are unique here.
        yield from ((key, (item, photo)) for key in joined["keys"])


def _with_photos(group: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[Row]:
    key, joined = group
    photo_of = dict(joined["photos"])
    for serialised in joined["rows"]:
        example = tf.train.Example.FromString(serialised)
        for photos, items in schema.INLINE_PHOTO_FEATURES.items():
            values = [photo_of[item] for item in _bytes_list(example, items)]
            example.features.feature[photos].bytes_list.value.extend(values)
        yield key, example.SerializeToString(deterministic=True)
