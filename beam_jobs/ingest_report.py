"""What ingest says at its end: what was read, what was lost and why, and what is left."""

from collections.abc import Iterator, Mapping

from beam_jobs.data_page import PAGE_FILE
from beam_jobs.losses import Loss, losses
from courier_tf import schema
from courier_tf.settings import IngestSettings
from courier_tf.workdir.facts import IngestFacts

_WIDTH = 12  # Of the first column.
_OF_ITEMS = ("photos_missing", "rejected_photos", "rejected_items")
_OF_USERS = ("rejected_users",)

#: Counts of what is left out or changed without being a loss, and the words for them.
_REMARKS = {
    "events_of_other_types_ignored": "events of types that are no positives left out",
    "duplicate_events_merged": "events left out that are the same as another one",
    "clicks_merged_into_their_impressions": "clicks joined with their impressions",
    "page_views_cut_at_midnight": "page views cut at midnight (UTC)",
    "ids_with_blanks_cut": "ids with blanks at their ends, which were cut",
    "duplicate_item_rows": "further rows of an item left out",
    "items_available_from_not_read": "items whose available_from cannot be read",
    "items_without_image_named": "items that name no photo",
    "photos_found_by_name": "photos whose name was matched to that of a file",
    "negatives_not_drawn": "negatives that could not be drawn",
    "inline_photo_bytes": "bytes of photos inside pre-training rows",
}


def report(facts: IngestFacts, settings: IngestSettings) -> Iterator[str]:
    """The lines of the report, each at most about 80 columns wide.

    Args:
        facts: what the stage made.
        settings: those it was made with.
    """
    counts = facts.counts
    yield _row("log", facts.log)
    for form in facts.time_forms:
        yield _row("timestamps", form)
    yield _row("events", f"{_n(counts, 'event_rows_read')} read, {_n(counts, 'events_used')} used")
    if facts.days_taken_over:
        yield _row("days", f"{facts.days_made:,} made, {facts.days_taken_over:,} taken over")
    lost = list(losses(counts, settings))
    yield from (_lost(*loss) for loss in lost if loss[0].name not in (*_OF_ITEMS, *_OF_USERS))
    yield _row("items", f"{_n(counts, 'item_rows_read')} read, {_n(counts, 'items_items')} used")
    yield _row("photos", f"{photos_of(counts):,} stored{_known(facts)}")
    yield from (_lost(*loss) for loss in lost if loss[0].name in _OF_ITEMS)
    yield _row("users", f"{_n(counts, 'users')} with {_n(counts, 'page_views')} page views")
    if facts.user_columns:
        yield _row("", f"{_n(counts, 'user_rows_read')} rows read of the table of users")
        yield from (_lost(*loss) for loss in lost if loss[0].name in _OF_USERS)
    positives = "clicks" if facts.log_kind == "impressions" else "positives"
    share = f" ({_percent(counts['clicks'] / counts['events_used'])} of the events)"
    yield _row(positives, _n(counts, "clicks") + (share if facts.log_kind == "impressions" else ""))
    for span in schema.SPLITS:
        days = f"{facts.first_days[span]} to {facts.last_days[span]}"
        events, clicks = _n(counts, f"events_{span}"), _n(counts, f"clicks_{span}")
        yield _row(span, f"{days}: {events} events" + (f", {clicks} clicks" if positives == "clicks" else ""))
    if facts.negatives:
        reach = "" if facts.pool_days is None else f"; their pool reaches back {facts.pool_days} days (median)"
        yield _row("negatives", f"{facts.negatives}{reach}")
    yield from (_row("", f"{number:,} {words}") for name, words in _REMARKS.items() if (number := counts.get(name)))
    for note in facts.notes:
        yield _row("note", note)
    yield _row("more", PAGE_FILE)
    if any(loss.kind for loss, _, _, _ in lost):
        yield _row("reasons", f"{schema.REJECTS_FOLDER}/*.jsonl")


def _row(name: str, text: str) -> str:
    return f"{name:<{_WIDTH}}{text}"


def _n(counts: Mapping[str, int], name: str) -> str:
    return f"{counts.get(name, 0):,}"


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %" if share < 0.1 else f"{100 * share:.0f} %"


def _lost(loss: Loss, number: int, share: float, limit: float) -> str:
    return _row("  lost", f"{number:,} ({_percent(share)}, limit {100 * limit:g} %) {loss.short}")


def _known(facts: IngestFacts) -> str:
    if facts.photos_decoded is None or facts.photos_taken_over is None:
        return ""
    return f": {facts.photos_decoded:,} decoded, {facts.photos_taken_over:,} taken over"


def photos_of(counts: Mapping[str, int]) -> int:
    """The items of an ingest stage that have a photo, by the counts in its facts."""
    absent = ("items_without_image_named", "photos_missing", "rejected_photos")
    return counts.get("items_items", 0) - sum(counts.get(name, 0) for name in absent)
