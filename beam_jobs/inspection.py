"""Looks at a raw folder before any job runs: what it holds, and what is wrong with it.

The rows go through the checks of the ingest job itself, and what is lost is judged by the same limits. Without `full`,
the first rows of each file are read, and a sample of the photos.
"""

import dataclasses
from collections.abc import Iterator
from typing import NamedTuple

from beam_jobs import losses, splits
from beam_jobs.checks import CheckEvents, CheckItems, CheckUsers
from beam_jobs.formats import RawDataError
from beam_jobs.inspected_tables import Events, Items, Photos, Users
from beam_jobs.sources import RawFolder
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

MOST_ITEMS = 100_000  # Rows of the catalogue that are read without `full`.
MOST_EVENTS = 50_000  # Rows of the log that are read without `full`, of all files together.
MOST_PHOTOS = 100  # Photos that are opened without `full`.
EARLY_EVENTS, EARLY_PHOTOS = 2_000, 20  # Rows of the log and photos that are looked at before a job runs.


@dataclasses.dataclass(frozen=True)
class Problem:
    """Something that is wrong with the raw folder.

    Attributes:
        stops: whether the ingest job fails because of it.
        text: what it is, how often, and the way out.
        examples: places and reasons, each in a line.
        hopeless: whether it is lost as a whole, whatever the limit.
    """

    stops: bool
    text: str
    examples: tuple[str, ...] = ()
    hopeless: bool = False


class _Bounds(NamedTuple):
    """How much is read: rows of the catalogue and of the log, and photos; None for all."""

    items: int | None = None
    events: int | None = None
    photos: int | None = None


@dataclasses.dataclass
class Report:
    """What the raw folder holds, in lines, and its problems, those first that stop the ingest job."""

    facts: list[str] = dataclasses.field(default_factory=list)
    problems: list[Problem] = dataclasses.field(default_factory=list)

    @property
    def stops(self) -> bool:
        """Whether the ingest job would fail."""
        return any(problem.stops for problem in self.problems)


def inspect(raw: str, settings: RawSettings, full: bool = False) -> Report:
    """Looks at a raw folder.

    Args:
        raw: folder or URI.
        settings: how it is read, and how much may be lost.
        full: read every row and open every photo.
    """
    try:
        folder = RawFolder.inspect(raw, settings)
        return inspect_folder(folder, _Bounds() if full else _Bounds(MOST_ITEMS, MOST_EVENTS, MOST_PHOTOS))
    except RawDataError as error:
        return Report(problems=[Problem(True, str(error))])


def require_sound(folder: RawFolder) -> None:
    """Refuses a folder of which nothing can be used, before a job reads all of it.

    Raises:
        RawDataError: every one of the first rows, or every photo of a sample, is lost.
    """
    report = inspect_folder(folder, _Bounds(MOST_ITEMS, EARLY_EVENTS, EARLY_PHOTOS))
    hopeless = [problem for problem in report.problems if problem.stops and problem.hopeless]
    if hopeless:
        lines = [hopeless[0].text, *hopeless[0].examples, f"'courier check {folder.path}' says more"]
        raise RawDataError("\n".join(lines))


def inspect_folder(folder: RawFolder, bounds: _Bounds) -> Report:
    """As `inspect`, of a folder whose files and columns are known.

    Raises:
        RawDataError: a file breaks off.
    """
    items, events, users = Items(folder.settings.duplicate_items), Events(), Users()
    items.read(folder.item_files, CheckItems(folder), bounds.items)
    events.known = items.ids if items.whole else None
    events.read(folder.event_files, CheckEvents(folder), bounds.events)
    users.read(folder.user_files, CheckUsers(folder), bounds.items)
    photos = Photos(folder, items.with_photo, bounds.photos)
    counts = {**items.counts(), **users.counts(), **events.counts(), **events.merged(folder), **photos.counts()}
    report = Report([*folder.told, *items.told(), *events.told(folder.log_kind), *users.told(), *photos.told()])
    report.problems += [Problem(False, warning) for warning in folder.warnings]
    rejects = {**items.rejects, **users.rejects, **events.rejects, **photos.rejects}
    for loss in losses.LOSSES:
        if not counts.get(loss.name):
            continue
        share, limit = loss.share(counts), getattr(folder.settings, loss.limit)
        text = f"{counts[loss.name]} of {loss.number(counts)} {loss.words}"
        if share > limit:
            text += f", more than {loss.option} {limit}."
        if loss.kind == "item" and items.further_rows:
            text += losses.ON_DUPLICATES
        if loss.kind == "unknown_item":
            text += losses.what_would_match(events.compared())
        if loss.kind == "missing_photo" and share > limit:
            text += losses.what_is_there(photos.places)
        # A log whose first rows are of items that are gone may have other rows further on.
        hopeless = share == 1 and (loss.kind != "unknown_item" or events.whole)
        report.problems.append(Problem(share > limit, text, _examples(rejects, loss.kind), hopeless))
    report.problems += _problems_of_whole(folder, items, events)
    report.problems.sort(key=lambda problem: not problem.stops)
    return report


def _examples(rejects: dict[schema.RejectKind, list[schema.Reject]], kind: schema.RejectKind | None) -> tuple[str, ...]:
    shown = rejects.get(kind, []) if kind else []
    return tuple(f"{printable(r.file)} row {r.row}, {printable(r.field)}: {printable(r.reason)}" for r in shown)


def _problems_of_whole(folder: RawFolder, items: Items, events: Events) -> Iterator[Problem]:
    """What cannot be said of one row."""
    if not events.used:
        yield Problem(True, "no event can be used")
        return
    try:
        losses.require_both_labels(folder.log_kind, events.used, events.clicks, folder.settings)
    except RawDataError as error:
        yield Problem(events.whole, str(error) if events.whole else f"in the rows that were read, {error}")
    if events.whole:
        try:
            splits.choose_splits(sorted(events.days.items()), None, None)
        except RawDataError as error:
            yield Problem(True, str(error))
