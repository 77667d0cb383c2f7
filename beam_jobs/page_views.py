"""Turns a user's events into page views with their histories, and page views into pre-training rows.

A page view is all rows of one user with one request id within one UTC day. The day matters where a shop uses a request
id again, such as a counter per session: a later click must not become the label of an earlier page view. In a
positives-only log, a page view is all rows of one user at one timestamp.
"""

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_jobs.checks import DAY, Event
from beam_jobs.sources import NAMESPACE
from beam_jobs.splits import date_of
from beam_jobs.stable import stable_hash, stable_rng
from courier_tf import schema
from courier_tf.workdir import records

EVENTS = "events"  # Tag of the output with the user's events, each once.


class PageView(NamedTuple):
    """One page view.

    Attributes:
        items, clicked: the items that were shown or sampled, in the order of the log, and their labels.
        timestamp: the timestamp of its first row, clicked or not.
        history: items clicked strictly before, oldest first; the same for every item.
        click_times: clicked item -> timestamp of the click.
        tie_histories: clicked item -> items clicked before it by (timestamp, place in the log), oldest first.
    """

    user_id: str
    page_view_id: str
    timestamp: int
    items: list[str]
    clicked: list[int]
    history: list[str]
    click_times: dict[str, int]
    tie_histories: dict[str, list[str]]


