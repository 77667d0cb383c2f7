"""The files of the splits, from the records of all days: impressions and pre-training rows."""

from collections.abc import Callable, Iterable
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from beam_jobs.file_numbers import files_of
from beam_jobs.inline_photos import InlinePhotos, inline_bytes
from beam_jobs.made_days import read_records, tag_of
from beam_jobs.packing import unpack
from beam_jobs.write import WriteShuffled
from courier_tf import schema
from courier_tf.settings import IngestSettings

INLINE_BYTES = "inline_photo_bytes"  # Name of a count.


def write_page_views(
    parts: beam.PCollection,
    items: beam.PCollection,
    cut: AsSingleton,
    files: beam.PCollection,
    target: str,
    settings: IngestSettings,
) -> list[beam.PCollection]:
    """Writes impressions and pre-training rows of each split.

    Args:
        parts: `DayPart`s of all days.
        items: finished item records, for rows that hold their photos.
        cut: the splits.
        files: {split: number of files}, one element.
        target: folder to write.
        settings: settings of the stage.

    Returns:
        (name, number): impressions and pre-training rows written, and the bytes of photos inside rows.
    """
    records = read_records(parts, target, settings.inline_photos, cut, files)
    files_of_split = {name: files | f"Files of {name}" >> beam.Map(lambda files, name: files[name], name)
                      for name in schema.SPLITS}  # fmt: skip
    written = [
        records[tag_of(schema.IMPRESSIONS_FOLDER, name)]
        | WriteShuffled(target, schema.IMPRESSIONS_FOLDER, name, files_of_split[name], unpack)
        for name in schema.SPLITS
    ]
    rows = {name: records[tag_of(schema.PAGE_VIEWS_FOLDER, name)] for name in schema.SPLITS if name != "test"}
    expand: Callable[[Any], Iterable[tuple[int, bytes]]] = unpack
    if settings.inline_photos:
        expand = as_it_is
        sizes = {name: inline_bytes(rows[name], items, name) for name in rows}
        all_sizes = list(sizes.values()) | "All bytes of photos" >> beam.Flatten()
        written.append(all_sizes | "Name bytes of photos" >> beam.Map(lambda size: (INLINE_BYTES, size)))
        most = int(settings.max_inline_gigabytes * 1e9)
        for name, size in sizes.items():
            with_photos = {"rows": rows[name], "items": items} | InlinePhotos(name, AsIter(all_sizes), most)
            rows[name] = with_photos | f"Key {name} rows" >> beam.Map(lambda row: (row[0], row))
            files_of_split[name] = files_of_split[name] | f"Files of {name} with photos" >> beam.Map(
                lambda files, size: max(files, files_of(size, settings)), size=AsSingleton(size)
            )
    for name, of_split in rows.items():
        written.append(
            of_split
            | WriteShuffled(target, schema.PAGE_VIEWS_FOLDER, name, files_of_split[name], expand)
            # A page view makes several rows where it is long, and one for each click with log_order.
            | f"Call {name} rows" >> beam.Map(_renamed, f"pretraining_rows_{name}")
        )
    return written


def _renamed(count: tuple[str, int], name: str) -> tuple[str, int]:
    return name, count[1]


def as_it_is(row: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    """The records of a row: itself, with its sort key."""
    return [row]
