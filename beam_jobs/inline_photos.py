"""Photos inside the pre-training rows, so that a trainer reads them in the order in which it needs them."""

from collections.abc import Iterable, Iterator

import apache_beam as beam
import tensorflow as tf

from courier_tf import schema

Row = tuple[int, bytes]  # (sort key, serialised record)


class InlinePhotos(beam.PTransform):
    """{"rows": pre-training rows, "items": item records}, both `Row`, to rows that hold their items' photos too.

    Rows whose sort keys happen to be the same do not disturb each other.

    Args:
        name: of the split, for the labels of the steps.
    """

    def __init__(self, name: str) -> None:
        super().__init__(f"Inline photos of {name}")

    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        wanted = parts["rows"] | "Items of rows" >> beam.FlatMap(_wanted)
        photos = parts["items"] | "Photos of items" >> beam.Map(_photo)
        found = (
            {"keys": wanted, "photo": photos} | "Join photos" >> beam.CoGroupByKey() | "Hand out" >> beam.FlatMap(_hand)
        )
        return (
            {"rows": parts["rows"], "photos": found}
            | "Join rows" >> beam.CoGroupByKey()
            | "Fill in" >> beam.FlatMap(_filled)
        )


def _bytes_list(example: tf.train.Example, name: str) -> list[bytes]:
    return list(example.features.feature[name].bytes_list.value)


def _wanted(row: Row) -> set[tuple[bytes, int]]:
    """(item id, sort key of the row) of every item of a row."""
    example = tf.train.Example.FromString(row[1])
    return {(item, row[0]) for items in schema.INLINE_PHOTO_FEATURES.values() for item in _bytes_list(example, items)}


def _photo(item: Row) -> tuple[bytes, bytes]:
    example = tf.train.Example.FromString(item[1])
    return _bytes_list(example, "item_id")[0], _bytes_list(example, "image")[0]


def _hand(group: tuple[bytes, dict[str, Iterable]]) -> Iterator[tuple[int, tuple[bytes, bytes]]]:
    item, found = group
    for photo in found["photo"]:  # One: items are unique here.
        yield from ((key, (item, photo)) for key in found["keys"])


def _filled(group: tuple[int, dict[str, Iterable]]) -> Iterator[Row]:
    key, found = group
    photo_of = dict(found["photos"])
    for serialised in found["rows"]:
        example = tf.train.Example.FromString(serialised)
        for photos, items in schema.INLINE_PHOTO_FEATURES.items():
            values = [photo_of[item] for item in _bytes_list(example, items)]
            example.features.feature[photos].bytes_list.value.extend(values)
        yield key, example.SerializeToString(deterministic=True)
