"""The log in a pipeline: what is new of it is read and checked, and known days stay as they are."""

import dataclasses
import hashlib
import json
import marshal
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsSingleton
from apache_beam.transforms.window import GlobalWindows

from beam_jobs import catalogue, checks
from beam_jobs.checks import COUNTS, DAY
from beam_jobs.known_days import FirstDay
from beam_jobs.known_log import KnownLog
from beam_jobs.packing import pack, size_of, unpack
from beam_jobs.raw_files import name_in
from beam_jobs.rejects import MOST_SHOWN
from beam_jobs.sources import BROKEN_FILES, REJECTS, ROWS_READ, RawFolder
from beam_jobs.tables import read_rows
from beam_jobs.user_groups import number_of_groups
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings import IngestSettings

_MODULUS = 2**63


class Log(NamedTuple):
    """What of the log is to be made, and what there is to tell of it.

    Attributes:
        main: (`DayOfGroup`, packed {user: rows}) of the events of known items, from the first day on.
        groups: the number of groups of users, a side input.
        unknown: (day, [(name of the file, row, item)]) of events whose items are not in the catalogue, likewise.
        rejects: of the files that are read, and those of the unchanged files as they were.
        first: (first day that is made anew, late rows).
        rows_read: (file, rows) of the files that are read.
        counts: ((file, name), number) of these.
        traces: ((name of the file, day), sum of hashes) of these.
        broken: why files could not be read to their ends.
    """

    main: beam.PCollection
    groups: AsSingleton
    unknown: beam.PCollection
    rejects: list[beam.PCollection]
    first: beam.PCollection
    rows_read: beam.PCollection
    counts: beam.PCollection
    traces: beam.PCollection
    broken: list[beam.PCollection]


def events(
    pipeline: beam.Pipeline,
    folder: RawFolder,
    ids: beam.PCollection,
    known: KnownLog,
    parts: beam.PCollection,
    settings: IngestSettings,
) -> Log:
    """Reads what is new of the log, and of the days that must be made anew what is known.

    Args:
        pipeline: to add the steps to.
        folder: the raw folder.
        ids: (item id, anything) of the catalogue.
        known: what is known of the log.
        parts: `DayPart`s of the known days.
        settings: of the stage.
    """
    rows = read_rows(pipeline, known.read, "event", "events", check=checks.CheckEvents(folder))
    traces = rows.main | "Traces" >> beam.ParDo(_Traces(folder.path)) | "Traces of days" >> beam.CombinePerKey(_added)
    first = {"traces": traces, "parts": parts, "ids": ids} | FirstDay(known, settings.late_days == "refuse")
    day = AsSingleton(first | "Day" >> beam.Map(lambda first: first[0]))
    again = read_rows(pipeline, known.again, "event", "events again", day, checks.CheckEvents(folder))
    blocks = (
        [rows.main, again.main] | "All events" >> beam.Flatten() | "From the first day" >> beam.FlatMap(_from_day, day)
    )
    of_items = (
        blocks | "Items of events" >> beam.FlatMap(catalogue.items_of) | "Events of items" >> beam.CombinePerKey(sum)
    )
    unknown = (
        {"events": of_items, "catalogue": ids}
        | "Join ids" >> beam.CoGroupByKey()
        | "Unknown ids" >> beam.FlatMap(catalogue.unknown_only)
    )
    sizes = [
        blocks | "Bytes of events" >> beam.Map(size_of),
        # Their users have clicked before, which takes memory, too.
        parts | "Bytes of known days" >> beam.Map(lambda part: len(part.facts)),
    ]
    groups = number_of_groups(sizes | "Bytes of rows and days" >> beam.Flatten())
    of_known = blocks | "Known items" >> beam.FlatMap(
        catalogue.known_items_only, unknown=AsDict(unknown), groups=groups, raw=folder.path
    ).with_outputs(catalogue.UNKNOWN, main="main")
    # They are cut where they come from, as the files of rejects hold no more, from which some are read again.
    rejects = rows[REJECTS] | "Cut rejects" >> beam.Map(_cut)
    return Log(
        of_known.main,
        groups,
        of_known[catalogue.UNKNOWN],
        [rejects, _known_rejects(pipeline, folder, known)],
        first,
        rows[ROWS_READ] | "Rows of files" >> beam.CombinePerKey(sum),
        rows[COUNTS] | "Counts of files" >> beam.CombinePerKey(sum),
        traces,
        [rows[BROKEN_FILES], again[BROKEN_FILES]],
    )


class _Traces(beam.DoFn):
    """((name of the file, day), sum of the hashes of its rows) of packed events, once for a bundle."""

    def __init__(self, raw: str) -> None:
        self.raw = raw

    def start_bundle(self) -> None:
        self.sums: dict[tuple[str, int], int] = {}

    def process(self, block: bytes) -> None:
        for *event, (file, row), context in unpack(block):
            key = file, event[2] // DAY
            # Without the name of its file. Of this version of the format alone are the bytes the same for the same row.
            content = hashlib.blake2b(marshal.dumps((row, *event, context), 2), digest_size=8)
            self.sums[key] = (self.sums.get(key, 0) + int.from_bytes(content.digest(), "big")) % _MODULUS

    def finish_bundle(self) -> Iterator[Any]:
        for (file, day), trace in self.sums.items():
            yield GlobalWindows.windowed_value(((name_in(self.raw, file), day), trace))


def _added(traces: Iterable[int]) -> int:
    return sum(traces) % _MODULUS


def _from_day(block: bytes, first: int) -> Iterator[bytes]:
    if first == -schema.NEVER:
        yield block
        return
    rows = [row for row in unpack(block) if row[2] // DAY >= first]
    if rows:
        yield pack(rows)


def _cut(reject: schema.Reject) -> schema.Reject:
    return dataclasses.replace(reject, field=reject.field[:MOST_SHOWN], reason=reject.reason[:MOST_SHOWN])


def _known_rejects(pipeline: beam.Pipeline, folder: RawFolder, known: KnownLog) -> beam.PCollection:
    """The rejects of the unchanged files, as the ingest that knows them has written them."""
    files = [] if known.place is None else transfer.names_in(known.place / schema.REJECTS_FOLDER)
    paths = {name_in(folder.path, path): path for path in known.files}
    return (
        pipeline
        | "Known rejects" >> beam.Create([f"{known.place}/{schema.REJECTS_FOLDER}/{name}" for name in files])
        | "Read known rejects" >> beam.FlatMap(_rejects_of, known.raw, paths)
    )


def _rejects_of(file: str, raw: str, paths: Mapping[str, str]) -> Iterator[schema.Reject]:
    for line in transfer.read_bytes(place_of(file)).decode("ascii").splitlines():
        reject = schema.Reject(**json.loads(line))
        path = paths.get(name_in(raw, reject.file))
        if path and reject.kind in ("event", "anonymous"):  # The others are found out anew.
            yield dataclasses.replace(reject, file=path)
