"""What a page view is, and the pre-training rows that are made of it.

A page view is all rows of one user with one request id within one UTC day. The day matters where a shop uses a request
id again, such as a counter per session: a later click must not become the label of an earlier page view. Rows without a
request id are one page view until the user pauses, or the day ends. In a positives-only log each second is a pause.
"""

import itertools
import json
from collections import Counter
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

from beam_jobs.checks import DAY, Event
from beam_jobs.splits import date_of
from beam_jobs.stable import stable_hash, stable_rng
from courier_tf import schema
from courier_tf.workdir import records

#: Identifies a page view among those of its user: (request id, day), or ("", second of its first row).
ViewKey = tuple[str, int]


class PageView(NamedTuple):
    """One page view.

    Attributes:
        items, clicked: the items that were shown or sampled, in the order of the log, and their labels.
        timestamp: the timestamp of its first row, clicked or not.
        history: items clicked strictly before, oldest first; the same for every item.
        click_times: clicked item -> timestamp of the click.
        tie_histories: clicked item -> items clicked before it by (timestamp, place), oldest first. Empty where no row
            is made of them.
        contexts: the context of each item, as in `Event`; empty where there are no context columns.
    """

    user_id: str
    page_view_id: str
    timestamp: int
    items: list[str]
    clicked: list[int]
    history: list[str]
    click_times: dict[str, int]
    tie_histories: dict[str, list[str]]
    contexts: list[tuple[str, ...]]

    @property
    def key(self) -> int:
        """Decides the part of its day that it is in, and the order in which it is written."""
        return stable_hash(self.page_view_id, self.user_id)

    def with_negatives(self, negatives: list[str]) -> "PageView":
        """The page view with further items that were not clicked. They take the contexts of the others, in turns.

        So a context tells nothing of whether an item was drawn.
        """
        contexts = list(itertools.islice(itertools.cycle(self.contexts), len(negatives)))
        return self._replace(
            items=self.items + negatives,
            clicked=self.clicked + [0] * len(negatives),
            contexts=self.contexts + contexts,
        )


