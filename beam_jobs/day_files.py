"""The files of a day of the log: its impressions and pre-training rows as they are in the end, and what days pass on.

They hang on the rows of this day and of those before it, and on the items that these name, but not on the splits. So
the next ingest takes them over. A large day has several parts.
"""

import base64
import json
import marshal
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np

from beam_jobs.checks import DAY
from beam_jobs.file_numbers import impression_bytes
from beam_jobs.impressions import impressions
from beam_jobs.packing import unpack
from beam_jobs.page_views import PageView, PretrainingRows
from beam_jobs.splits import date_of, seconds_of
from beam_jobs.user_days import UserDay, sum_of_items, user_days_in
from beam_jobs.write import write_tfrecords
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.workdir import records, stored
from courier_tf.workdir.checksums import FileState

FACTS, RECORDS = ".json", ".tfrecord"  # Endings of the two files of a part.
IMPRESSION, ROW = 0, 1  # Kinds of blocks.
BLOCK = 1_000  # Records of a block.
ORDER_SEED = 0  # Seed of the order in the files. Training shuffles again, with the seed of the run.

#: (what decides its file, sort key, serialised record)
Record = tuple[int, int, bytes]


class DayPart(NamedTuple):
    """A part of a day on its way through the job.

    Attributes:
        day: timestamp // DAY.
        stem: name of its files, without their endings.
        facts: a `DayFacts`, as JSON.
    """

    day: int
    stem: str
    facts: bytes


class DayFacts(NamedTuple):
    """What a part of a day passes on. All lists are sorted.

    Attributes:
        counts: name -> number.
        of_rows: counts of pre-training rows, which matter where the day is in the train or valid span.
        size: bytes of its impressions, about.
        lengths: (length of the history, events) of its page views.
        sizes: (events of the page view, events).
        items: (item, events, positives, first second).
        users: (user, events, last items clicked on the day, oldest first).
        requests: hashes of user and request id, int64 in base64.
        unknown: (file, row, item) of events whose items are not in the catalogue.
        contexts: (context column, value, events).
    """

    counts: dict[str, int]
    of_rows: dict[str, int]
    size: int
    lengths: list[tuple[int, int]]
    sizes: list[tuple[int, int]]
    items: list[tuple[str, int, int, int]]
    users: list[tuple[str, int, list[str]]]
    requests: str
    unknown: list[tuple[str, int, str]]
    contexts: list[tuple[str, str, int]]

    def hashes(self) -> np.ndarray:
        """[n] int64, sorted."""
        return np.frombuffer(base64.b64decode(self.requests), "<i8")

    @classmethod
    def of(cls, part: DayPart) -> "DayFacts":
        """The facts of a part."""
        return cls(*json.loads(part.facts))


def day_of(stem: str) -> int:
    """The day of a part: timestamp // DAY.

    Raises:
        RawDataError: the name is not that of a part.
    """
    return seconds_of(stem[:10], "day") // DAY


def read_part(place: str, stem: str) -> DayPart:
    """A part of a day of an ingest that is in `place`."""
    facts = transfer.read_bytes(place_of(place) / schema.DAYS_FOLDER / f"{stem}{FACTS}")
    return DayPart(day_of(stem), stem, facts)


def blocks_of(place: str, part: DayPart) -> Iterator[tuple[int, list[Record]]]:
    """(kind, records) of the blocks of a part."""
    for block in records.records_of(str(place_of(place) / schema.DAYS_FOLDER / f"{part.stem}{RECORDS}")):
        yield marshal.loads(block)


def carry(part: DayPart, source: str, target: str, states: Mapping[str, FileState]) -> DayPart:
    """Takes the files of a part over from one ingest into another.

    Args:
        part: the part.
        source, target: folders of the ingests.
        states: name below the folder -> state, of the files of the source.
    """
    for ending in (FACTS, RECORDS):
        name = f"{schema.DAYS_FOLDER}/{part.stem}{ending}"
        transfer.link(place_of(source) / name, place_of(target) / name)
        stored.note_state(place_of(target), name, states[name])
    return part


