"""`courier import`: a public data set, as its publisher publishes it, to a raw folder."""

import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import Importer
from beam_jobs.importers.publications import PUBLICATIONS
from beam_jobs.importers.published import ImportFailedError
from beam_jobs.importers.registry import IMPORTERS
from beam_jobs.importers.write import Outcome, import_published
from beam_jobs.photo_places import PHOTO_FOLDER
from beam_jobs.raw_errors import RawDataError
from beam_jobs.splits import choose_splits, date_of
from beam_jobs.times import DAY
from courier_tf.escaping import printable


def import_data(
    data_set: str, source: Path, target: Path, photos: Path | None, min_rating: float | None, since: str | None
) -> None:
    """Imports a data set, and prints what was written, what was left out, and the commands that come next.

    Args:
        data_set: its name in `PUBLICATIONS`.
        source: folder with the files of the publisher.
        target: the raw folder to write.
        photos: folder of the photos, or None for the publisher's name of it.
        min_rating: the least rating that is a positive, or None.
        since: the first day whose events are taken, or None.
    """
    publication = PUBLICATIONS[data_set]
    if min_rating is not None and not publication.has_ratings:
        raise ImportFailedError(f"{data_set} has no ratings: leave out --min-rating")
    importer = IMPORTERS[data_set](publication, source, photos, min_rating)
    for line in lines_of(data_set, importer, target, import_published(importer, target, since)):
        print(line)


def lines_of(data_set: str, importer: Importer, target: Path, outcome: Outcome) -> Iterator[str]:
    """What the command prints.

    Args:
        data_set: its name.
        importer: that has read it.
        target: the raw folder.
        outcome: what was written.
    """
    first, last = (date_of(edge(outcome.days) * DAY) for edge in (min, max))
    yield (
        f"{data_set}: {outcome.items:,} items, of which {outcome.without_photo:,} have no photo, and "
        f"{outcome.events:,} events from {first} to {last}."
    )
    for (table, reason), number in outcome.left_out.most_common():
        example = outcome.examples.get((table, reason))
        place = f" (first: row {example.row} of {example.file}" if example else ""
        value = f": '{printable(example.value, 80)}'" if example and example.value else ""
        yield f"Left out: {number:,} {table} {reason}{place}{value}{')' if place else ''}."
    options = []
    if importer.photos:
        yield f"{target / PHOTO_FOLDER} is a link to {importer.photos.folder.resolve()}, so --follow-links is needed."
        options.append("--follow-links")
    yield "Next:"
    folder = shlex.quote(str(target))
    if importer.downloads:
        yield f"  courier download {folder}"
    yield " ".join([f"  courier check {folder}", *options])
    if importer.repeat_columns:
        options += ["--repeat-columns", *importer.repeat_columns]
    options += split_options(outcome.days, importer.span_days)
    yield " ".join([f"  courier run --raw {folder} --workdir W", *options])


def split_options(days: Counter[int], span_days: int | None) -> list[str]:
    """The options of spans that fit a log: the usual ones, or whole spans of some days at its end.

    Args:
        days: day since 1970 -> events.
        span_days: length of the valid and of the test span; None for the usual ones.

    Returns:
        `--valid-from` and `--test-from` with their dates; nothing where the log is too short.

    >>> split_options(Counter(range(18_000, 18_100)), 7)
    ['--valid-from', '2019-07-09', '--test-from', '2019-07-16']
    >>> split_options(Counter(range(18_000, 18_010)), 7)
    ['--valid-from', '2019-04-22', '--test-from', '2019-04-23']
    """
    last = max(days)
    if span_days and last - min(days) >= 4 * span_days:
        edges = [(last + 1 - spans * span_days) * DAY for spans in (2, 1)]
    else:
        try:
            splits = choose_splits(sorted(days.items()), None, None)
        except RawDataError:  # `courier check` says what is missing.
            return []
        edges = [splits.valid_from, splits.test_from]
    return ["--valid-from", date_of(edges[0]), "--test-from", date_of(edges[1])]
