"""Amazon Reviews 2023, of McAuley Lab: reviews or ratings by category, and items with the addresses of their photos."""

import json
from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import EventRow, Importer, ItemRow, event_of, no_item
from beam_jobs.importers.published import ImportFailedError, LeftOut, files_named, rows
from beam_jobs.raw_rows import NoRow

_META = "meta_"
_FOLDERS = ("", "raw/meta_categories/", "raw/review_categories/")  # As they lie in the repository of the publisher.
_SIZES = ("large", "hi_res", "thumb")  # Of a photo: 500 pixels are more than an encoder sees.


class AmazonReviews(Importer):
    """Pairs of files, of one category or several."""

    columns = ("title", "category", "main_category", "subcategory", "store")
    downloads = True

    def find(self, photos: Path | None) -> None:
        if photos:
            raise ImportFailedError("amazon-reviews-2023 has addresses of photos and no files: leave out --photos")
        metas = files_named(self.source, [f"{folder}{_META}*.jsonl" for folder in _FOLDERS])
        self.require({"meta_CATEGORY.jsonl of any category": metas or None})
        self.files: list[tuple[Path, Path]] = []
        for meta in metas:
            category = meta.name.partition(".")[0].removeprefix(_META)
            kinds = [f"{folder}{category}.{ending}" for ending in ("jsonl", "csv") for folder in _FOLDERS]
            logs = files_named(self.source, kinds)
            if len(logs) > 1:
                raise ImportFailedError(f"{logs[0]} and {logs[1]}: keep one of them in {self.source}")
            self.require({f"{category}.jsonl (or {category}.csv) for {meta.name}": logs or None})
            self.files.append((meta, logs[0]))

    def items(self) -> Iterator[ItemRow | LeftOut]:
        names = ("title", "main_category", "store", "categories", "images")
        for meta, _ in self.files:
            for row in rows(meta, {"item_id": "parent_asin", **{name: name for name in names}}, optional=names):
                if isinstance(row, NoRow):
                    yield no_item(row, meta)
                    continue
                fields = row.fields
                if not fields.get("item_id"):
                    yield LeftOut("without parent_asin", meta, row.row)
                    continue
                main = fields.get("main_category", "")
                levels = [level for level in _listed(fields.get("categories", "")) if isinstance(level, str)]
                columns = {
                    "title": fields.get("title", ""),
                    "category": levels[1] if len(levels) > 1 else levels[0] if levels else main,
                    "main_category": main,
                    "subcategory": levels[2] if len(levels) > 2 else "",
                    "store": fields.get("store", ""),
                }
                yield ItemRow(fields["item_id"], main_photo(_listed(fields.get("images", ""))), columns)

    def events(self) -> Iterator[EventRow | LeftOut]:
        names = {"user_id": "user_id", "item_id": "parent_asin", "rating": "rating", "timestamp": "timestamp"}
        for _, log in self.files:
            for row in rows(log, names):
                yield event_of(row, log, 1000, self.min_rating)  # Milliseconds.


def _listed(text: str) -> list[object]:
    """A field that holds a list, which the reader has made text; of anything else the empty list."""
    try:
        value = json.loads(text) if text else []
    except ValueError:
        return []
    return value if isinstance(value, list) else []


def main_photo(images: list[object]) -> str:
    """The address of the main photo of an item, or of the first one; empty where there is none.

    >>> main_photo([{"large": "b", "variant": "PT01"}, {"hi_res": "a", "large": None, "variant": "MAIN"}])
    'a'
    """
    photos = [image for image in images if isinstance(image, dict)]
    for photo in sorted(photos, key=lambda photo: photo.get("variant") != "MAIN"):
        for size in _SIZES:
            if isinstance(address := photo.get(size), str) and address:
                return address
    return ""
