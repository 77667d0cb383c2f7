"""H&M Personalized Fashion Recommendations, of Kaggle: purchases of two years, and a photo of most articles."""

import datetime
from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import EventRow, Importer, ItemRow, no_item
from beam_jobs.importers.published import LeftOut, PhotoFolder, folder_of_photos, only_file, rows
from beam_jobs.raw_rows import NoRow

#: Our name of a column -> that of articles.csv. The columns of numbers say the same, and are left out.
_COLUMNS = {
    "title": "prod_name",
    "category": "product_type_name",
    "product_code": "product_code",
    "product_group": "product_group_name",
    "appearance": "graphical_appearance_name",
    "colour": "colour_group_name",
    "perceived_colour_value": "perceived_colour_value_name",
    "perceived_colour_master": "perceived_colour_master_name",
    "department": "department_name",
    "index": "index_name",
    "index_group": "index_group_name",
    "section": "section_name",
    "garment_group": "garment_group_name",
}


class HmKaggle(Importer):
    """The files of the competition."""

    columns = tuple(_COLUMNS)
    repeat_columns = ("product_code",)
    span_days = 7  # The competition asks for the purchases of the week that follows.

    def find(self, photos: Path | None) -> None:
        articles = only_file(self.source, "articles.csv")
        transactions = only_file(self.source, "transactions_train.csv")
        folder = folder_of_photos(self.source, photos, "images")
        self.require({"articles.csv": articles, "transactions_train.csv": transactions, "the folder images": folder})
        assert articles and transactions and folder
        self.articles, self.transactions, self.photos = articles, transactions, PhotoFolder(folder)

    def items(self) -> Iterator[ItemRow | LeftOut]:
        assert self.photos
        for row in rows(self.articles, {"item_id": "article_id", **_COLUMNS}):
            if isinstance(row, NoRow):
                yield no_item(row, self.articles)
            else:
                article = row.fields.pop("item_id")
                yield ItemRow(article, self.photos.image(article), row.fields)

    def events(self) -> Iterator[EventRow | LeftOut]:
        midnights: dict[str, int] = {}  # Of the 734 days of the log.
        named = {"user_id": "customer_id", "item_id": "article_id", "date": "t_dat"}
        for row in rows(self.transactions, named):
            if isinstance(row, NoRow):
                yield LeftOut(f"in lines that are no rows ({row.reason})", self.transactions, row.row)
                continue
            fields = row.fields
            date = fields["date"]
            seconds = midnights.get(date)
            if seconds is None:
                try:
                    midnight = datetime.datetime.strptime(date, "%Y-%m-%d").replace(tzinfo=datetime.UTC)
                except ValueError:
                    yield LeftOut("whose t_dat is no date YYYY-MM-DD", self.transactions, row.row, date)
                    continue
                seconds = midnights[date] = int(midnight.timestamp())
            yield EventRow(fields["user_id"], fields["item_id"], seconds)
