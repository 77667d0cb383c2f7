"""PixelRec: covers of videos, and what users have commented on."""

from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import EventRow, Importer, ItemRow, event_of, no_item
from beam_jobs.importers.published import (
    ImportFailedError,
    LeftOut,
    PhotoFolder,
    files_named,
    folder_of_photos,
    header_of,
    rows,
)
from beam_jobs.raw_rows import NoRow

_EVENTS = ("item_id", "user_id", "timestamp")


class PixelRec(Importer):
    """A file of interactions, one of item information, and covers. The files are told apart by their columns."""

    columns = ("title", "category")

    def find(self, photos: Path | None) -> None:
        headers = {file: header_of(file) for file in files_named(self.source, ["*.csv"])}
        interactions = [file for file, header in headers.items() if set(_EVENTS) <= set(header)]
        information = [file for file, header in headers.items() if {"item_id", "title"} <= set(header)]
        for several in (interactions, information):
            if len(several) > 1:
                raise ImportFailedError(f"{several[0]} and {several[1]}: keep one of them in {self.source}")
        folder = folder_of_photos(self.source, photos, "cover", "covers", "*/cover", "*/covers")
        self.require(
            {
                "a file of interactions (columns item_id,user_id,timestamp)": interactions or None,
                "a file of item information (columns item_id,...,title,tag,description)": information or None,
                "the folder cover (--photos names another one)": folder,
            }
        )
        assert folder
        self.interactions, self.information, self.photos = interactions[0], information[0], PhotoFolder(folder)

    def items(self) -> Iterator[ItemRow | LeftOut]:
        assert self.photos
        for row in rows(self.information, {"item_id": "item_id", "title": "title", "category": "tag"}):
            if isinstance(row, NoRow):
                yield no_item(row, self.information)
            else:
                item = row.fields.pop("item_id")
                yield ItemRow(item, self.photos.image(item), row.fields)

    def events(self) -> Iterator[EventRow | LeftOut]:
        for row in rows(self.interactions, {name: name for name in _EVENTS}):
            yield event_of(row, self.interactions, 1)
