"""What a worker is told of a raw file, and what it makes of each row."""

import dataclasses
from typing import NamedTuple

from beam_jobs.dialects import Dialect

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
    """

    path: str
    dialect: Dialect
    header: tuple[str, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()
    constants: tuple[tuple[str, str], ...] = ()
    photo: bool = False
    typed_times: tuple[str, ...] = ()
    zone: str = "UTC"

    def __str__(self) -> str:
        return self.path
