"""Sampled negatives for positives-only logs. They are drawn once, at ingest, with a seed of their own."""

import bisect
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_jobs.checks import DAY
from beam_jobs.sources import NAMESPACE
from beam_jobs.stable import stable_rng
from beam_jobs.user_days import PackedView, packed_view, unpacked

TRIES = 100  # Draws per negative. Where a page view holds the whole pool, no draw can succeed.


class Pool(NamedTuple):
    """The items that negatives of one day are drawn from, and the running sum of their weights.

    Only items whose sum is at most `total` can be drawn, so that days can share the arrays.
    """

    items: np.ndarray  # [n] str objects: in an array of texts, every text takes the space of the longest.
    cumulative: np.ndarray  # [n] int64
    total: int


def popularity_pool(counts: Iterable[tuple[int, str, int]]) -> Pool:
    """The pool of a day.

    Args:
        counts: (day, item, events) of the day and of those before it that the pool reaches back to, in any order.
    """
    window: dict[str, int] = {}
    # The order decides which item a draw gives: the newest day first, then the ids.
    for _, item, number in sorted(counts, key=lambda count: (-count[0], count[1])):
        window[item] = window.get(item, 0) + number
    cumulative = np.cumsum(list(window.values()))
    return Pool(np.array(list(window), object), cumulative, int(cumulative[-1]))


def pools_of_days(days: Iterable[tuple[int, int]], least: int) -> dict[int, list[int]]:
    """Day -> the days whose pools hold its events: itself, and later ones that have too few events.

    Args:
        days: (day, events) of every day of the log.
        least: events that a pool holds at least, where the log has so many by then.

    >>> pools_of_days([(3, 5), (4, 2), (9, 4)], least=6)
    {3: [3, 4], 4: [4, 9], 9: [9]}
    """
    ordered = sorted(days)
    totals = [number for _, number in ordered]
    pools: dict[int, list[int]] = {day: [] for day, _ in ordered}
    for place, (day, _) in enumerate(ordered):
        for before in range(first_of_window(totals, place, least), place + 1):
            pools[ordered[before][0]].append(day)
    return pools


def first_of_window(totals: list[int], place: int, least: int) -> int:
    """The place of the first day whose events are in the pool of the day at `place`.

    Args:
        totals: events of each day with events, in order.
        place: place of the day.
        least: as for `pools_of_days`.

    >>> first_of_window([5, 5, 5, 5], place=3, least=11)
    1
    """
    held = totals[place]
    while held < least and place > 0:
        place -= 1
        held += totals[place]
    return place


def median_reach(days: list[tuple[int, int]], least: int) -> int:
    """Days that the pools of popularity negatives reach back, in the median over the events.

    Args:
        days: (day, events) of every day of the log.
        least: as for `pools_of_days`.

    >>> median_reach([(0, 10), (4, 10), (5, 10)], least=15)
    1
    """
    ordered = sorted(days)
    totals = [number for _, number in ordered]
    reach = sorted(
        (day - ordered[first_of_window(totals, place, least)][0], number) for place, (day, number) in enumerate(ordered)
    )
    half, below = sum(totals) / 2, 0
    for days_back, number in reach:
        below += number
        if below >= half:
            return days_back
    return 0


def uniform_pools(counts: list[tuple[tuple[int, str], int]], available_from: dict[str, int | None]) -> dict[int, Pool]:
    """One pool per day of the log: the items available by its end, all with the same weight.

    Do not report figures with these negatives alone: popularity tells clicks from them.

    Args:
        counts: ((day, item), events) for every day and item of the log; a day is timestamp // DAY.
        available_from: declared second of each item of the catalogue, or None. An earlier event takes precedence. An
            item with neither is never drawn.
    """
    first_day = {item: second // DAY for item, second in available_from.items() if second is not None}
    for (day, item), _ in counts:
        first_day[item] = min(day, first_day.get(item, day))
    items = sorted(first_day, key=lambda item: (first_day[item], item))
    first_days = [first_day[item] for item in items]
    array, cumulative = np.array(items, object), np.arange(1, len(items) + 1)
    days = {day for (day, _), _ in counts}
    return {day: Pool(array, cumulative, bisect.bisect_right(first_days, day)) for day in days}


class DrawNegatives(beam.DoFn):
    """Adds negatives to page views that hold positives only. An item of a page view is never drawn for it.

    Args:
        per_positive: negatives for each positive, drawn with replacement.
        seed: seed of the draws. They depend on the seed and the page view's id alone, on every runner.
    """

    def __init__(self, per_positive: int, seed: int) -> None:
        self.per_positive, self.seed = per_positive, seed
        self.missing = Metrics.counter(NAMESPACE, "negatives_not_drawn")

    def drawn(self, packed: PackedView, pool: Pool) -> PackedView:
        """A page view with its negatives."""
        view = unpacked(packed)
        rng = stable_rng(self.seed, view.page_view_id)
        wanted, positives = self.per_positive * len(view.items), set(view.items)
        drawn: list[str] = []
        for _ in range(TRIES):
            if len(drawn) == wanted:
                break
            ticket = rng.integers(pool.total, size=wanted - len(drawn))
            items = pool.items[np.searchsorted(pool.cumulative, ticket, side="right")].tolist()
            drawn += [item for item in items if item not in positives]
        self.missing.inc(wanted - len(drawn))
        return packed_view(view._replace(items=view.items + drawn, clicked=view.clicked + [0] * len(drawn)))


class DrawByPopularity(DrawNegatives):
    """Takes (day, {"counts": those of `popularity_pool`, "views": page views of the day})."""

    def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[PackedView]:
        pool = popularity_pool(element[1]["counts"])
        for view in element[1]["views"]:
            yield self.drawn(view, pool)


class DrawUniformly(DrawNegatives):
    """Takes page views, and the pools of `uniform_pools`, which share one list of items."""

    def process(self, view: PackedView, pools: dict[int, Pool]) -> Iterator[PackedView]:
        yield self.drawn(view, pools[view[1] // DAY])
