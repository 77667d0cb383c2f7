"""Puts photos into the pre-training rows, so that a trainer reads them in the order in which it needs them."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.typehints.decorators import no_annotations

from courier_tf import schema

Row = tuple[int, bytes]  # (sort key, serialised record)


class InlinePhotos(beam.PTransform):
    """Adds the photos of their items to pre-training rows.

    Takes {"rows": pre-training rows, "items": item records}, both of type `Row`. Rows may have equal sort keys.

    Args:
        name: name of the split, for the labels of the steps.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"Inline photos of {name}")

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        items_of_rows = parts["rows"] | "Items of rows" >> beam.FlatMap(_items_of_row)
        photos_of_items = parts["items"] | "Photos of items" >> beam.Map(_photo_of_item)
        photos_of_rows = (
            {"keys": items_of_rows, "photo": photos_of_items}
            | "Join photos" >> beam.CoGroupByKey()
            | "Hand out" >> beam.FlatMap(_photos_by_row)
        )
        return (
            {"rows": parts["rows"], "photos": photos_of_rows}
            | "Join rows" >> beam.CoGroupByKey()
            | "Fill in" >> beam.FlatMap(_with_photos)
        )


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
