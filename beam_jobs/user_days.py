"""Turns events into page views with their histories, a day of a user at a time.

A page view lies within a day, so the rows of a day are merged without those of other days. What crosses days is the
last clicks of a user. No worker holds more rows of a user than those of a day, packed, however long the log is. A large
day is merged in pieces.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.checks import Event
from beam_jobs.day_pieces import pieces_of_day, rows_of
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import Merged, PageView, ViewKey, merge, view_id
from beam_jobs.stable import stable_hash
from beam_jobs.work_done import USER_DAYS, Pieces

DAYS = "days"  # Tag of an output: (user, packed `UserDay`).

DayOfUser = tuple[str, int]  # User id, and timestamp // DAY.
#: Names of counts: those of `Merged`, after the number of page views.
_COUNTS = (
    "page_views", "duplicate_events_merged", "clicks_merged_into_their_impressions", "conflicting_events_merged",
)  # fmt: skip
#: A page view on its way to its file: the key that places it, its timestamp, and its packed `PageView`.
PackedView = tuple[int, int, bytes]


class UserDay(NamedTuple):
    """What a day of a user passes on, without its page views.

    Attributes:
        day: timestamp // DAY.
        number: of events.
        last: the last items clicked, oldest first.
        requests: hashes of user and request id, each once, as bytes of little-endian int64.
        items: (item, events, positives, first second) of each item.
        counts: name -> number.
    """

    day: int
    number: int
    last: list[str]
    requests: bytes
    items: list[tuple[str, int, int, int]]
    counts: dict[str, int]


#: (timestamp, place, item) of a click.
Click = tuple[int, tuple[str, int], str]


def clicks_of(events: Iterable[Event]) -> Iterator[Click]:
    """The clicks among events."""
    return ((event.timestamp, event.place, event.item_id) for event in events if event.clicked)


def page_views(user: str, merged: Merged, clicks: list[Click], kept: int, ties: bool) -> Iterator[PageView]:
    """Page views of a day of a user, with the clicks of that day as their histories.

    Args:
        user: the user's id.
        merged: all events of these page views.
        clicks: all clicks of the day, in order.
        kept: length of a history: the most recent clicked items.
        ties: fill in `tie_histories`.
    """
    groups: dict[ViewKey, list[Event]] = {}
    for event, key in zip(merged.events, merged.keys, strict=True):
        groups.setdefault(key, []).append(event)
    for key, group in groups.items():
        start = merged.starts[key]
        yield PageView(
            user,
            view_id(user, key),
            start,
            [event.item_id for event in group],
            [event.clicked for event in group],
            _before(clicks, (start,), kept),
            {event.item_id: event.timestamp for event in group if event.clicked},
            {item: _before(clicks, (second, place), kept) for second, place, item in clicks_of(group)} if ties else {},
            [event.context for event in group] if group[0].context else [],
        )


def _before(clicks: list[Click], place: tuple[Any, ...], kept: int) -> list[str]:
    end = bisect_left(clicks, place)
    return [item for _, _, item in clicks[max(0, end - kept) : end]]


def with_days_before(view: PageView, before: list[str], kept: int) -> PageView:
    """A page view whose histories go on with the last items clicked on the days before, oldest first."""
    if not before:
        return view
    ties = {item: [*before, *history][-kept:] for item, history in view.tie_histories.items()}
    return view._replace(history=[*before, *view.history][-kept:], tie_histories=ties)


def histories(days: list[tuple[int, list[str]]], kept: int) -> Iterator[tuple[int, list[str]]]:
    """(day, last items clicked on the days before it, oldest first) of each day of a user that has such.

    Args:
        days: (day, last items clicked on it, oldest first), in any order.
        kept: length of a history.

    >>> list(histories([(9, ["c"]), (3, ["a", "b"]), (7, [])], kept=2))
    [(7, ['a', 'b']), (9, ['a', 'b'])]
    """
    before: list[str] = []
    for day, clicked in sorted(days):
        if before:
            yield day, before
        before = [*before, *clicked][-kept:]


class BuildPageViews(beam.PTransform):
    """Turns {"rows": ((user, day), packed rows), "before": `last_clicks`} into `PackedView`s and the output `DAYS`.

    Args:
        history_kept: length of a history: the most recent clicked items.
        pause: as for `view_keys`; 1 for a positives-only log.
        ties: fill in `tie_histories`.
    """

    def __init__(self, history_kept: int, pause: int, ties: bool) -> None:
        super().__init__("Page views")
        self.history_kept, self.pause, self.ties = history_kept, pause, ties

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, parts: dict[str, beam.PCollection]) -> dict[str, beam.PCollection]:
        days = (
            parts["rows"]
            | "Group days" >> beam.GroupByKey()
            | "Merge" >> beam.ParDo(MergeDay(self.history_kept, self.pause, self.ties)).with_outputs(DAYS, main="main")
        )
        users = (
            [days[DAYS] | "Last clicks" >> beam.MapTuple(_clicks_of_new_day), parts["before"]]
            | "All clicks" >> beam.Flatten()
            | "Group users" >> beam.GroupByKey()
            | "Histories" >> beam.FlatMap(histories_of, self.history_kept)
        )
        views = (
            {"day": days.main, "before": users}
            | "Join histories" >> beam.CoGroupByKey()
            | "Views" >> beam.FlatMap(views_of, self.history_kept)
        )
        return {"views": views, DAYS: days[DAYS]}


def statistics_of(user_day: tuple[str, bytes]) -> Iterator[tuple[str, dict[int, tuple[int, int, int]]]]:
    """(item, {day: statistics}) of each item of a packed `UserDay`."""
    of_user = UserDay(*unpack(user_day[1]))
    return ((item, {of_user.day: (number, positives, first)}) for item, number, positives, first in of_user.items)


class MergeDay(beam.DoFn):
    """Turns ((user, day), packed rows) into ((user, day), packed page views), each with its history on that day."""

    def __init__(self, history_kept: int, pause: int, ties: bool) -> None:
        self.history_kept, self.pause, self.ties = history_kept, pause, ties
        self.done = Pieces(USER_DAYS)

    def process(self, element: tuple[DayOfUser, Iterable[bytes]]) -> Iterator[Any]:
        (user, day), packed = element
        clicks: list[Click] = []
        requests: list[np.ndarray] = []
        items: dict[str, tuple[int, int, int]] = {}
        counts = dict.fromkeys(_COUNTS, 0)
        number = 0
        pieces = pieces_of_day(packed, self.pause)
        for piece in pieces:
            merged = self._merged(user, piece)
            numbers = len(merged.starts), merged.duplicates, merged.clicks_of_impressions, merged.conflicts
            counts = {name: counts[name] + more for name, more in zip(_COUNTS, numbers, strict=True)}
            clicks.extend(clicks_of(merged.events))
            number += len(merged.events)
            # A hash stands for a request id: a user may have very many.
            hashes = [stable_hash(user, request) for request, _ in merged.starts if request]
            requests.append(np.array(hashes, "<i8"))
            for event in merged.events:
                events, positives, first = items.get(event.item_id, (0, 0, event.timestamp))
                items[event.item_id] = events + 1, positives + event.clicked, min(first, event.timestamp)
        clicks.sort()
        last = [item for _, _, item in clicks[-self.history_kept :]]
        of_items = [(item, *statistics) for item, statistics in items.items()]
        of_day = UserDay(day, number, last, np.concatenate(requests).tobytes(), of_items, counts)
        yield beam.pvalue.TaggedOutput(DAYS, (user, pack(tuple(of_day))))
        for piece in pieces:
            if len(pieces) > 1:  # Merged again: all of them together would take ten times the memory.
                merged = self._merged(user, piece)
            views = page_views(user, merged, clicks, self.history_kept, self.ties)
            yield (user, day), pack([tuple(view) for view in views])
        self.done.add()

    def _merged(self, user: str, piece: list[bytes]) -> Merged:
        return merge((Event(user, *row) for row in rows_of(piece)), self.pause)


def _clicks_of_new_day(user: str, user_day: bytes) -> tuple[str, bytes]:
    day, _, last, *_ = unpack(user_day)
    return user, last_clicks([(day, last)], is_new=True)


def last_clicks(days: list[tuple[int, list[str]]], is_new: bool) -> bytes:
    """(day, last items clicked on it, oldest first) of a user, packed for `histories_of`.

    Args:
        days: in any order.
        is_new: whether the histories of these days are wanted. Other days are there for those of later ones.
    """
    return pack((is_new, days))


def histories_of(element: tuple[str, Iterable[bytes]], kept: int) -> Iterator[tuple[DayOfUser, bytes]]:
    """((user, day), packed items clicked before that day), from (user, `last_clicks`)."""
    user, days = element[0], []
    new: set[int] = set()
    for is_new, some in map(unpack, element[1]):
        days += some
        new.update(day for day, _ in some if is_new)
    if new:
        yield from (((user, day), pack(before)) for day, before in histories(days, kept) if day in new)


def views_of(element: tuple[DayOfUser, dict[str, Iterable[bytes]]], kept: int) -> Iterator[PackedView]:
    """The page views of a day of a user, from those with histories of the day alone and the clicks before it."""
    joined = element[1]
    before: list[str] = next((unpack(clicked) for clicked in joined["before"]), [])
    for packed in joined["day"]:
        for view in unpack(packed):
            yield packed_view(with_days_before(PageView(*view), before, kept))


def packed_view(view: PageView) -> PackedView:
    """A page view for the steps that write it."""
    return stable_hash(view.page_view_id, view.user_id), view.timestamp, pack(tuple(view))


def unpacked(view: PackedView) -> PageView:
    """The page view that `packed_view` was given."""
    return PageView(*unpack(view[2]))
