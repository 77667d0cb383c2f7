"""The raw folder: its files and columns, and its rows, each with its place. Lines that are not rows are rejected.

One file is read by one worker, because a row is named by its number in the file. A large log should come as several
files (`events-*.csv` or a folder `events/`), which are read in parallel.
"""

import dataclasses
import glob
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
from apache_beam.io.filesystems import FileSystems

from beam_jobs.formats import RawDataError, columns_of, is_unicode, rows_of
from courier_tf import schema

NAMESPACE = "courier"  # The namespace of all counters.
REJECTS = "rejects"  # These three are tags of further outputs.
ROWS_READ = "rows_read"
BROKEN_FILES = "broken_files"


class RawRow(NamedTuple):
    """One row of a raw file: its place, and its fields as text."""

    file: str
    row: int  # From 1; the header of a CSV file is not counted.
    fields: dict[str, str]


def find_files(raw: str, table: str) -> list[str]:
    """The files of a raw table: `table.EXT`, `table-*.EXT` and `table/*.EXT`, all with one extension.

    Raises:
        RawDataError: there are none, or files of several extensions.
    """
    files: dict[str, list[str]] = {}
    folder = glob.escape(raw)
    for extension in schema.RAW_EXTENSIONS:
        patterns = [FileSystems.join(folder, f"{table}{middle}.{extension}") for middle in ("", "-*")]
        patterns.append(FileSystems.join(folder, table, f"*.{extension}"))
        paths = [file.path for match in FileSystems.match(patterns) for file in match.metadata_list]
        if paths:
            files[extension] = sorted(set(paths))
    if not files:
        kinds = ", ".join(f"{table}.{extension}" for extension in schema.RAW_EXTENSIONS)
        raise RawDataError(f"{raw} holds none of {kinds}")
    if len(files) > 1:
        raise RawDataError(f"{raw} holds '{table}' in several formats ({', '.join(files)}): keep one")
    return next(iter(files.values()))


def require_columns(files: list[str], required: tuple[str, ...], every_line: bool = False) -> dict[str, list[str]]:
    """The columns of each file. `every_line` is that of `columns_of`.

    Raises:
        RawDataError: a file lacks one of the required columns.
    """
    columns_of_file = {file: columns_of(file, every_line) for file in files}
    for file, columns in columns_of_file.items():
        missing = [column for column in required if column not in columns]
        if missing:
            raise RawDataError(f"{file} has no column '{missing[0]}'; its columns are {', '.join(columns)}")
    return columns_of_file


def _log_kind(columns: dict[str, list[str]]) -> schema.LogKind:
    """The kind of the log, which all event files share.

    Args:
        columns: columns of each event file.

    Raises:
        RawDataError: a file has only one of the two columns of an impression log, or some files have both and others
            have none.
    """
    present = {
        file: [name for name in schema.IMPRESSION_LOG_COLUMNS if name in of_file] for file, of_file in columns.items()
    }
    for file, names in present.items():
        if len(names) == 1:
            raise RawDataError(
                f"{file} has '{names[0]}' alone: an impression log needs both of "
                f"{', '.join(schema.IMPRESSION_LOG_COLUMNS)}, a positives-only log has neither"
            )
    without = [file for file, names in present.items() if not names]
    if without and len(without) < len(present):
        other = next(file for file, names in present.items() if names)
        raise RawDataError(
            f"{without[0]} has neither of {', '.join(schema.IMPRESSION_LOG_COLUMNS)}, but {other} has both: its "
            "impressions that were not clicked would count as clicks"
        )
    return "positives" if without else "impressions"


@dataclasses.dataclass(frozen=True)
class RawFolder:
    """The files and columns of a raw folder, known before any row is read."""

    path: str
    item_files: list[str]
    event_files: list[str]
    log_kind: schema.LogKind
    columns: list[str]  # The category, then the further columns of all item files.

    @classmethod
    def inspect(cls, raw: str) -> "RawFolder":
        """Finds the files and checks their columns.

        Raises:
            RawDataError: files or columns are missing, or do not go together.
        """
        item_files, event_files = find_files(raw, schema.RAW_ITEMS), find_files(raw, schema.RAW_EVENTS)
        columns = require_columns(item_files, schema.ITEM_REQUIRED_COLUMNS, every_line=True)
        kind = _log_kind(require_columns(event_files, schema.EVENT_REQUIRED_COLUMNS))
        known = {*schema.ITEM_REQUIRED_COLUMNS, *schema.ITEM_OPTIONAL_COLUMNS}
        further = dict.fromkeys(column for names in columns.values() for column in names if column not in known)
        return cls(raw, item_files, event_files, kind, [schema.CATEGORY, *further])


class ReadRows(beam.DoFn):
    """Turns a file name into the rows of the file.

    Lines that are not rows go to the output `REJECTS`, and (name, rows read) to `ROWS_READ`. The reason why a file
    could not be read to its end goes to `BROKEN_FILES`. Beam would run a worker that raises again, and show the user
    only its traceback.
    """

    def __init__(self, kind: Literal["item", "event"]) -> None:
        self.kind = kind

    def process(self, file: str) -> Iterator[Any]:
        read = 0
        try:
            with FileSystems.open(file) as stream:
                for read, fields in enumerate(rows_of(file, stream), start=1):
                    yield self._row_or_reject(file, read, fields)
        except RawDataError as error:
            yield beam.pvalue.TaggedOutput(BROKEN_FILES, str(error))
        yield beam.pvalue.TaggedOutput(ROWS_READ, (f"{self.kind}_rows_read", read))

    def _row_or_reject(self, file: str, row: int, fields: dict[str, str] | str) -> RawRow | beam.pvalue.TaggedOutput:
        if isinstance(fields, str):
            return beam.pvalue.TaggedOutput(REJECTS, schema.Reject(file, row, "", fields, self.kind))
        for name, text in fields.items():
            if not is_unicode(text):
                return beam.pvalue.TaggedOutput(REJECTS, schema.Reject(file, row, name, "is not UTF-8", self.kind))
        return RawRow(file, row, fields)
