"""MovieLens of any size, with posters by movie ID."""

import re
from collections.abc import Iterator
from pathlib import Path

from beam_jobs.importers.importer import EventRow, Importer, ItemRow, event_of, no_item
from beam_jobs.importers.published import (
    LeftOut,
    PhotoFolder,
    folder_of_photos,
    headless_rows,
    only_file,
    rows,
)
from beam_jobs.raw_rows import NoRow, RawRow

_SEPARATOR = "::"  # Of the .dat files, which have no header.
_YEAR = re.compile(r"\((\d{4})\)\s*$")
_NO_GENRE = "(no genres listed)"


class MovieLens(Importer):
    """The files of one of GroupLens's archives, and a folder of posters."""

    columns = ("title", "category", "genres", "year")

    def find(self, photos: Path | None) -> None:
        movies, ratings = only_file(self.source, "movies.csv", "movies.dat"), only_file(
            self.source, "ratings.csv", "ratings.dat"
        )  # fmt: skip
        folder = folder_of_photos(self.source, photos, "posters", "*/posters")
        self.require(
            {
                "movies.csv (or movies.dat)": movies,
                "ratings.csv (or ratings.dat)": ratings,
                "a folder posters (--photos names another one)": folder,
            }
        )
        assert movies and ratings and folder
        self.movies, self.ratings, self.photos = movies, ratings, PhotoFolder(folder)

    def items(self) -> Iterator[ItemRow | LeftOut]:
        assert self.photos
        for row in _rows(self.movies, {"item_id": "movieId", "title": "title", "genres": "genres"}):
            if isinstance(row, NoRow):
                yield no_item(row, self.movies)
                continue
            movie, title, genres = row.fields["item_id"], row.fields["title"], row.fields["genres"]
            genres = "" if genres == _NO_GENRE else genres
            year = _YEAR.search(title)
            columns = {
                "title": title,
                "category": genres.partition("|")[0],
                "genres": genres,
                "year": year.group(1) if year else "",
            }
            yield ItemRow(movie, self.photos.image(movie), columns)

    def events(self) -> Iterator[EventRow | LeftOut]:
        named = {"user_id": "userId", "item_id": "movieId", "rating": "rating", "timestamp": "timestamp"}
        for row in _rows(self.ratings, named):
            yield event_of(row, self.ratings, 1, self.min_rating)


def _rows(file: Path, columns: dict[str, str]) -> Iterator[RawRow | NoRow]:
    return headless_rows(file, tuple(columns), _SEPARATOR) if ".dat" in file.suffixes else rows(file, columns)
