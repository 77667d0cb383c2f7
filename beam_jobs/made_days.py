"""From the files of all days to what ingest writes: which split a day is in is decided here, and the sums over days."""

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs.catalogue import UNKNOWN, unknown_reject
from beam_jobs.checks import COUNTS, DAY
from beam_jobs.day_files import IMPRESSION, DayFacts, DayPart, Record, blocks_of
from beam_jobs.known_days import MOST_HELD
from beam_jobs.packing import pack
from beam_jobs.sources import REJECTS
from beam_jobs.splits import Splits
from courier_tf import schema

USERS = "users"  # Tags of outputs.
REQUESTS = "requests"
_RANGES = 16  # Of hashes of requests, each counted by one worker.

Count = tuple[str, int]  # (name, number)


class SumUp(beam.DoFn):
    """Turns `DayPart`s into (day, bytes of its impressions), and further outputs.

    They are `USERS` (user, events), `COUNTS` (name, number), `UNKNOWN` (id that the catalogue does not have, events),
    `REJECTS`, and `REQUESTS` (range, hashes of requests as bytes).

    Args:
        paths: name in the raw folder -> path, of the files of the log.
    """

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths

    def start_bundle(self) -> None:
        self.sums: dict[str, Counter[str]] = {tag: Counter() for tag in (USERS, COUNTS, UNKNOWN)}

    def process(self, part: DayPart) -> Iterator[Any]:
        facts = DayFacts.of(part)
        yield part.day, facts.size
        self.sums[COUNTS].update(facts.counts)
        for user, number, _ in facts.users:
            self.sums[USERS][user] += number
        for name, row, item in facts.unknown:
            self.sums[UNKNOWN][item] += 1
            yield TaggedOutput(REJECTS, unknown_reject(self.paths[name], row, item))
        hashes = facts.hashes()
        borders = np.searchsorted(hashes, [(2**63 // _RANGES) * number for number in range(_RANGES)])
        for number, some in enumerate(np.split(hashes, borders[1:])):
            if len(some):
                yield TaggedOutput(REQUESTS, (number, some.tobytes()))
        if max(map(len, self.sums.values())) > MOST_HELD:
            yield from self._held()

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        return (TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value)) for output in self._held())

    def _held(self) -> Iterator[TaggedOutput]:
        for tag, counts in self.sums.items():
            yield from (TaggedOutput(tag, counted) for counted in counts.items())
        self.start_bundle()


def page_views_cut(requests: beam.PCollection) -> beam.PCollection:
    """("page_views_cut_at_midnight", requests of a user that have events on several days).

    Args:
        requests: those of `SumUp`. A day has each hash once.
    """
    return (
        requests
        | "Requests of a range" >> beam.GroupByKey()
        | "On several days" >> beam.MapTuple(on_several_days)
        | "All on several days" >> beam.CombineGlobally(sum)
        | "Name them" >> beam.Map(lambda number: ("page_views_cut_at_midnight", number))
    )


def on_several_days(_: int, hashes: Iterable[bytes]) -> int:
    """How many hashes of a range are on several days. A day has each hash once."""
    _, times = np.unique(np.frombuffer(b"".join(hashes), "<i8"), return_counts=True)
    return int((times > 1).sum())


def counts_of_split(part: DayPart, splits: Splits | None) -> Iterator[Count]:
    """(name, number): the page views of its split, and what pre-training has no rows of."""
    if splits is None:  # The job has failed, and its driver reports why.
        return
    facts, split = DayFacts.of(part), splits.of(part.day * DAY)
    yield f"page_views_{split}", facts.counts.get("page_views", 0)
    if split != "test":
        yield from facts.of_rows.items()


def tag_of(kind: str, split: str) -> str:
    """The output of `ReadRecords` that has the records of a folder and a split."""
    return f"{kind}_{split}"


class ReadRecords(beam.DoFn):
    """Turns `DayPart`s into the records of each folder and split, `tag_of` them.

    What comes out is (number of the file, packed (sort key, record) pairs).

    Args:
        place: folder of the ingest.
        inline: give pre-training rows one by one, as such pairs.
    """

    def __init__(self, place: str, inline: bool) -> None:
        self.place, self.inline = place, inline

    def process(self, part: DayPart, splits: Splits | None, files: dict[str, int]) -> Iterator[TaggedOutput]:
        if splits is None:  # The job has failed, and its driver reports why.
            return
        split = splits.of(part.day * DAY)
        for kind, made in blocks_of(self.place, part):
            if kind == IMPRESSION:
                yield from _into_files(tag_of(schema.IMPRESSIONS_FOLDER, split), made, files[split])
            elif split != "test" and self.inline:  # Pre-training learns from train and is watched on valid.
                yield from (TaggedOutput(tag_of(schema.PAGE_VIEWS_FOLDER, split), (key, row)) for _, key, row in made)
            elif split != "test":
                yield from _into_files(tag_of(schema.PAGE_VIEWS_FOLDER, split), made, files[split])


def _into_files(tag: str, made: list[Record], files: int) -> Iterator[TaggedOutput]:
    of_files: list[list[tuple[int, bytes]]] = [[] for _ in range(files)]
    for place, key, record in made:
        of_files[place % files].append((key, record))
    return (TaggedOutput(tag, (number, pack(some))) for number, some in enumerate(of_files) if some)


def read_records(
    parts: beam.PCollection, place: str, inline: bool, splits: AsSingleton, files: beam.PCollection
) -> beam.pvalue.DoOutputsTuple:
    """The outputs of `ReadRecords`.

    Args:
        parts: `DayPart`s.
        place: folder of the ingest.
        inline: as there.
        splits: the splits, a side input.
        files: {split: number of files}, one element.
    """
    tags = [tag_of(schema.IMPRESSIONS_FOLDER, split) for split in schema.SPLITS]
    tags += [tag_of(schema.PAGE_VIEWS_FOLDER, split) for split in schema.SPLITS if split != "test"]
    return (
        parts
        | "Spread days" >> beam.Reshuffle()
        | "Read records of days"
        >> beam.ParDo(ReadRecords(place, inline), splits=splits, files=AsSingleton(files)).with_outputs(*tags)
    )
