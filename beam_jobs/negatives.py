"""Sampled negatives for positives-only logs. They are drawn once, at ingest, with a seed of their own."""

from collections.abc import Callable, Container, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

import apache_beam as beam
import numpy as np

from beam_jobs.page_views import PageView
from beam_jobs.stable import stable_rng
from beam_jobs.user_days import ViewBlock, view_block, views_in

T = TypeVar("T")
TRIES = 100  # Draws per negative. Where a page view holds the whole pool, no draw can succeed.


class Pool(NamedTuple):
    """The items that negatives of one day are drawn from, and the running sum of their weights."""

    items: np.ndarray  # [n] str objects: in an array of texts, every text takes the space of the longest.
    cumulative: np.ndarray  # [n] int64
    total: int

    def items_of(self, tickets: np.ndarray) -> list[str]:
        """The items of [n] int64 tickets below `total`: each has as many as its weight."""
        items: list[str] = self.items[np.searchsorted(self.cumulative, tickets, side="right")].tolist()
        return items


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


class DrawNegatives(beam.DoFn):
    """Draws negatives for page views that hold positives only. An item of a page view is never drawn for it.

    Args:
        per_positive: negatives for each positive, drawn with replacement.
        seed: seed of the draws. They depend on the seed and the page view's id alone, on every runner.
    """

    def __init__(self, per_positive: int, seed: int) -> None:
        self.per_positive, self.seed = per_positive, seed

    def drawn(
        self, view: PageView, total: int, shown: Container[T], of_tickets: Callable[[np.ndarray], list[T]]
    ) -> list[T]:
        """The negatives of a page view. There are fewer than wanted where no draw succeeds.

        Args:
            view: the page view.
            total: tickets are drawn below this number.
            shown: what its items are.
            of_tickets: [n] int64 tickets to what they stand for.
        """
        rng = stable_rng(self.seed, view.page_view_id)
        wanted = self.per_positive * len(view.items)
        drawn: list[T] = []
        for _ in range(TRIES):
            if len(drawn) == wanted:
                break
            tickets = rng.integers(total, size=wanted - len(drawn))
            drawn += [negative for negative in of_tickets(tickets) if negative not in shown]
        return drawn


class DrawByPopularity(DrawNegatives):
    """Takes (day, {"counts": those of `popularity_pool`, "views": `ViewBlock`s of the day}), and gives such blocks."""

    def process(self, element: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[ViewBlock]:
        day, joined = element
        pool = popularity_pool(joined["counts"])
        for block in joined["views"]:
            yield view_block(day, [self._with_negatives(view, pool) for view in views_in(block)])

    def _with_negatives(self, view: PageView, pool: Pool) -> PageView:
        return view.with_negatives(self.drawn(view, pool.total, frozenset(view.items), pool.items_of))
