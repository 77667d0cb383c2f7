"""Sampled negatives for positives-only logs. They are drawn once, at ingest, with a seed of their own."""

import bisect
from collections.abc import Iterator
from typing import NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics

from beam_jobs.checks import DAY
from beam_jobs.page_views import PageView
from beam_jobs.sources import NAMESPACE
from beam_jobs.stable import stable_rng

TRIES = 100  # Draws per negative. Where a page view holds the whole pool, no draw can succeed.


class Pool(NamedTuple):
    """The items that negatives of one day are drawn from, and the running sum of their weights.

    Only items whose sum is at most `total` can be drawn, so that days can share the arrays.
    """

    items: np.ndarray  # [n] str objects: in an array of texts, every text takes the space of the longest.
    cumulative: np.ndarray  # [n] int64
    total: int


def popularity_pools(counts: list[tuple[tuple[int, str], int]], least: int) -> dict[int, Pool]:
    """One pool per day of the log: the events of the day, and of the days before until there are enough.

    Args:
        counts: ((day, item), events) for every day and item of the log; a day is timestamp // DAY.
        least: events that a pool holds at least, where the log has so many by then.
    """
    days: dict[int, dict[str, int]] = {}
    for (day, item), number in sorted(counts):
        days.setdefault(day, {})[item] = number
    order, pools = sorted(days), {}
    totals = [sum(days[day].values()) for day in order]
    for place, day in enumerate(order):
        window, earlier = dict(days[day]), first_of_window(totals, place, least)
        for before in range(place - 1, earlier - 1, -1):
            for item, number in days[order[before]].items():
                window[item] = window.get(item, 0) + number
        cumulative = np.cumsum(list(window.values()))
        pools[day] = Pool(np.array(list(window), object), cumulative, int(cumulative[-1]))
    return pools


def first_of_window(totals: list[int], place: int, least: int) -> int:
    """The place of the first day whose events are in the pool of the day at `place`.

    Args:
        totals: events of each day with events, in order.
        place: place of the day.
        least: as for `popularity_pools`.

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
        least: as for `popularity_pools`.

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
        counts: as for `popularity_pools`.
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
    """Adds negatives to a PageView that holds positives only. An item of that page view is never drawn.

    Args:
        per_positive: negatives for each positive, drawn with replacement.
        seed: seed of the draws. They depend on the seed and the page view's id alone, on every runner.
    """

    def __init__(self, per_positive: int, seed: int) -> None:
        self.per_positive, self.seed = per_positive, seed
        self.missing = Metrics.counter(NAMESPACE, "negatives_not_drawn")

    def process(self, view: PageView, pools: dict[int, Pool]) -> Iterator[PageView]:
        pool = pools[view.timestamp // DAY]
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
        yield view._replace(items=view.items + drawn, clicked=view.clicked + [0] * len(drawn))
