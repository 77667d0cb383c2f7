"""Uniform negatives, drawn by number: no worker holds the catalogue.

Items have numbers in the order of their first day and their id, so those that are there by the end of a day are the
first ones. A page view looks up the numbers of its own items, draws others, and looks up whose numbers these are.
"""

import bisect
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.pvalue import AsSingleton, TaggedOutput
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.checks import DAY
from beam_jobs.negatives import DrawNegatives
from beam_jobs.stable import stable_hash
from beam_jobs.user_days import ViewBlock, view_block, views_in

BUCKETS = 200  # Ranges of ids that the items of a day are sorted in, each by one worker.
_TICKETS = "tickets"


class Numbering(NamedTuple):
    """Where the numbers of items begin.

    Attributes:
        first: (first day, range of ids) -> the number of the first item there.
        days: the first days of items, in order.
        totals: items that are there by the end of each of these days.
    """

    first: dict[tuple[int, int], int]
    days: list[int]
    totals: list[int]

    def total(self, day: int) -> int:
        """Items that are there by the end of a day on which there are some."""
        return self.totals[bisect.bisect_right(self.days, day) - 1]


class DrawUniformly(beam.PTransform):
    """Adds negatives to page views that hold positives only: items that are available by the end of the day.

    Do not report figures with these negatives alone: popularity tells clicks from them. Takes a dictionary: `views`
    (`ViewBlock`), `days` ((item, {day: statistics})) and `ids` ((item, declared second or None)). An earlier event
    takes precedence over what is declared. An item with neither is never drawn.

    Args:
        per_positive, seed: as for `DrawNegatives`.
    """

    def __init__(self, per_positive: int, seed: int) -> None:
        super().__init__("Uniform negatives")
        self.per_positive, self.seed = per_positive, seed

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, parts: dict[str, beam.PCollection]) -> beam.PCollection:
        first_days = (
            {name: parts[name] for name in ("days", "ids")}
            | "Join days" >> beam.CoGroupByKey()
            | "First days" >> beam.FlatMap(_first_day)
        )
        sample = first_days | "Ids" >> beam.Keys() | "Sample" >> beam.combiners.Top.Smallest(BUCKETS, key=stable_hash)
        borders = AsSingleton(sample | "Borders" >> beam.Map(sorted))
        ranges = first_days | "Ranges" >> beam.Map(_into_range, borders=borders)
        numbering = AsSingleton(
            ranges
            | "Sizes of ranges" >> beam.combiners.Count.PerKey()
            | "All sizes" >> beam.combiners.ToList()
            | "Numbering" >> beam.Map(numbering_of)
        )
        numbers = ranges | "Ids of a range" >> beam.GroupByKey() | "Number" >> beam.FlatMap(_number, numbering)
        views = parts["views"] | "Key page views" >> beam.FlatMap(_by_id)
        shown = (
            {"number": numbers, "views": views | "Items of page views" >> beam.FlatMap(_items_of_view)}
            | "Join own numbers" >> beam.CoGroupByKey()
            | "Own numbers" >> beam.FlatMap(_handed_out)
        )
        drawn = (
            {"view": views, "shown": shown}
            | "Join page views" >> beam.CoGroupByKey()
            | "Draw" >> beam.ParDo(_Draw(self.per_positive, self.seed), numbering).with_outputs(_TICKETS, main="main")
        )
        names = (
            {"number": numbers | "Key by number" >> beam.Map(_with_pair), "views": drawn[_TICKETS]}
            | "Join drawn numbers" >> beam.CoGroupByKey()
            | "Drawn items" >> beam.FlatMap(_handed_out)
        )
        return (
            {"drawn": drawn.main, "names": names}
            | "Join drawn items" >> beam.CoGroupByKey()
            | "Fill in" >> beam.FlatMap(_filled)
        )


def _first_day(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[tuple[str, int]]:
    item, joined = element
    first = [second // DAY for second in joined["ids"] if second is not None]
    first += [min(days) for days in joined["days"]]
    if first:
        yield item, min(first)


def _into_range(pair: tuple[str, int], borders: list[str]) -> tuple[tuple[int, int], str]:
    """((first day, range of ids), item)."""
    return (pair[1], bisect.bisect_right(borders, pair[0])), pair[0]


def numbering_of(sizes: list[tuple[tuple[int, int], int]]) -> Numbering:
    """Where the numbers of each (first day, range of ids) begin.

    >>> numbering_of([((5, 1), 2), ((4, 0), 3), ((5, 0), 1)])
    Numbering(first={(4, 0): 0, (5, 0): 3, (5, 1): 4}, days=[4, 5], totals=[3, 6])
    """
    first, totals, number = {}, {}, 0
    for place, size in sorted(sizes):
        first[place] = number
        number += size
        totals[place[0]] = number
    return Numbering(first, list(totals), list(totals.values()))


def _number(group: tuple[tuple[int, int], Iterable[str]], numbering: Numbering) -> Iterator[tuple[str, int]]:
    """(item, its number) of each item of a range."""
    return zip(sorted(group[1]), itertools.count(numbering.first[group[0]]), strict=False)


def _with_pair(pair: tuple[str, int]) -> tuple[int, tuple[int, str]]:
    return pair[1], (pair[1], pair[0])


def _by_id(block: ViewBlock) -> Iterator[tuple[str, ViewBlock]]:
    """(page view id, block of this page view alone)."""
    return ((view.page_view_id, view_block(block[0], [view])) for view in views_in(block))


def _items_of_view(keyed: tuple[str, ViewBlock]) -> Iterator[tuple[str, str]]:
    """(item, page view id) of each of its items."""
    return ((item, keyed[0]) for view in views_in(keyed[1]) for item in dict.fromkeys(view.items))


def _handed_out(group: tuple[Any, dict[str, Iterable[Any]]]) -> Iterator[tuple[str, Any]]:
    """(page view id, what was looked up) for each page view that asks."""
    for looked_up in group[1]["number"]:  # There is one: items and numbers are unique.
        yield from ((view, looked_up) for view in group[1]["views"])


class _Draw(DrawNegatives):
    """Takes (page view id, {"view": it, "shown": numbers of its items}), and draws numbers of others."""

    def process(self, element: tuple[str, dict[str, Iterable[Any]]], numbering: Numbering) -> Iterator[Any]:
        name, joined = element
        shown = frozenset(joined["shown"])
        for block in joined["view"]:  # There is one, of one page view.
            (view,) = views_in(block)
            tickets = self.drawn(view, numbering.total(block[0]), shown, np.ndarray.tolist)
            yield name, (block, tickets)
            yield from (TaggedOutput(_TICKETS, (ticket, name)) for ticket in dict.fromkeys(tickets))


def _filled(element: tuple[str, dict[str, Iterable[Any]]]) -> Iterator[ViewBlock]:
    names = dict(element[1]["names"])
    for block, tickets in element[1]["drawn"]:
        negatives = [names[ticket] for ticket in tickets]
        yield view_block(block[0], [view.with_negatives(negatives) for view in views_in(block)])
