"""Turns events into page views with their histories, a day of a user at a time.

A page view lies within a day, so the rows of a day are merged without those of other days. What crosses days is the
last clicks of a user. No worker holds more rows of a user than those of a day, however long the log is. What goes from
step to step is of a group of users. Of a large group the rows stay packed, and a large day of a user is merged in
pieces.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.checks import Event
from beam_jobs.day_pieces import Piece, rows_of, users_of_day
from beam_jobs.file_numbers import impression_bytes
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import Merged, PageView, ViewKey, merge, view_id
from beam_jobs.stable import stable_hash
from beam_jobs.user_groups import DayOfGroup
from beam_jobs.work_done import USER_DAYS, Pieces

DAYS = "days"  # Tag of an output: (group of users, packed [(user, *`UserDay`)] of one day).
MOST_TOGETHER = 5_000  # Items of page views and of their histories that are packed together, about.

#: Names of counts: those of `Merged`, after the number of page views.
_COUNTS = (
    "page_views", "duplicate_events_merged", "clicks_merged_into_their_impressions", "conflicting_events_merged",
)  # fmt: skip
#: Page views of a day on their way to its file: the day, bytes of their impressions, and the packed `PageView`s.
ViewBlock = tuple[int, int, bytes]


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
    """Turns rows and the clicks before them into {"views": `ViewBlock`s, DAYS: that output}.

    Takes {"rows": (`DayOfGroup`, packed {user: rows}), "before": (group of users, `last_clicks`)}.

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
            | "Group clicks" >> beam.GroupByKey()
            | "Histories" >> beam.FlatMap(histories_of, self.history_kept)
        )
        views = (
            {"day": days.main, "before": users}
            | "Join histories" >> beam.CoGroupByKey()
            | "Views" >> beam.FlatMap(views_of, self.history_kept)
        )
        return {"views": views, DAYS: days[DAYS]}


def statistics_of(days: tuple[int, bytes]) -> Iterator[tuple[str, dict[int, tuple[int, int, int]]]]:
    """(item, {day: statistics}) of each item of packed `UserDay`s of one day."""
    users = user_days_in(days[1])
    items = sum_of_items(of_user for _, of_user in users)
    return ((item, {users[0][1].day: statistics}) for item, statistics in items.items())


def user_days_in(packed: bytes) -> list[tuple[str, UserDay]]:
    """(user, `UserDay`) of users of a group on a day, as `MergeDay` packs them."""
    return [(user, UserDay(*of_user)) for user, *of_user in unpack(packed)]


def sum_of_items(days: Iterable[UserDay]) -> dict[str, tuple[int, int, int]]:
    """Item -> (events, positives, first second) over users."""
    items: dict[str, tuple[int, int, int]] = {}
    for of_user in days:
        for item, number, positives, first in of_user.items:
            before = items.get(item, (0, 0, first))
            items[item] = before[0] + number, before[1] + positives, min(before[2], first)
    return items