class WriteDays(beam.DoFn):
    """Writes parts of days.

    Takes ((day, part), {"views": packed [page view with its negatives], "users": packed [(user, *`UserDay`)],
    "unknown": lists of (file, row, item)}), and yields `DayPart`s.

    Args:
        target: folder of the ingest.
        rows: makes pre-training rows.
        context_columns: of the impressions.
        negatives: drawn for each positive of a positives-only log; None for an impression log.
    """

    def __init__(
        self, target: str, rows: PretrainingRows, context_columns: Sequence[str], negatives: int | None
    ) -> None:
        self.target, self.rows, self.context_columns, self.negatives = target, rows, context_columns, negatives

    def process(
        self, element: tuple[tuple[int, int], dict[str, Iterable[Any]]], parts: dict[int, int]
    ) -> Iterator[DayPart]:
        (day, number), joined = element
        users = [user_day for packed in joined["users"] for user_day in user_days_in(packed)]
        unknown = sorted(row for rows in joined["unknown"] for row in rows)
        views = (PageView(*view) for packed in joined["views"] for view in unpack(packed))
        facts, blocks = self._contents(views, users, unknown)
        part = DayPart(
            day,
            f"{date_of(day * DAY)}-{number:05d}-of-{parts.get(day, 1):05d}",
            json.dumps(facts, separators=(",", ":")).encode("ascii"),
        )
        self._write(part.stem + RECORDS, lambda aside: write_tfrecords(aside, blocks))
        self._write(part.stem + FACTS, lambda aside: _write_bytes(aside, part.facts))
        yield part

    def _write(self, name: str, write: Any) -> None:
        target: Place = place_of(self.target)
        name = f"{schema.DAYS_FOLDER}/{name}"
        with transfer.written_aside(target / name) as aside:
            write(str(aside))
            stored.note(target, name, aside)

    def _contents(
        self,
        views: Iterable[PageView],
        users: list[tuple[str, UserDay]],
        unknown: list[tuple[str, int, str]],
    ) -> tuple[DayFacts, list[bytes]]:
        shown: list[Record] = []
        rows: list[Record] = []
        lengths, sizes, of_rows, counts = Counter[int](), Counter[int](), Counter[str](), Counter[str]()
        contexts = Counter[tuple[str, str]]()
        size = 0
        for view in views:
            key = view.key
            shown.extend((key, *pair) for pair in impressions(view, ORDER_SEED, self.context_columns))
            rows.extend((pair[0], *pair) for pair in self.rows.rows(view, of_rows))
            size += impression_bytes(view)
            events = len(view.items)
            if self.negatives is not None:
                events = sum(view.clicked)
                counts["negatives_not_drawn"] += self.negatives * events - (len(view.items) - events)
            lengths[len(view.history)] += events
            sizes[events] += events
            if self.context_columns:
                for clicked, context in zip(view.clicked, view.contexts, strict=True):
                    if clicked or self.negatives is None:
                        contexts.update(zip(self.context_columns, context, strict=True))
        for _, user_day in users:
            counts.update(user_day.counts)
        items = sum_of_items(user_day for _, user_day in users)
        requests = np.sort(np.frombuffer(b"".join(user_day.requests for _, user_day in users), "<i8"))
        facts = DayFacts(
            dict(sorted(counts.items())),
            dict(sorted(of_rows.items())),
            size,
            sorted(lengths.items()),
            sorted(sizes.items()),
            sorted((item, *statistics) for item, statistics in items.items()),
            sorted((user, user_day.number, user_day.last) for user, user_day in users),
            base64.b64encode(requests.tobytes()).decode(),
            unknown,
            sorted((column, value, number) for (column, value), number in contexts.items()),
        )
        return facts, [*_blocks(IMPRESSION, shown), *_blocks(ROW, rows)]


def _blocks(kind: int, made: list[Record]) -> Iterator[bytes]:
    made.sort()
    # Of this version of the format alone are the bytes the same for the same value.
    return (marshal.dumps((kind, made[start : start + BLOCK]), 2) for start in range(0, len(made), BLOCK))


def _write_bytes(file: str, content: bytes) -> None:
    with open(file, "wb") as stream:
        stream.write(content)
