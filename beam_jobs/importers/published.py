"""Reads the files of publishers: tables with a header in any form that raw data may have, lines without one, photos."""

import csv
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from beam_jobs.dialects import detect
from beam_jobs.formats import columns_of, rows_of
from beam_jobs.photo_names import EXTENSIONS
from beam_jobs.photo_places import PHOTO_FOLDER, files_below
from beam_jobs.raw_rows import NoRow, RawFile, RawRow
from beam_jobs.raw_streams import naming, opened
from beam_jobs.texts import HEAD_BYTES, encoding_of, lines_of
from courier_tf.escaping import printable

PACKED = ("", ".gz")
ARCHIVES = (".zip", ".tar", ".tar.gz", ".rar")
_MOST_COLUMNS = 30  # In a message.


class ImportFailedError(ValueError):
    """Files of a publisher cannot be used as they are; the message says which and what to do."""


class LeftOut(NamedTuple):
    """A row that does not become an item or an event.

    Attributes:
        reason: for the count, as it follows "events" or "items", such as "whose timestamp is no whole number".
        file, row: its place.
        value: what it holds.
    """

    reason: str
    file: Path
    row: int
    value: str = ""


def files_named(source: Path, patterns: Iterable[str]) -> list[Path]:
    """The files of some names in a folder and in the folders inside it, packed or not, in order.

    Args:
        source: the folder.
        patterns: names in the form of `Path.glob`.
    """
    names = [name for pattern in patterns for packed in PACKED for name in (pattern + packed, f"*/{pattern}{packed}")]
    return sorted({path for name in names for path in source.glob(name) if path.is_file()})


def only_file(source: Path, *patterns: str) -> Path | None:
    """The file of one of these names, or None.

    Raises:
        ImportFailedError: there are several.
    """
    files = files_named(source, patterns)
    if len(files) > 1:
        raise ImportFailedError(f"{files[0]} and {files[1]}: keep one of them in {source}")
    return files[0] if files else None


def archives_in(source: Path) -> list[str]:
    """The names of what is still packed in a folder."""
    return sorted(path.name for path in source.iterdir() if path.name.lower().endswith(ARCHIVES))


def header_of(path: Path) -> list[str]:
    """The columns of a table."""
    return columns_of(str(path), detect(str(path)))


def rows(path: Path, columns: Mapping[str, str], optional: Sequence[str] = ()) -> Iterator[RawRow | NoRow]:
    """The rows of a table with a header, as a stream.

    Args:
        path: CSV, JSON lines or another format of raw data, packed or not.
        columns: name that rows have -> name in the file.
        optional: names in the file that it may lack.

    Raises:
        ImportFailedError: a column is missing.
    """
    dialect = detect(str(path))
    header = columns_of(str(path), dialect)
    missing = [source for source in columns.values() if source not in (*header, *optional)]
    if missing:
        shown = ", ".join(printable(name) for name in header[:_MOST_COLUMNS])
        raise ImportFailedError(f"{path} has no column '{missing[0]}'; its columns are {shown}")
    present = tuple((name, source) for name, source in columns.items() if source in header)
    return rows_of(RawFile(str(path), dialect, tuple(header), present))


def headless_rows(path: Path, names: Sequence[str], delimiter: str) -> Iterator[RawRow | NoRow]:
    """The lines of a file without a header. The last field takes what is left of a line, delimiters included.

    A first line whose first field is no number is taken for a header, and left out: some releases have one.

    Args:
        path: the file, packed or not.
        names: of the fields.
        delimiter: of one character or several.
    """
    compression = detect(str(path)).compression
    with naming(str(path)), opened(str(path), compression) as stream:
        encoding = encoding_of(stream.read(HEAD_BYTES))
    with naming(str(path)), opened(str(path), compression) as stream:
        for row, line in enumerate(lines_of(stream, encoding), start=1):
            values = line.lstrip("\ufeff").rstrip("\r\n").split(delimiter, len(names) - 1)
            if row == 1 and not values[0].isdecimal():
                continue
            if len(values) != len(names):
                yield NoRow(row, f"has {len(values)} fields in place of {len(names)}")
            else:
                yield RawRow(str(path), row, dict(zip(names, [*values[:-1], unquoted(values[-1])], strict=True)))


def unquoted(text: str) -> str:
    """A field of CSV without the quotes around it.

    >>> unquoted('"Cats, and dogs"'), unquoted('5" nails')
    ('Cats, and dogs', '5" nails')
    """
    return next(csv.reader([text]))[0] if len(text) > 1 and text[0] == text[-1] == '"' else text


class PhotoFolder:
    """The photos of a publisher, by their names without folder and extension.

    Args:
        folder: it and all folders below are looked through.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files: dict[str, str] = {}
        for file in files_below(str(folder), follow_links=False):
            stem, _, extension = os.path.basename(file).rpartition(".")
            if extension.lower() in EXTENSIONS:
                self._files.setdefault(stem, file)

    def image(self, stem: str) -> str:
        """The path of a photo in a raw folder whose `images` is this folder; empty where there is none."""
        file = self._files.get(stem)
        return f"{PHOTO_FOLDER}/{file}" if file else ""


def folder_of_photos(source: Path, given: Path | None, *patterns: str) -> Path | None:
    """The folder of photos: the one that is given, or the only one of these names.

    Raises:
        ImportFailedError: the given one is no folder, or there are several.
    """
    if given:
        if not given.is_dir():
            raise ImportFailedError(f"--photos {given} is no folder")
        return given
    folders = sorted({path for pattern in patterns for path in source.glob(pattern) if path.is_dir()})
    if len(folders) > 1:
        raise ImportFailedError(f"{folders[0]} and {folders[1]}: say by --photos which one holds the photos")
    return folders[0] if folders else None
