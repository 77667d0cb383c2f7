"""What a worker is told of a raw file, and what it makes of each row."""

import collections
import dataclasses
import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from beam_jobs.dialects import Dialect
from beam_jobs.raw_errors import RawDataError
from courier_tf import schema
from courier_tf.escaping import printable

IDS = ("user_id", "item_id", "request_id")
TIMES = ("timestamp", "available_from")


class RawRow(NamedTuple):
    """One row of a raw file: its place, its fields as text, and the photo where the file holds photos.

    `row` counts from 1, without the header of a CSV file. A row with quoted line breaks counts once.
    """

    file: str
    row: int
    fields: dict[str, str]
    photo: bytes | None = None


class NoRow(NamedTuple):
    """A part of a raw file that is no row, with the reason and, where one is at fault, the field."""

    row: int
    reason: str
    field: str = ""


class FilePart(NamedTuple):
    """A part of a raw file.

    Attributes:
        begin, end: its first byte and the one behind its last; of a Parquet file its row groups.
        rows_before: rows of the file that come before it.
    """

    begin: int
    end: int
    rows_before: int


@dataclasses.dataclass(frozen=True)
class RawFile:
    """A file of a raw table, recognised.

    Attributes:
        path: its address.
        dialect: how it is written.
        header: all its columns in their order; of JSON those that were found.
        columns: (name that rows have, name in the file) of each column that is read.
        constants: (name, value) of fields that all rows share, from the names of the folders above the file.
        photo: the image column holds photos and not their paths.
        typed_times: names of columns with typed times, which become seconds.
        zone: time zone of typed times that name none.
        no_label: every row is taken for a positive, as no column was found that tells which are.
        part: the part of it that is read; None for all of it.
    """

    path: str
    dialect: Dialect
    header: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, str], ...] = ()
    photo: bool = False
    typed_times: tuple[str, ...] = ()
    zone: str = "UTC"
    no_label: bool = False
    part: FilePart | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the fields of its rows."""
        return tuple(name for name, _ in (*self.columns, *self.constants))

    @property
    def rows_before(self) -> int:
        """Rows of the file before the first one that is read."""
        return self.part.rows_before if self.part else 0

    def __str__(self) -> str:
        return self.path


def require_columns(file: str, columns: Sequence[str]) -> None:
    """Refuses a file with too many columns, with two of one name, or with names that are no text.

    Raises:
        RawDataError: it is such a file.
    """
    if len(columns) > schema.MAX_COLUMNS:
        raise RawDataError(f"{file} has {len(columns):,} columns, more than {schema.MAX_COLUMNS:,}")
    if not all(map(is_unicode, columns)):
        raise RawDataError(f"{file}, its column names are not UTF-8")
    twice = [name for name, number in collections.Counter(columns).items() if number > 1 and name.strip()]
    if twice:
        raise RawDataError(f"{file} has the column '{printable(twice[0])}' twice: keep one of them")


def is_unicode(text: str) -> bool:
    """Whether a text holds no surrogates, which stand for bytes that could not be decoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def undecoded(file: RawFile, row: int, fields: dict[str, str]) -> NoRow | None:
    """What a row becomes of which a text could not be decoded; None for any other."""
    for name, text in fields.items():
        if not text.isascii() and not is_unicode(text):
            encoding = file.dialect.encoding
            return NoRow(row, f"is not {'UTF-8' if encoding == 'utf-8' else encoding}", name)
    return None


def text_of(value: object) -> str:
    """A typed value as a CSV file would hold it: whole numbers without a point, a missing value as an empty text.

    >>> [text_of(value) for value in (None, 3.0, 2.5, True, b"a", ["b"])]
    ['', '3', '2.5', '1', 'a', '["b"]']
    """
    if isinstance(value, str):
        return value
    if value is None or (isinstance(value, float) and math.isnan(value)):  # pandas writes missing values as NaN.
        return ""
    if isinstance(value, bytes):
        return value.decode("utf-8", errors="surrogateescape")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False, default=str)
    return str(value)


def inexact(path: str, column: str, value: object) -> RawDataError:
    """The error of an id that is a number beyond those that a float tells apart."""
    return RawDataError(
        f"{path}, column '{printable(column)}' holds {value} as a floating-point number, which does not tell ids of "
        "this size apart: export ids as whole numbers or as text"
    )


def several(path: str, column: str, value: object) -> RawDataError:
    """The error of an id that is a list or an object."""
    return RawDataError(
        f"{path}, column '{printable(column)}' holds {printable(str(value), 100)}, which is no single id: write one "
        "row for each, as UNNEST does in SQL and explode in Spark and pandas"
    )
