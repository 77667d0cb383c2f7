"""Writes what an importer reads as a raw folder: items and events in Parquet, row by row, and a link to the photos."""

import contextlib
import dataclasses
import shutil
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from beam_jobs.importers.importer import EventRow, Importer, ItemRow
from beam_jobs.importers.published import ImportFailedError, LeftOut
from beam_jobs.photo_places import PHOTO_FOLDER
from beam_jobs.splits import seconds_of
from beam_jobs.times import DAY
from courier_tf import schema
from courier_tf.progress import Progress
from courier_tf.workdir.atomic import replace_directory

ROWS_OF_A_GROUP = 100_000  # The ingest job reads row groups side by side, and holds one per worker.
_EVENT_SCHEMA = pa.schema(
    [("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.timestamp("s", tz="UTC"))]
)
Row = TypeVar("Row", ItemRow, EventRow)


@dataclasses.dataclass
class Outcome:
    """What an import has written and left out.

    Attributes:
        items, without_photo: items, and those of them that name no photo.
        events: positives.
        days: day since 1970 -> events.
        left_out: ("items" or "events", reason) -> rows.
        examples: the same -> the first of these rows.
    """

    items: int = 0
    without_photo: int = 0
    events: int = 0
    days: Counter[int] = dataclasses.field(default_factory=Counter)
    left_out: Counter[tuple[str, str]] = dataclasses.field(default_factory=Counter)
    examples: dict[tuple[str, str], LeftOut] = dataclasses.field(default_factory=dict)

    def leave_out(self, table: str, row: LeftOut) -> None:
        """Counts a row that is not written."""
        self.left_out[table, row.reason] += 1
        self.examples.setdefault((table, row.reason), row)


def import_published(importer: Importer, target: Path, since: str | None = None) -> Outcome:
    """Writes a raw folder.

    Args:
        importer: reads the files of the publisher.
        target: the raw folder. It appears whole.
        since: the first day, YYYY-MM-DD (UTC), whose events are taken.

    Raises:
        ImportFailedError: the target is not empty, or nothing is left to write.
        RawDataError: a file of the publisher is broken.
    """
    start = None if since is None else seconds_of(since, "--since")
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise ImportFailedError(f"{target} is there, and is not empty: remove it, or choose another folder")
    outcome = Outcome()
    with _draft(target) as draft:
        _write_items(importer, draft, outcome)
        _write_events(importer, draft, outcome, start, since)
        if importer.photos:
            (draft / PHOTO_FOLDER).symlink_to(importer.photos.folder.resolve(), target_is_directory=True)
    return outcome


@contextlib.contextmanager
def _draft(target: Path) -> Iterator[Path]:
    """A folder beside the target that takes its place at the end, or is removed where something fails."""
    draft = target.with_name(f".{target.name}.partial")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    try:
        yield draft
        replace_directory(draft, target)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_items(importer: Importer, folder: Path, outcome: Outcome) -> None:
    names = ("item_id", "image", *importer.columns)
    table = pa.schema([(name, pa.string()) for name in names])
    known: set[str] = set()
    with pq.ParquetWriter(folder / f"{schema.RAW_ITEMS}.parquet", table, compression="zstd") as writer:
        for group in _groups(_kept(importer.items(), schema.RAW_ITEMS, outcome)):
            items = []
            for item in group:
                if item.item_id in known:
                    outcome.left_out[schema.RAW_ITEMS, "that repeat an item"] += 1
                else:
                    known.add(item.item_id)
                    items.append(item)
            outcome.items += len(items)
            outcome.without_photo += sum(not item.image for item in items)
            columns = [[item.item_id for item in items], [item.image for item in items]]
            columns += [[item.columns.get(name, "") for item in items] for name in importer.columns]
            writer.write_batch(pa.record_batch([pa.array(values, pa.string()) for values in columns], schema=table))
    if not outcome.items:
        raise ImportFailedError(f"{importer.source} has no item that can be used{_reasons(outcome)}")
    if outcome.without_photo == outcome.items:
        place = f", such as {names_shown(known)}, in {importer.photos.folder}" if importer.photos else ""
        raise ImportFailedError(f"{importer.source}: none of {outcome.items:,} items has a photo{place}")


def _write_events(importer: Importer, folder: Path, outcome: Outcome, start: int | None, since: str | None) -> None:
    progress = Progress("import", None, "events")
    with pq.ParquetWriter(folder / f"{schema.RAW_EVENTS}.parquet", _EVENT_SCHEMA, compression="zstd") as writer:
        for group in _groups(_kept(importer.events(), schema.RAW_EVENTS, outcome)):
            events = group if start is None else [event for event in group if event.seconds >= start]
            if len(events) < len(group):
                outcome.left_out[schema.RAW_EVENTS, f"before {since}"] += len(group) - len(events)
            outcome.events += len(events)
            outcome.days.update(event.seconds // DAY for event in events)
            columns = [
                pa.array([getattr(event, name) for event in events], kind)
                for name, kind in (("user_id", pa.string()), ("item_id", pa.string()))
            ]
            seconds = pa.array([event.seconds for event in events], pa.int64()).cast(_EVENT_SCHEMA.field(2).type)
            writer.write_batch(pa.record_batch([*columns, seconds], schema=_EVENT_SCHEMA))
            progress.reached(outcome.events)
    if not outcome.events:
        raise ImportFailedError(f"{importer.source} has no event that can be used{_reasons(outcome)}")


def _kept(rows: Iterator[Row | LeftOut], table: str, outcome: Outcome) -> Iterator[Row]:
    """The rows that are not left out; the others are counted."""
    for row in rows:
        if isinstance(row, LeftOut):
            outcome.leave_out(table, row)
        else:
            yield row


def _groups(rows: Iterator[Row]) -> Iterator[Sequence[Row]]:
    """The rows in groups of `ROWS_OF_A_GROUP`."""
    group: list[Row] = []
    for row in rows:
        group.append(row)
        if len(group) == ROWS_OF_A_GROUP:
            yield group
            group = []
    if group:
        yield group


def names_shown(names: set[str]) -> str:
    """A few of many names.

    >>> names_shown({"b", "a", "c", "d"})
    'a, b, c'
    """
    return ", ".join(sorted(names)[:3])


def _reasons(outcome: Outcome) -> str:
    """Why rows were left out, for an error."""
    told = [f"{number:,} {table} {reason}" for (table, reason), number in outcome.left_out.most_common()]
    return f": left out are {'; '.join(told)}" if told else ""
