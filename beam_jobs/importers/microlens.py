"""MicroLens: covers of short videos, and what users have commented on."""

from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import EventRow, Importer, ItemRow, event_of, no_item
from beam_jobs.importers.published import LeftOut, PhotoFolder, folder_of_photos, headless_rows, only_file, rows
from beam_jobs.raw_rows import NoRow


class MicroLens(Importer):
    """Pairs with times, titles, covers and, where they are there, categories."""

    columns = ("title", "category")

    def find(self, photos: Path | None) -> None:
        pairs = only_file(self.source, "MicroLens-*_pairs.csv")
        titles = only_file(self.source, "MicroLens-*_title*.csv")
        folder = folder_of_photos(self.source, photos, "MicroLens-*_covers", "*/MicroLens-*_covers")
        self.require(
            {
                "MicroLens-..._pairs.csv": pairs,
                "MicroLens-..._titles.csv (or ..._title_en.csv)": titles,
                "the folder MicroLens-..._covers (--photos names another one)": folder,
            }
        )
        assert pairs and titles and folder
        self.pairs, self.titles, self.photos = pairs, titles, PhotoFolder(folder)
        self.tags = only_file(self.source, "tags_to_summary.csv")

    def items(self) -> Iterator[ItemRow | LeftOut]:
        assert self.photos
        categories = {
            row.fields["item_id"]: row.fields["category"]
            for row in (headless_rows(self.tags, ("item_id", "category"), ",") if self.tags else ())
            if not isinstance(row, NoRow)
        }
        for row in headless_rows(self.titles, ("item_id", "title"), ","):
            if isinstance(row, NoRow):
                yield no_item(row, self.titles)
                continue
            item = row.fields["item_id"]
            columns = {"title": row.fields["title"], "category": categories.get(item, "")}
            yield ItemRow(item, self.photos.image(item), columns)

    def events(self) -> Iterator[EventRow | LeftOut]:
        for row in rows(self.pairs, {"user_id": "user", "item_id": "item", "timestamp": "timestamp"}):
            yield event_of(row, self.pairs, 1000)  # Milliseconds.
