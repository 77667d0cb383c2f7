"""A user's events to page views with their histories, and page views to pre-training rows.

A page view is all rows of one user with one request id within one UTC day: where a shop uses a request id again (a
counter per session, say), a later click must not become the label of an earlier page view. In a positives-only log it
is all rows of one user at one timestamp.
"""

import bisect
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import apache_beam as beam
from apache_beam.metrics import Metrics

from beam_jobs.checks import DAY, Event
from beam_jobs.sources import NAMESPACE
from beam_jobs.splits import date_of
from beam_jobs.stable import stable_hash, stable_rng
from courier_tf import schema
from courier_tf.workdir import records

EVENTS = "events"  # Tag: the user's events, each once.


class PageView(NamedTuple):
    """One page view, whole.

    Attributes:
        items, clicked: what was shown (or sampled), in the order of the log, and its labels.
        timestamp: of its first row, be it a click or not.
        history: clicked items strictly before, oldest first; the same for every item.
        click_times: of each clicked item.
        tie_histories: for each clicked item, the clicks before its own by (timestamp, place in the log).
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
    """What the events of one page view, and no others of the user, share: (request id, day) or ("", second)."""
    return (event.request_id, event.timestamp // DAY) if event.request_id else ("", event.timestamp)


def view_id(event: Event) -> str:
    """The name of an event's page view; no two page views of a log, of whatever users, have the same."""
    if not event.request_id:
        return f"{event.user_id}@{event.timestamp}"
    # As JSON, because a user id or a request id may hold any separator.
    return json.dumps([event.user_id, event.request_id, date_of(event.timestamp)], ensure_ascii=False)


def merged(events: Iterable[Event]) -> tuple[list[Event], int, int]:
    """A user's events in the order of (timestamp, place), each item once per page view.

    Returns:
        (events, identical duplicates merged, rows of other labels or times merged; a click wins, then the earliest).
    """
    seen: dict[tuple, Event] = {}
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
    """(user, events) to PageViews; the merged events go to the output `events`.

    Args:
        history_kept: most recent clicked items of a history.
    """

    def __init__(self, history_kept: int) -> None:
        self.history_kept = history_kept
        self.duplicates = Metrics.counter(NAMESPACE, "duplicate_events_merged")
        self.conflicts = Metrics.counter(NAMESPACE, "conflicting_events_merged")
        self.cut = Metrics.counter(NAMESPACE, "page_views_cut_at_midnight")

    def process(self, element: tuple[str, Iterable[Event]]) -> Iterator:
        user, rows = element[0], list(element[1])
        events, duplicates, conflicts = merged(rows)
        # Of all rows, as a click that takes the place of its impression comes later: what the user has clicked in
        # between would be history where the item was clicked, and not where it was not.
        starts: dict[tuple[str, int], int] = {}
        for event in rows:
            key = view_key(event)
            starts[key] = min(event.timestamp, starts.get(key, event.timestamp))
        self.duplicates.inc(duplicates)
        self.conflicts.inc(conflicts)
        yield from (beam.pvalue.TaggedOutput(EVENTS, event) for event in events)
        clicks = [event for event in events if event.clicked]
        times, orders = [event.timestamp for event in clicks], [(event.timestamp, event.place) for event in clicks]
        groups: dict[tuple[str, int], list[Event]] = {}
        for event in events:
            groups.setdefault(view_key(event), []).append(event)
        days = Counter(request for request, _ in groups if request)
        self.cut.inc(sum(number > 1 for number in days.values()))
        for key, group in groups.items():
            yield PageView(
                user,
                view_id(group[0]),
                starts[key],
                [event.item_id for event in group],
                [event.clicked for event in group],
                self._last(clicks, bisect.bisect_left(times, starts[key])),
                {event.item_id: event.timestamp for event in group if event.clicked},
                {
                    event.item_id: self._last(clicks, bisect.bisect_left(orders, (event.timestamp, event.place)))
                    for event in group
                    if event.clicked
                },
            )

    def _last(self, clicks: list[Event], end: int) -> list[str]:
        return [event.item_id for event in clicks[max(0, end - self.history_kept) : end]]


def split_rows(clicked: list[str], others: list[str], size: int) -> tuple[list[tuple[list[str], list[str]]], int]:
    """Cuts a page view into rows of at most `size` items, each with a click and with others of its own.

    Args:
        clicked: clicked items, at least one.
        others: the rest of the page view, in the order in which they are dealt out.
        size: P.

    Returns:
        ([(clicked, others) of each row], number of others that found no place).
    """
    rows = min(len(clicked), -(-(len(clicked) + len(others)) // size))
    dealt = [(clicked[row::rows], []) for row in range(rows)]
    left = list(others)
    while left and any(len(c) + len(o) < size for c, o in dealt):
        for c, o in dealt:
            if left and len(c) + len(o) < size:
                o.append(left.pop(0))
    return dealt, len(left)


class PretrainingRows(beam.DoFn):
    """PageView to (sort key, serialised row): none for a page view without a click or without a history.

    Args:
        size: P, items of a row.
        log_order: one row per click, whose history may hold clicks of the same timestamp that stand before it.
        seed: of the order in which unclicked items are dealt out.
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