class MergeDay(beam.DoFn):
    """Turns (`DayOfGroup`, packed {user: rows}) into (`DayOfGroup`, packed page views), with histories on that day."""

    def __init__(self, history_kept: int, pause: int, ties: bool) -> None:
        self.history_kept, self.pause, self.ties = history_kept, pause, ties
        self.done = Pieces(USER_DAYS)

    def process(self, element: tuple[DayOfGroup, Iterable[bytes]]) -> Iterator[Any]:
        (group, day), packed = element
        days: list[tuple[Any, ...]] = []
        views: list[tuple[Any, ...]] = []
        held = 0
        for user, pieces in users_of_day(packed, self.pause):
            merged_pieces = self._merged(user, pieces)
            of_day, clicks = self._day(user, day, merged_pieces())
            days.append((user, *of_day))
            for merged in merged_pieces():
                for view in page_views(user, merged, clicks, self.history_kept, self.ties):
                    views.append(tuple(view))
                    held += len(view.items) + len(view.history)
                    if held > MOST_TOGETHER:
                        yield (group, day), pack(views)
                        views, held = [], 0
            self.done.add()
        if views:
            yield (group, day), pack(views)
        yield beam.pvalue.TaggedOutput(DAYS, (group, pack(days)))

    def _day(self, user: str, day: int, pieces: Iterable[Merged]) -> tuple[UserDay, list[Click]]:
        """What a day of a user passes on, and all its clicks in order."""
        clicks: list[Click] = []
        requests: list[np.ndarray] = []
        items: dict[str, tuple[int, int, int]] = {}
        counts = dict.fromkeys(_COUNTS, 0)
        events_of_day = 0
        for merged in pieces:
            numbers = len(merged.starts), merged.duplicates, merged.clicks_of_impressions, merged.conflicts
            counts = {name: counts[name] + more for name, more in zip(_COUNTS, numbers, strict=True)}
            clicks.extend(clicks_of(merged.events))
            events_of_day += len(merged.events)
            # A hash stands for a request id: a user may have very many.
            hashes = [stable_hash(user, request) for request, _ in merged.starts if request]
            requests.append(np.array(hashes, "<i8"))
            for event in merged.events:
                events, positives, first = items.get(event.item_id, (0, 0, event.timestamp))
                items[event.item_id] = events + 1, positives + event.clicked, min(first, event.timestamp)
        clicks.sort()
        last = [item for _, _, item in clicks[-self.history_kept :]]
        of_items = [(item, *statistics) for item, statistics in items.items()]
        return UserDay(day, events_of_day, last, np.concatenate(requests).tobytes(), of_items, counts), clicks

    def _merged(self, user: str, pieces: list[Piece]) -> Callable[[], Iterable[Merged]]:
        """Gives the merged pieces as often as it is called.

        Several are merged each time: all of them together would take ten times the memory.
        """

        def merged() -> Iterator[Merged]:
            return (merge((Event(user, *row) for row in rows_of(piece)), self.pause) for piece in pieces)

        if len(pieces) > 1:
            return merged
        once = list(merged())
        return lambda: once


def _clicks_of_new_day(group: int, days: bytes) -> tuple[int, bytes]:
    return group, last_clicks({user: [(day, last)] for user, day, _, last, *_ in unpack(days)}, is_new=True)


def last_clicks(users: dict[str, list[tuple[int, list[str]]]], is_new: bool) -> bytes:
    """{user: (day, last items clicked on it, oldest first)} of users of a group, packed for `histories_of`.

    Args:
        users: the days of each in any order.
        is_new: whether the histories of these days are wanted. Other days are there for those of later ones.
    """
    return pack((is_new, users))


def histories_of(element: tuple[int, Iterable[bytes]], kept: int) -> Iterator[tuple[DayOfGroup, bytes]]:
    """(`DayOfGroup`, packed {user: items clicked before that day}), from (group of users, `last_clicks`)."""
    group, clicks = element
    days: dict[str, list[tuple[int, list[str]]]] = {}
    new: dict[str, set[int]] = {}
    for is_new, users in map(unpack, clicks):
        for user, some in users.items():
            days.setdefault(user, []).extend(some)
            if is_new:
                new.setdefault(user, set()).update(day for day, _ in some)
    before: dict[int, dict[str, list[str]]] = {}
    for user, wanted in new.items():
        for day, clicked in histories(days[user], kept):
            if day in wanted:
                before.setdefault(day, {})[user] = clicked
    return (((group, day), pack(users)) for day, users in before.items())


def views_of(element: tuple[DayOfGroup, dict[str, Iterable[bytes]]], kept: int) -> Iterator[ViewBlock]:
    """The page views of a day of a group, from those with histories of the day alone and the clicks before it."""
    (_, day), joined = element
    before: dict[str, list[str]] = next((unpack(clicked) for clicked in joined["before"]), {})
    for packed in joined["day"]:
        views = map(PageView._make, unpack(packed))
        yield view_block(day, [with_days_before(view, before.get(view.user_id, []), kept) for view in views])


def view_block(day: int, views: list[PageView]) -> ViewBlock:
    """Page views of a day for the steps that write them."""
    return day, sum(map(impression_bytes, views)), pack([tuple(view) for view in views])


def views_in(block: ViewBlock) -> list[PageView]:
    """The page views that `view_block` was given."""
    return list(map(PageView._make, unpack(block[2])))
