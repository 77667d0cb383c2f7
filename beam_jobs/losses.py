"""What ingest lost, kind by kind, each with a limit of its own."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from beam_jobs.catalogue import REJECTED, UnknownIds
from beam_jobs.formats import RawDataError
from beam_jobs.photo_places import PHOTO_FOLDER, PhotoPlaces
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

#: Kind of reject -> the name of its count in the facts.
COUNT_OF_KIND: dict[schema.RejectKind, str] = {
    "item": "rejected_items",
    "event": "rejected_events",
    "photo": "rejected_photos",
    "missing_photo": "photos_missing",
    "unknown_item": "events_of_unknown_items",
    "anonymous": "anonymous_events",
    "user": "rejected_users",
}

_EXAMPLES = 3  # Files of photos shown in a message.


class Loss(NamedTuple):
    """One kind of loss.

    Attributes:
        name: of its count in the facts.
        words: what was lost, as a sentence goes on after its number.
        short: the same in a few words.
        limit: name of the setting that limits its share.
        whole: names of the counts that are all, of which it is a share. Those that begin with a minus are taken off.
        kind: kind of its rejects; None where it has none.
    """

    name: str
    words: str
    short: str
    limit: str
    whole: tuple[str, ...]
    kind: schema.RejectKind | None = None

    @property
    def option(self) -> str:
        """The limit as the command line names it."""
        return "--" + self.limit.replace("_", "-")

    def share(self, counts: Mapping[str, int]) -> float:
        """The lost fraction, from 0 to 1."""
        return counts.get(self.name, 0) / max(self.number(counts), 1)

    def number(self, counts: Mapping[str, int]) -> int:
        """How many there were before the loss."""
        signs = {name.lstrip("-"): -1 if name.startswith("-") else 1 for name in self.whole}
        return sum(sign * counts.get(name, 0) for name, sign in signs.items())


_EVENTS = ("event_rows_read", "-events_of_other_types_ignored")

#: In the order of the message: what is broken first, as it may be the cause of the others.
LOSSES = (
    Loss("rejected_items", "items were rejected", "rejected", "max_reject_fraction", ("item_rows_read",), "item"),
    Loss("rejected_events", "events were rejected", "rejected", "max_reject_fraction", ("event_rows_read",), "event"),
    Loss("rejected_users", "users were rejected", "rejected", "max_reject_fraction", ("user_rows_read",), "user"),
    Loss("anonymous_events", "events name no user", "without a user", "max_anonymous_fraction", _EVENTS, "anonymous"),
    Loss(
        "events_of_unknown_items",
        "events name items that are not in the catalogue",
        "of items that are not in the catalogue",
        "max_unknown_item_fraction",
        _EVENTS,
        "unknown_item",
    ),
    Loss(
        "conflicting_events_merged",
        "events were merged with another event of the same item in the same page view, though time or label differ",
        "merged though time or label differ",
        "max_merged_fraction",
        _EVENTS,
    ),
    Loss("rejected_photos", "photos were rejected", "rejected", "max_reject_fraction", ("items_items",), "photo"),
    Loss(
        "photos_missing",
        "photos that items name are not there",
        "not there",
        "max_missing_photo_fraction",
        ("items_items", "-items_without_image_named"),
        "missing_photo",
    ),
)


def require_few(
    counts: Mapping[str, int],
    settings: RawSettings,
    first: Mapping[str, Sequence[str]],
    listed_in: str,
    unknown: UnknownIds,
    places: PhotoPlaces,
) -> None:
    """Raises where a kind of loss is above its limit.

    Args:
        counts: as in the facts.
        settings: the limits.
        first: kind -> the first rejects of it, as lines of JSON.
        listed_in: folder in which all of them will be.
        unknown: what the ids of unknown items may mean.
        places: where the photos are.

    Raises:
        RawDataError: names the kind, the numbers, the setting, and the first examples.
    """
    for loss in too_many(counts, settings):
        most = getattr(settings, loss.limit)
        lost, number = counts[loss.name], loss.number(counts)
        message = f"{lost} of {number} {loss.words}, more than {loss.option} {most}."
        if loss.kind == "unknown_item":
            message += what_would_match(unknown)
        if loss.kind == "item" and counts.get(REJECTED):
            message += ON_DUPLICATES
        if loss.kind == "missing_photo":
            message += what_is_there(places)
        if loss.kind is None:
            raise RawDataError(f"{message} {_ON_MERGED}")
        examples = first.get(loss.kind, ())
        raise RawDataError("\n".join([f"{message} All reasons are in {listed_in}; the first:", *examples]))


def counts_of_kinds(kinds: Mapping[str, tuple[int, Any]]) -> dict[str, int]:
    """The counts of rejects by the names that facts have: kind -> (number, anything) for each kind that occurred."""
    return {name: kinds.get(kind, (0, None))[0] for kind, name in COUNT_OF_KIND.items()}


def too_many(counts: Mapping[str, int], settings: RawSettings) -> Iterator[Loss]:
    """The kinds of loss that are above their limits. Counts that are not known yet are taken to be none."""
    return (loss for loss in LOSSES if loss.share(counts) > getattr(settings, loss.limit))


ON_DUPLICATES = " Of several rows of an item, --duplicate-items first or last takes one."
_ON_MERGED = (
    "A page view shows an item once. Is request_id the id of one page view, and not that of a session or a constant? "
    "Without it (--columns request_id=none), page views end where a user pauses (--page-view-gap)."
)


def what_is_there(places: PhotoPlaces) -> str:
    files = list(itertools.islice(places.files(), _EXAMPLES))
    if not files:
        return f" There is no file in {places.raw}/{PHOTO_FOLDER}."
    return f" They were looked for in {places.raw}, where there are {', '.join(map(printable, files))} ..."


def what_would_match(unknown: UnknownIds) -> str:
    """A sentence, with a blank before it, on ids that the catalogue has in another spelling; or nothing."""
    if not unknown.similar:
        return ""
    pairs = ", ".join(f"'{printable(event)}' for '{printable(item)}'" for event, item in unknown.examples)
    return (
        f" Of the {unknown.compared} events with the most frequent of these ids, {unknown.similar} would match in "
        f"another spelling: the events have {pairs}. Write the ids of both tables in the same way, as texts."
    )


def require_both_labels(kind: schema.LogKind, events: int, clicks: int, settings: RawSettings) -> None:
    """Raises where all events of an impression log are clicked, or none is.

    Args:
        kind: kind of the log.
        events, clicks: numbers of usable events, and of clicked ones among them.
        settings: the words that say what a click is.
    """
    if kind != "impressions" or not events or 0 < clicks < events:
        return
    if settings.positive_events:
        words = ", ".join(settings.positive_events)
        raise RawDataError(
            f"{'none' if not clicks else 'each'} of the {events} events has an event_type among "
            f"positive_events={words}, so nothing tells clicks from impressions. Name the types of clicks by "
            "--positive-events" + ("" if not clicks else ", or say --other-events ignored for a positives-only log")
        )
    way_out = (
        "name the column of the label by --columns clicked=COLUMN"
        if not clicks
        else "where the log has clicks alone, say --columns clicked=none request_id=none; else name the column of the "
        "label by --columns clicked=COLUMN"
    )
    raise RawDataError(
        f"{'none' if not clicks else 'each'} of the {events} events is clicked, so nothing tells clicks from "
        f"impressions: {way_out}"
    )


def losses(counts: Mapping[str, int], settings: RawSettings) -> Iterator[tuple[Loss, int, float, float]]:
    """(loss, number, share, limit) of each kind that occurred."""
    for loss in LOSSES:
        if counts.get(loss.name):
            yield loss, counts[loss.name], loss.share(counts), getattr(settings, loss.limit)
