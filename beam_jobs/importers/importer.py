"""The base of all importers: which files a publisher's folder must hold, and its rows as items and events."""

import abc
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import ClassVar, NamedTuple

from beam_jobs.importers.publications import Publication
from beam_jobs.importers.published import ImportFailedError, LeftOut, PhotoFolder, archives_in
from beam_jobs.raw_rows import NoRow, RawRow

DEFAULT_MIN_RATING = 4.0


class ItemRow(NamedTuple):
    """An item. `columns` has `title`, `category` and all further columns; `image` is a path, an address or empty."""

    item_id: str
    image: str
    columns: dict[str, str]


class EventRow(NamedTuple):
    """A positive. `seconds` is its time since 1970 (UTC)."""

    user_id: str
    item_id: str
    seconds: int


class Importer(abc.ABC):
    """The files of one publisher.

    A subclass finds its files when it is made, and refuses a folder that lacks some by `require`.

    Args:
        publication: what the folder should hold.
        source: the folder, with the files as they were published.
        photos: folder of the photos, where it has another name than the publisher's.
        min_rating: the least rating that is a positive.
    """

    columns: ClassVar[tuple[str, ...]]  # Of items, beside item_id and image.
    repeat_columns: ClassVar[tuple[str, ...]] = ()  # What `--repeat-columns` should name.
    span_days: ClassVar[int | None] = None  # Days of the valid and of the test span that fit; None for the usual ones.
    downloads: ClassVar[bool] = False  # Photos are addresses, which `courier download` fetches.
    photos: PhotoFolder | None = None

    def __init__(self, publication: Publication, source: Path, photos: Path | None, min_rating: float | None) -> None:
        if not source.is_dir():
            raise ImportFailedError(f"{source} is no folder: download the files into it first")
        self.publication, self.source = publication, source
        self.min_rating = DEFAULT_MIN_RATING if min_rating is None else min_rating
        self.find(photos)

    @abc.abstractmethod
    def find(self, photos: Path | None) -> None:
        """Finds the files.

        Raises:
            ImportFailedError: some are missing.
        """

    @abc.abstractmethod
    def items(self) -> Iterator[ItemRow | LeftOut]:
        """The catalogue, as a stream."""

    @abc.abstractmethod
    def events(self) -> Iterator[EventRow | LeftOut]:
        """The positives, as a stream."""

    def require(self, needed: Mapping[str, object]) -> None:
        """Refuses a folder that lacks something.

        Args:
            needed: what is needed, in words -> what was there, or None.

        Raises:
            ImportFailedError: names all that is missing, and where it is to be had.
        """
        missing = [name for name, there in needed.items() if there is None]
        if not missing:
            return
        packed = archives_in(self.source)
        raise ImportFailedError(
            f"{self.source} lacks {', '.join(missing)}: "
            + (f"unpack {', '.join(packed)} there, or download" if packed else "download")
            + f" from {self.publication.address}"
        )


def whole_number(text: str) -> int | None:
    """A whole number, of whatever sign; None for anything else.

    >>> whole_number("1655000000123"), whole_number("1.6e9")
    (1655000000123, None)
    """
    try:
        return int(text)
    except ValueError:
        return None


def event_of(
    row: RawRow | NoRow, file: Path, units_per_second: int, min_rating: float | None = None
) -> EventRow | LeftOut:
    """The event of a row with the fields user_id, item_id, timestamp and, where there are ratings, rating.

    Args:
        row: of a table.
        file: that it stands in.
        units_per_second: of the timestamps, which are whole numbers.
        min_rating: the least rating that is a positive; None where there are no ratings.
    """
    if isinstance(row, NoRow):
        return LeftOut(f"in lines that are no rows ({row.reason})", file, row.row)
    fields = row.fields
    try:
        user, item, time = fields["user_id"], fields["item_id"], fields["timestamp"]
    except KeyError as error:  # A row of JSON.
        return LeftOut(f"without {error.args[0]}", file, row.row)
    if not user or not item:
        return LeftOut(f"without {'item_id' if user else 'user_id'}", file, row.row)
    seconds = whole_number(time)
    if seconds is None:
        return LeftOut("whose timestamp is no whole number", file, row.row, time)
    if min_rating is not None:
        rating = fields.get("rating", "")
        try:
            if not float(rating) >= min_rating:
                return LeftOut(f"with a rating below {min_rating:g}", file, row.row, rating)
        except ValueError:
            return LeftOut("whose rating is no number", file, row.row, rating)
    return EventRow(user, item, seconds // units_per_second)


def no_item(row: NoRow, file: Path) -> LeftOut:
    """What a line that is no row becomes."""
    return LeftOut(f"in lines that are no rows ({row.reason})", file, row.row)