def view_key(event: Event) -> tuple[str, int]:
    """Identifies the page view of an event among those of its user: (request id, day) or ("", second)."""
    return (event.request_id, event.timestamp // DAY) if event.request_id else ("", event.timestamp)


def view_id(event: Event) -> str:
    """The id of an event's page view, unique in the log."""
    if not event.request_id:
        return f"{event.user_id}@{event.timestamp}"
    # As JSON, because a user id or a request id may hold any separator.
    return json.dumps([event.user_id, event.request_id, date_of(event.timestamp)], ensure_ascii=False)


def merged(events: Iterable[Event]) -> tuple[list[Event], int, int]:
    """Merges the rows of an item in a page view into one. A click wins, then the earliest row.

    Returns:
        (events in the order of (timestamp, place), number of identical rows merged, number of rows with another label
        or time merged).
    """
    seen: dict[tuple[tuple[str, int], str], Event] = {}
    duplicates = conflicts = 0
    for event in sorted(events, key=lambda event: (event.timestamp, event.place)):
        key = (view_key(event), event.item_id)
        first = seen.setdefault(key, event)
        if first is not event:
            if (first.timestamp, first.clicked) == (event.timestamp, event.clicked):
                duplicates += 1
            else:
                conflicts += 1
                if event.clicked > first.clicked:
                    seen[key] = event
    return sorted(seen.values(), key=lambda event: (event.timestamp, event.place)), duplicates, conflicts


class BuildPageViews(beam.DoFn):
    """Turns (user, events) into PageViews. The merged events go to the output `EVENTS`.

    Args:
        history_kept: length of a history: the most recent clicked items.
    """

    def __init__(self, history_kept: int) -> None:
        self.history_kept = history_kept
        self.duplicates = Metrics.counter(NAMESPACE, "duplicate_events_merged")
        self.conflicts = Metrics.counter(NAMESPACE, "conflicting_events_merged")
        self.cut = Metrics.counter(NAMESPACE, "page_views_cut_at_midnight")

    def process(self, element: tuple[str, Iterable[Event]]) -> Iterator[Any]:
        user, rows = element[0], list(element[1])
        events, duplicates, conflicts = merged(rows)
        self.duplicates.inc(duplicates)
        self.conflicts.inc(conflicts)
        yield from (beam.pvalue.TaggedOutput(EVENTS, event) for event in events)
        starts = _starts(rows)
        clicks = [event for event in events if event.clicked]
        groups: dict[tuple[str, int], list[Event]] = {}
        for event in events:
            groups.setdefault(view_key(event), []).append(event)
        days = Counter(request for request, _ in groups if request)
        self.cut.inc(sum(number > 1 for number in days.values()))
        for key, group in groups.items():
            yield self._page_view(user, group, starts[key], clicks)

    def _page_view(self, user: str, group: list[Event], start: int, clicks: list[Event]) -> PageView:
        """The page view of a group of events.

        Args:
            user: id of the user.
            group: events of the page view.
            start: timestamp of its first row.
            clicks: all clicks of the user, in the order of (timestamp, place).
        """
        clicked = [event for event in group if event.clicked]
        clicks_before = {event.item_id: bisect.bisect_left(clicks, _order(event), key=_order) for event in clicked}
        return PageView(
            user,
            view_id(group[0]),
            start,
            [event.item_id for event in group],
            [event.clicked for event in group],
            self._last(clicks, bisect.bisect_left(clicks, start, key=_timestamp)),
            {event.item_id: event.timestamp for event in clicked},
            {item: self._last(clicks, end) for item, end in clicks_before.items()},
        )

    def _last(self, clicks: list[Event], end: int) -> list[str]:
        """The history of a moment before which the user has clicked `end` times."""
        return [event.item_id for event in clicks[max(0, end - self.history_kept) : end]]


def _order(event: Event) -> tuple[int, tuple[str, int]]:
    return event.timestamp, event.place


def _timestamp(event: Event) -> int:
    return event.timestamp


def _starts(rows: Iterable[Event]) -> dict[tuple[str, int], int]:
    """The timestamp of the first row of each page view.

    All rows count, also those that `merged` drops. A click that replaces its impression comes later, and what the user
    has clicked in between would be history where the item was clicked, and not where it was not.
    """
    starts: dict[tuple[str, int], int] = {}
    for event in rows:
        key = view_key(event)
        starts[key] = min(event.timestamp, starts.get(key, event.timestamp))
    return starts


def split_rows(clicked: list[str], others: list[str], size: int) -> tuple[list[tuple[list[str], list[str]]], int]:
    """Cuts a page view into rows of at most `size` items, each with a click and with others of its own.

    Args:
        clicked: clicked items, at least one.
        others: the other items, in the order in which they are dealt out.
        size: P, items of a row.

    Returns:
        ([(clicked, others) of each row], number of others that found no place).

    >>> split_rows(["a", "b"], ["c", "d", "e"], size=3)
    ([(['a'], ['c', 'e']), (['b'], ['d'])], 0)
    """
    rows = min(len(clicked), -(-(len(clicked) + len(others)) // size))
    dealt: list[tuple[list[str], list[str]]] = [(clicked[row::rows], []) for row in range(rows)]
    left = list(others)
    while left and any(len(positives) + len(negatives) < size for positives, negatives in dealt):
        for positives, negatives in dealt:
            if left and len(positives) + len(negatives) < size:
                negatives.append(left.pop(0))
    return dealt, len(left)


class PretrainingRows(beam.DoFn):
    """Turns a PageView into (sort key, serialised row) pairs. Without a click or without a history there is none.

    Args:
        size: P, items of a row.
        log_order: one row per click. Its history may hold clicks of the same timestamp that precede it in the log.
        seed: seed of the order in which items without a click are dealt out.
    """

    def __init__(self, size: int, log_order: bool, seed: int) -> None:
        self.size, self.log_order, self.seed = size, log_order, seed
        self.without_click = Metrics.counter(NAMESPACE, "page_views_without_click_not_pretrained")
        self.without_history = Metrics.counter(NAMESPACE, "rows_without_history_not_pretrained")
        self.dropped = Metrics.counter(NAMESPACE, "unclicked_items_dropped_from_pretraining_rows")

    def process(self, view: PageView) -> Iterator[tuple[int, bytes]]:
        clicked = [item for item, label in zip(view.items, view.clicked, strict=True) if label]
        others = [item for item, label in zip(view.items, view.clicked, strict=True) if not label]
        if not clicked:
            self.without_click.inc()
            return
        stable_rng(self.seed, "rows", view.page_view_id).shuffle(others)
        if self.log_order:
            share = max(1, len(others) // len(clicked))
            rows = [([item], others[n * share : (n + 1) * share][: self.size - 1]) for n, item in enumerate(clicked)]
            dropped = len(others) - sum(len(row[1]) for row in rows)
        else:
            rows, dropped = split_rows(clicked, others, self.size)
        self.dropped.inc(dropped)
        for number, (positive, negative) in enumerate(rows):
            history, timestamp = view.history, view.timestamp
            if self.log_order:
                history, timestamp = view.tie_histories[positive[0]], view.click_times[positive[0]]
            if not history:
                self.without_history.inc()
                continue
            values = {
                "user_id": view.user_id,
                "page_view_id": view.page_view_id,
                "timestamp": timestamp,
                "history_item_ids": history,
                "page_view_item_ids": positive + negative,
                "page_view_clicked": [1] * len(positive) + [0] * len(negative),
            }
            key = stable_hash(self.seed, view.page_view_id, view.user_id, number)
            yield key, records.serialise(values, schema.PAGE_VIEW_FEATURES)
