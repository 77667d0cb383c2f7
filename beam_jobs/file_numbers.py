"""How many files each table gets: a worker sorts a file in memory, so a large table has more of them.

The numbers come from counts, before anything is written, and are the same on every runner.
"""

from collections.abc import Mapping
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton

from beam_jobs.checks import DAY
from beam_jobs.page_views import PageView
from beam_jobs.splits import Splits
from courier_tf import schema
from courier_tf.settings import IngestSettings

_RECORD = 200  # Bytes of a record beside its ids and photos: names, lengths, numbers.
_CONTEXT = 30  # Bytes of a context column beside its value, about.
_TEXTS = 400  # Bytes of the texts of an item, about.


def files_of(size: int, settings: IngestSettings) -> int:
    """The number of files of a table of `size` bytes.

    >>> files_of(1, IngestSettings()), files_of(10**10, IngestSettings(shard_megabytes=100))
    (4, 96)
    """
    return max(settings.shards, -(-size // (settings.shard_megabytes << 20)))


def files_of_items(ids: beam.PCollection, settings: IngestSettings) -> beam.PCollection:
    """The number of files of items, one int. Each photo counts as its pixels, which its file hardly ever exceeds.

    Args:
        ids: one element for each item of the catalogue.
        settings: of the stage.
    """
    size = _RECORD + _TEXTS + 3 * settings.image_size**2
    return (
        ids
        | "Count items" >> beam.combiners.Count.Globally()
        | "Item files" >> beam.Map(lambda n: files_of(n * size, settings))
    )


def files_of_users(rows: beam.PCollection, settings: IngestSettings) -> beam.PCollection:
    """The number of files of users, one int.

    Args:
        rows: (key, (key, record)) of each user.
        settings: of the stage.
    """
    return (
        rows
        | "Bytes of users" >> beam.Map(lambda row: len(row[1][1]))
        | "All bytes of users" >> beam.CombineGlobally(sum)
        | "User files" >> beam.Map(lambda size: files_of(size, settings))
    )


def files_of_splits(sizes: beam.PCollection, splits: AsSingleton, settings: IngestSettings) -> beam.PCollection:
    """{split: number of files of its impressions}, one element.

    Args:
        sizes: (day, bytes of impressions), any number of times for a day.
        splits: the splits, a side input.
        settings: of the stage.
    """
    return (
        sizes
        | "Bytes of all days" >> beam.CombinePerKey(sum)
        | "All bytes" >> beam.combiners.ToDict()
        | "Files" >> beam.Map(_of_splits, settings, splits=splits)
    )


def impression_bytes(view: PageView) -> int:
    """The bytes of the impressions of a page view, about."""
    shared = sum(map(len, view.history), 2 * len(view.history) + len(view.user_id) + len(view.page_view_id))
    told = sum(_CONTEXT + len(value) for context in view.contexts for value in context)
    return len(view.items) * (_RECORD + shared) + sum(map(len, view.items)) + told


def _of_splits(days: Mapping[int, int], settings: IngestSettings, splits: Splits | None) -> dict[str, int]:
    sizes: dict[str, Any] = dict.fromkeys(schema.SPLITS, 0)
    for day, size in days.items() if splits else ():
        sizes[splits.of(day * DAY)] += size  # type: ignore[union-attr]  # Without splits there are no days here.
    return {name: files_of(size, settings) for name, size in sizes.items()}