def view_keys(events: Iterable[Event], pause: int) -> list[ViewKey]:
    """The page view of each event of a user.

    Args:
        events: in the order of their timestamps.
        pause: seconds between two events without a request id that end a page view.
    """
    keys: list[ViewKey] = []
    start = last = -pause - DAY
    for event in events:
        if event.request_id:
            keys.append((event.request_id, event.timestamp // DAY))
            continue
        if event.timestamp - last >= pause or event.timestamp // DAY > start // DAY:
            start = event.timestamp
        last = event.timestamp
        keys.append(("", start))
    return keys


def view_id(user: str, key: ViewKey) -> str:
    """The id of a page view, unique in the log."""
    request, number = key
    if not request:
        return f"{user}@{number}"
    # As JSON, because a user id or a request id may hold any separator.
    return json.dumps([user, request, date_of(number * DAY)], ensure_ascii=False)


class Merged(NamedTuple):
    """A user's events, of each item in a page view one. A click wins, then the earliest row.

    Its context is that of the earliest row: how the item was shown, and not how it was clicked. What is empty there is
    taken from the next row that has it.

    Attributes:
        events: in the order of (timestamp, place).
        keys: the page view of each.
        starts: page view -> timestamp of its first row. All rows count, also those that are left out here. A click that
            replaces its impression comes later, and what the user has clicked in between would be history where the
            item was clicked, and not where it was not.
        duplicates: rows left out that are the same as another one.
        clicks_of_impressions: rows left out because the item was shown first and clicked then.
        conflicts: other rows left out: their time or label differs.
    """

    events: list[Event]
    keys: list[ViewKey]
    starts: dict[ViewKey, int]
    duplicates: int = 0
    clicks_of_impressions: int = 0
    conflicts: int = 0


def merge(rows: Iterable[Event], pause: int) -> Merged:
    """Merges the rows of an item in a page view into one.

    Args:
        rows: all rows of a user, or of whole days of a user, in any order.
        pause: as for `view_keys`.
    """
    events = sorted(rows, key=attrgetter("timestamp", "place"))
    keys = view_keys(events, pause)
    starts: dict[ViewKey, int] = {}
    kept: dict[tuple[ViewKey, str], int] = {}  # Page view and item -> place of its row among the events.
    # Where there are several rows, the (timestamp, clicked) of each; and where one of them is an impression.
    forms: dict[tuple[ViewKey, str], set[tuple[int, int]]] = {}
    impressions: set[tuple[ViewKey, str]] = set()
    contexts: dict[tuple[ViewKey, str], tuple[str, ...]] = {}  # Of those with several rows.
    duplicates = answered = conflicts = 0
    for place, (event, key) in enumerate(zip(events, keys, strict=True)):
        starts.setdefault(key, event.timestamp)
        shown = key, event.item_id
        first = kept.setdefault(shown, place)
        if first == place:
            continue
        earlier = events[first]
        if event.context:
            known = contexts.get(shown, earlier.context)
            contexts[shown] = tuple([value or later for value, later in zip(known, event.context, strict=True)])
        seen = forms.setdefault(shown, {(earlier.timestamp, earlier.clicked)})
        impressions.update(shown for label in (earlier.clicked, event.clicked) if not label)
        form, other_label = (event.timestamp, event.clicked), (event.timestamp, 1 - event.clicked)
        if form in seen:
            duplicates += 1
            continue
        # The log may list the click of a second before its impression.
        if (event.clicked and shown in impressions) or other_label in seen:
            answered += 1
        else:
            conflicts += 1
        seen.add(form)
        if event.clicked > earlier.clicked:
            kept[shown] = place
    for shown, context in contexts.items():
        events[kept[shown]] = events[kept[shown]]._replace(context=context)
    places = sorted(kept.values())
    return Merged(
        [events[place] for place in places],
        [keys[place] for place in places],
        starts,
        duplicates,
        answered,
        conflicts,
    )


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
    given = 0
    for _ in range(size):  # A row takes one more item in each round, until it is full.
        if given == len(others):
            break
        for positives, negatives in dealt:
            if given < len(others) and len(positives) + len(negatives) < size:
                negatives.append(others[given])
                given += 1
    return dealt, len(others) - given


class PretrainingRows(NamedTuple):
    """Turns a PageView into pre-training rows.

    Attributes:
        size: P, items of a row.
        log_order: one row per click. Its history may hold clicks of the same timestamp that precede it in the log.
        seed: seed of the order in which items without a click are dealt out.
    """

    size: int
    log_order: bool
    seed: int

    def rows(self, view: PageView, counts: Counter[str]) -> Iterator[tuple[int, bytes]]:
        """(sort key, serialised row) of each row. Without a click or without a history there is none.

        Args:
            view: the page view.
            counts: counts what there is no row of, by name.
        """
        clicked = [item for item, label in zip(view.items, view.clicked, strict=True) if label]
        others = [item for item, label in zip(view.items, view.clicked, strict=True) if not label]
        if not clicked:
            counts["page_views_without_click_not_pretrained"] += 1
            return
        if len(others) > 1 and (view.history or self.log_order):  # A generator costs as much as all else of a row.
            stable_rng(self.seed, "rows", view.page_view_id).shuffle(others)
        if self.log_order:
            share = max(1, len(others) // len(clicked))
            rows = [([item], others[n * share : (n + 1) * share][: self.size - 1]) for n, item in enumerate(clicked)]
            dropped = len(others) - sum(len(row[1]) for row in rows)
        else:
            rows, dropped = split_rows(clicked, others, self.size)
        counts["unclicked_items_dropped_from_pretraining_rows"] += dropped
        for number, (positive, negative) in enumerate(rows):
            history, timestamp = view.history, view.timestamp
            if self.log_order:
                history, timestamp = view.tie_histories[positive[0]], view.click_times[positive[0]]
            if not history:
                counts["rows_without_history_not_pretrained"] += 1
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
