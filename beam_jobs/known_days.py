"""Days that an ingest before this one has made: what they pass on, and from which day on they must be made anew."""

from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs.day_files import DayFacts, DayPart, carry, read_part
from beam_jobs.item_days import AddDays
from beam_jobs.items import DayStatistics
from beam_jobs.known_log import KnownLog
from beam_jobs.user_days import last_clicks
from beam_jobs.user_groups import group_of

CLICKS = "clicks"  # Tags of outputs.
ITEMS = "items"
MOST_HELD = 200_000  # Users or items that a worker holds before it hands them on.


def read_known(pipeline: beam.Pipeline, known: KnownLog) -> beam.PCollection:
    """A `DayPart` of each part of the known days."""
    stems = [stem for day in sorted(known.days) for stem in known.days[day]]
    return (
        pipeline
        | "Known days" >> beam.Create(stems, reshuffle=True)
        | "Read known days" >> beam.Map(lambda stem, place: read_part(place, stem), str(known.place))
    )


class FirstDay(beam.PTransform):
    """The first day to make, and late rows: what `KnownLog.first_and_late` gives.

    Takes {"traces": ((file, day), sum of hashes) of the files that are read, "parts": `DayPart`s that are known, "ids":
    (item id, anything) of the catalogue}.

    Args:
        known: what is known of the log.
        refuse: make no day where rows are late.
    """

    def __init__(self, known: KnownLog, refuse: bool) -> None:
        super().__init__("First day")
        self.known, self.refuse = known, refuse

    def expand(self, inputs: Any) -> Any:
        named = (
            inputs["parts"] | "Items of days" >> beam.ParDo(_ItemsOfDays()) | "First named" >> beam.CombinePerKey(min)
        )
        moved = (
            {"days": named | "By item" >> beam.Map(_by_item), "catalogue": inputs["ids"]}
            | "Join items of days" >> beam.CoGroupByKey()
            | "Days that change" >> beam.FlatMap(_days_that_change)
        )
        return (
            inputs["parts"].pipeline
            | "Known log" >> beam.Create([self.known])
            | "First" >> beam.Map(_first_and_late, self.refuse, AsIter(inputs["traces"]), AsIter(moved))
        )


def _first_and_late(
    known: KnownLog, refuse: bool, traces: Iterable[tuple[tuple[str, int], int]], days: Iterable[int]
) -> tuple[int, list[tuple[str, int]]]:
    return known.first_and_late(traces, days, refuse)


class _ItemsOfDays(beam.DoFn):
    """((item, whether it was in the catalogue), first day that names it), once for a bundle."""

    def start_bundle(self) -> None:
        self.first: dict[tuple[str, bool], int] = {}

    def process(self, part: DayPart) -> None:
        facts = DayFacts.of(part)
        named = [(item, True) for item, *_ in facts.items] + [(item, False) for _, _, item in facts.unknown]
        for key in named:
            self.first[key] = min(part.day, self.first.get(key, part.day))

    def finish_bundle(self) -> Iterator[Any]:
        return (GlobalWindows.windowed_value(pair) for pair in self.first.items())


def _by_item(first: tuple[tuple[str, bool], int]) -> tuple[str, tuple[bool, int]]:
    (item, was_there), day = first
    return item, (was_there, day)


def _days_that_change(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[int]:
    """The first days whose events of an item are used and were not, or were and are not."""
    is_there = any(True for _ in element[1]["catalogue"])
    return (day for was_there, day in element[1]["days"] if was_there != is_there)


class TakeOver(beam.DoFn):
    """Takes the files of the known days before the first day that is made over: `DayPart`s, as they were given.

    The outputs are `CLICKS`, (group of users, `last_clicks`), and `ITEMS`, (item, {day: statistics}). Each comes once
    for a bundle.

    Args:
        known: the days.
        target: folder of this ingest.
        kept: length of a history.
    """

    def __init__(self, known: KnownLog, target: str, kept: int) -> None:
        self.known, self.target, self.kept = known, target, kept

    def start_bundle(self) -> None:
        self.clicks: dict[str, list[tuple[int, list[str]]]] = {}
        self.items: dict[str, dict[int, DayStatistics]] = {}

    def process(self, part: DayPart, first: int, groups: int) -> Iterator[Any]:
        self.groups = groups
        if part.day >= first:
            return
        facts = DayFacts.of(part)
        for user, _, last in facts.users:
            if last:
                days = self.clicks.setdefault(user, [])
                days.append((part.day, last))
                if len(days) > 2 * self.kept:
                    self.clicks[user] = sorted(days)[-self.kept :]  # Each has a click.
        for item, events, positives, second in facts.items:
            AddDays().add_input(self.items.setdefault(item, {}), {part.day: (events, positives, second)})
        yield carry(part, str(self.known.place), self.target, self.known.states)
        if max(len(self.clicks), len(self.items)) > MOST_HELD:
            yield from self._held()

    def finish_bundle(self) -> Iterator[TaggedOutput]:
        return (TaggedOutput(output.tag, GlobalWindows.windowed_value(output.value)) for output in self._held())

    def _held(self) -> Iterator[TaggedOutput]:
        """What is held of users and items, which is then let go."""
        of_groups: dict[int, dict[str, list[tuple[int, list[str]]]]] = {}
        for user, days in self.clicks.items():
            of_groups.setdefault(group_of(user, self.groups), {})[user] = sorted(days)[-self.kept :]
        for group, clicks in of_groups.items():
            yield TaggedOutput(CLICKS, (group, last_clicks(clicks, is_new=False)))
        for of_item in self.items.items():
            yield TaggedOutput(ITEMS, of_item)
        self.start_bundle()
