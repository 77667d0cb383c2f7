"""The rows of a CSV file.

A row is a line, or several where a quoted field holds line breaks. A quote that is not closed costs its own line only:
lines are joined only to a record with as many fields as the header. Each line is a part of a row or a reject, and none
is lost without being counted.
"""

import collections
import csv
import itertools
import operator
import re
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO

from beam_jobs.columns import plain
from beam_jobs.dialects import MAX_HEADER, Dialect, naming, opened
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, TIMES, NoRow, RawFile, RawRow, undecoded
from beam_jobs.texts import MAX_LINE, lines_of
from beam_jobs.values import stripped
from courier_tf import schema

MAX_JOINED_LINES = 1_000  # Lines of a record with quoted line breaks, and its characters.
MAX_JOINED = 1 << 18
LOOK_AHEAD = 1 << 26  # Characters that are read again, of all records of a file with open quotes.
_STRICT = (*IDS, *TIMES, "clicked", schema.EVENT_TYPE, "image")  # Fields in which a quote makes no sense.


class NotCsv(ValueError):
    """A line is no record. `is_open` where a quote is not closed, so that further lines may close it."""

    def __init__(self, reason: str, is_open: bool) -> None:
        super().__init__(reason)
        self.is_open = is_open


def header_of(file: str, dialect: Dialect) -> list[str]:
    """The fields of the first line.

    Raises:
        RawDataError: it is no header.
    """
    with naming(file), opened(file, dialect.compression) as stream:
        lines = itertools.islice(lines_of(stream, dialect.encoding), dialect.skipped, None)
        csv.field_size_limit(MAX_LINE)
        first = next(lines, "").lstrip("\ufeff")
        if len(first) > MAX_HEADER:
            raise RawDataError(f"{file}, its first line has more than {MAX_HEADER:,} characters: it is no header")
        try:
            return parsed(first, dialect)
        except NotCsv as error:
            raise RawDataError(f"{file}, its first line is not CSV: {error}") from error


def lines_before_rows(dialect: Dialect) -> int:
    """Lines at the start of a file that are no rows: the header, and what is before it."""
    return dialect.skipped + 1


def goes_on(line: str, dialect: Dialect) -> bool:
    """Whether a quote is open at the end of a line, so that its record may go on in the next one."""
    if dialect.quote not in line or len(line) > MAX_LINE:
        return False
    csv.field_size_limit(MAX_LINE)
    try:
        parsed(line, dialect)
    except NotCsv as error:
        return error.is_open
    return False


