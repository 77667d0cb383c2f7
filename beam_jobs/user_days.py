"""Turns events into page views with their histories, a day of a user at a time.

A page view lies within a day, so the rows of a day are merged without those of other days. What crosses days is the
last clicks of a user. No worker holds more rows of a user than those of a day, packed, however long the log is. A large
day is merged in pieces.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
import numpy as np
from apache_beam.metrics import Metrics
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.checks import Event
from beam_jobs.day_pieces import pieces_of_day, rows_of
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import Merged, PageView, ViewKey, merge, view_id
from beam_jobs.sources import NAMESPACE
from beam_jobs.stable import stable_hash
from beam_jobs.work_done import USER_DAYS, Pieces

STATISTICS = "statistics"  # These three are tags of outputs. (item, {day: (1, clicked, second)}) of each event.
USERS = "users"  # (number of events, user id).
CUT = "cut"  # ("page_views_cut_at_midnight", number) of a user.
_DAYS = "days"
_HISTORIES = "histories"

UserDay = tuple[str, int]  # User id, and timestamp // DAY.
#: A page view on its way to its file: the key that places it, its timestamp, and its packed `PageView`.
PackedView = tuple[int, int, bytes]


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
    """Turns ((user, day), packed rows) into `PackedView`s, and the further outputs `STATISTICS`, `USERS` and `CUT`.

    Args:
        history_kept: length of a history: the most recent clicked items.
        pause: as for `view_keys`; 1 for a positives-only log.
        ties: fill in `tie_histories`.
    """

    def __init__(self, history_kept: int, pause: int, ties: bool) -> None:
        super().__init__("Page views")
        self.history_kept, self.pause, self.ties = history_kept, pause, ties

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, rows: beam.PCollection) -> dict[str, beam.PCollection]:
        days = (
            rows
            | "Group days" >> beam.GroupByKey()
            | "Merge"
            >> beam.ParDo(MergeDay(self.history_kept, self.pause, self.ties)).with_outputs(
                _DAYS, STATISTICS, main="main"
            )
        )
        users = (
            days[_DAYS]
            | "Group users" >> beam.GroupByKey()
            | "Histories" >> beam.ParDo(Histories(self.history_kept)).with_outputs(USERS, CUT, main=_HISTORIES)
        )
        views = (
            {"day": days.main, "before": users[_HISTORIES]}
            | "Join histories" >> beam.CoGroupByKey()
            | "Views" >> beam.FlatMap(views_of, self.history_kept)
        )
        return {"views": views, STATISTICS: days[STATISTICS], USERS: users[USERS], CUT: users[CUT]}


class MergeDay(beam.DoFn):
    """Turns ((user, day), packed rows) into ((user, day), packed page views), each with its history on that day."""

    def __init__(self, history_kept: int, pause: int, ties: bool) -> None:
        self.history_kept, self.pause, self.ties = history_kept, pause, ties
        self.views = Metrics.counter(NAMESPACE, "page_views")
        self.duplicates = Metrics.counter(NAMESPACE, "duplicate_events_merged")
        self.answered = Metrics.counter(NAMESPACE, "clicks_merged_into_their_impressions")
        self.conflicts = Metrics.counter(NAMESPACE, "conflicting_events_merged")
        self.done = Pieces(USER_DAYS)

    def process(self, element: tuple[UserDay, Iterable[bytes]]) -> Iterator[Any]:
        (user, day), packed = element
        clicks: list[Click] = []
        requests: list[np.ndarray] = []
        number = 0
        pieces = pieces_of_day(packed, self.pause)
        for piece in pieces:
            merged = self._merged(user, piece)
            self.views.inc(len(merged.starts))
            self.duplicates.inc(merged.duplicates)
            self.answered.inc(merged.clicks_of_impressions)
            self.conflicts.inc(merged.conflicts)
            clicks.extend(clicks_of(merged.events))
            number += len(merged.events)
            # A hash stands for a request id: a user may have very many.
            requests.append(np.array([stable_hash(request) for request, _ in merged.starts if request], np.int64))
            for event in merged.events:
                statistics = {day: (1, event.clicked, event.timestamp)}
                yield beam.pvalue.TaggedOutput(STATISTICS, (event.item_id, statistics))
        clicks.sort()
        last = [item for _, _, item in clicks[-self.history_kept :]]
        yield beam.pvalue.TaggedOutput(_DAYS, (user, pack((day, number, last, np.concatenate(requests).tobytes()))))
        for piece in pieces:
            if len(pieces) > 1:  # Merged again: all of them together would take ten times the memory.
                merged = self._merged(user, piece)
            views = page_views(user, merged, clicks, self.history_kept, self.ties)
            yield (user, day), pack([tuple(view) for view in views])
        self.done.add()

    def _merged(self, user: str, piece: list[bytes]) -> Merged:
        return merge((Event(user, *row) for row in rows_of(piece)), self.pause)


class Histories(beam.DoFn):
    """Turns (user, packed days) into ((user, day), packed items clicked before that day)."""

    def __init__(self, history_kept: int) -> None:
        self.history_kept = history_kept
        self.users = Metrics.counter(NAMESPACE, "users")

    def process(self, element: tuple[str, Iterable[bytes]]) -> Iterator[Any]:
        user, days = element[0], [unpack(day) for day in element[1]]
        self.users.inc()
        yield beam.pvalue.TaggedOutput(USERS, (sum(number for _, number, _, _ in days), user))
        for day, before in histories([(day, clicked) for day, _, clicked, _ in days], self.history_kept):
            yield (user, day), pack(before)
        _, times = np.unique(np.frombuffer(b"".join(day[3] for day in days), np.int64), return_counts=True)
        yield beam.pvalue.TaggedOutput(CUT, ("page_views_cut_at_midnight", int((times > 1).sum())))


def views_of(element: tuple[UserDay, dict[str, Iterable[bytes]]], kept: int) -> Iterator[PackedView]:
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