def rows_of(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    """The rows of an open file, or of a part of it, in order."""
    dialect, header, path, constants = file.dialect, file.header, file.path, dict(file.constants)
    skipped = 0 if file.part and file.part.begin else lines_before_rows(dialect)
    lines = itertools.islice(lines_of(stream, dialect.encoding), skipped, None)
    width, titles = len(header), _titles(header)
    delimiter, quote = dialect.delimiter, dialect.quote
    between = quote + delimiter + quote
    csv.field_size_limit(MAX_LINE)
    place = {name: position for position, name in enumerate(header)}
    names = [name for name, _ in file.columns]
    positions = [place[source] for _, source in file.columns]
    pick = None if positions == list(range(width)) else _picker(positions)
    strict = [(name, place[source]) for name, source in file.columns if name in _STRICT]
    queue: collections.deque[str] = collections.deque()
    joiner = _Joiner(dialect, width)
    row = file.rows_before
    while True:
        line = queue.popleft() if queue else next(lines, None)
        if line is None:
            return
        row += 1
        if quote not in line:
            values = line.rstrip("\r\n").split(delimiter)
        elif len(line) > MAX_LINE:
            values = []
        elif line.count(quote) == 2 * width and len(values := _all_quoted(line, quote, between)) == width:
            pass  # The common case of quotes.
        else:
            try:
                values, line = joiner.record(line, lines, queue)
            except NotCsv as error:
                yield NoRow(row, f"is not CSV: {error}")
                continue
            stray = _stray(values, line, strict, quote) if len(values) == width else None
            if stray:
                yield NoRow(row, "holds a quote that encloses nothing", stray)
                continue
        if len(values) != width or len(line) > MAX_LINE:
            yield NoRow(row, _no_record(line, len(values), width))
            continue
        if values[-1] in titles and _repeats(file, row, values):
            yield NoRow(row, "repeats the header")
            continue
        fields = dict(zip(names, values if pick is None else pick(values), strict=True))
        if constants:
            fields |= constants
        if not line.isascii() and (reject := undecoded(file, row, fields)):
            yield reject
        else:
            yield RawRow(path, row, fields)


def _no_record(line: str, fields: int, width: int) -> str:
    if len(line) > MAX_LINE:
        return f"has more than {MAX_LINE:,} characters"
    return f"has {fields} fields, the header has {width}" if line.strip("\r\n") else "is an empty line"


def _titles(header: tuple[str, ...]) -> frozenset[str]:
    """The names of a header, and how another one may write them."""
    return frozenset(write(name) for name in header for write in (str, str.lower, str.upper, str.title, stripped))


def _repeats(file: RawFile, row: int, values: list[str]) -> bool:
    """Whether a row is the header again, but for case and blanks.

    Raises:
        RawDataError: its columns are in another order, so those of the rows after it would be mistaken.
    """
    names, header = [plain(value) for value in values], [plain(name) for name in file.header]
    if sorted(names) != sorted(header):
        return False
    if names != header:
        raise RawDataError(
            f"{file.path}, row {row} is a second header with its columns in another order: keep such rows in a file of "
            "their own"
        )
    return True


def _stray(values: list[str], line: str, strict: list[tuple[str, int]], quote: str) -> str | None:
    """The name of an id, time or label with a quote inside that does not enclose it: half of a broken record."""
    for name, position in strict:
        value = values[position]
        if quote in value and quote + value.replace(quote, 2 * quote) + quote not in line:
            return name
    return None


class _Joiner:
    """Reads the record that begins in a line with a quote, and joins further lines while a quote is open.

    They are joined only to a record of as many fields as the header, of lines that are no records by themselves. So an
    open quote does not swallow the rows after it.
    """

    def __init__(self, dialect: Dialect, width: int) -> None:
        self.dialect, self.width, self.left = dialect, width, LOOK_AHEAD

    def record(self, line: str, lines: Iterator[str], queue: collections.deque[str]) -> tuple[list[str], str]:
        """(fields, text) of a record.

        Args:
            line: its first line.
            lines: the lines after it; `queue` holds those that were taken before.

        Raises:
            NotCsv: it is none; no further line has been used up.
        """
        try:
            return parsed(line, self.dialect), line
        except NotCsv as error:
            if not error.is_open:
                raise
            reason = error
        taken: list[str] = []
        text = line
        while len(taken) < MAX_JOINED_LINES and len(text) < MAX_JOINED and self.left > 0:
            more = queue.popleft() if queue else next(lines, None)
            if more is None:
                break
            taken.append(more)
            text += more
            self.left -= len(more)
            if self.dialect.quote not in more:
                if more.count(self.dialect.delimiter) + 1 == self.width:
                    break  # A row of its own.
                continue
            self.left -= len(text)
            try:
                values = parsed(text, self.dialect)
            except NotCsv as error:
                if error.is_open:
                    continue
                break
            if len(values) == self.width:
                return values, text
            break
        queue.extendleft(reversed(taken))
        raise reason


def parsed(text: str, dialect: Dialect) -> list[str]:
    """The fields of one record.

    Raises:
        NotCsv: it is none.
    """
    if dialect.escape and f"\\{dialect.quote}" in text:
        text = re.sub(rf"\\([\\{dialect.quote}])", lambda escaped: _unescaped(escaped.group(1), dialect.quote), text)
    try:
        return next(
            csv.reader(
                [text],
                strict=True,
                delimiter=dialect.delimiter,
                quotechar=dialect.quote,
                skipinitialspace=dialect.blank_after,
            ),
            [],
        )
    except csv.Error as error:
        is_open = "end of data" in str(error)
        raise NotCsv("a quote is not closed" if is_open else str(error), is_open) from error


def _unescaped(character: str, quote: str) -> str:
    return 2 * quote if character == quote else character


def _all_quoted(line: str, quote: str, between: str) -> list[str]:
    """The fields of a line of which all are quoted, if it holds no other quotes; otherwise too few."""
    text = line.rstrip("\r\n")
    return text[1:-1].split(between) if text[:1] == text[-1:] == quote else []


def _picker(positions: list[int]) -> Callable[[list[str]], Iterable[str]]:
    if len(positions) == 1:
        return lambda values: (values[positions[0]],)
    return operator.itemgetter(*positions)
