"""The rows of a CSV file.

A row is a line, or several where a quoted field holds line breaks. A quote that is not closed costs its own line only:
lines are joined only to a record with as many fields as the header. Each line is empty, a part of a row, or a reject
that is counted. Empty lines between rows have numbers as rows have, so that a number leads to its line in an editor.
"""

import collections
import csv
import itertools
import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

from beam_jobs.columns import plain
from beam_jobs.csv_records import LITERAL, NotCsv, begun, parsed, record_of
from beam_jobs.dialects import MAX_HEADER, Dialect
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, TIMES, NoRow, RawFile, RawRow, undecoded
from beam_jobs.raw_streams import naming, opened
from beam_jobs.texts import MAX_LINE, lines_of
from beam_jobs.values import stripped
from courier_tf import schema

MAX_JOINED_LINES = 1_000  # Lines of a record with quoted line breaks, and its characters.
MAX_JOINED = 1 << 18
LOOK_AHEAD = 1 << 26  # Characters of a file that are read again, since no record of several lines begins there.
_EMPTY = frozenset(["\n", "\r\n", "\r"])
_FORMULA = '="'
_SURPLUS = ": quote fields that hold the delimiter, and give a column of row names a name (R: row.names = FALSE)"
_STRICT = (*IDS, *TIMES, "clicked", schema.EVENT_TYPE, "image")  # Fields in which a quote makes no sense.


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
    if not dialect.quote or dialect.quote not in line or len(line) > MAX_LINE:
        return False
    csv.field_size_limit(MAX_LINE)
    try:
        parsed(line, dialect)
    except NotCsv as error:
        return error.is_open
    return False


def rows_of(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    """The rows of an open file, or of a part of it, in order."""
    dialect, path, constants = file.dialect, file.path, dict(file.constants)
    header = (*[""] * dialect.row_names, *file.header)
    skipped = 0 if file.part and file.part.begin else lines_before_rows(dialect)
    lines = lines_of(stream, dialect.encoding)
    line, half_end = "", False
    for _ in range(skipped):
        line = next(lines, "")
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
    joiner = _Joiner(dialect, width, [position for _, position in strict])
    row = file.rows_before
    while True:
        if width == 1:
            half_end = line[-1:] == "\r"
        line = queue.popleft() if queue else next(lines, "")
        if not line:
            return
        row += 1
        if half_end and line == "\r\n":
            continue  # The second half of \r\r\n. Another empty line is a row of a table of one column.
        if not quote or quote not in line:
            values = line.rstrip("\r\n").split(delimiter)
        elif len(line) > MAX_LINE:
            values = []
        elif line.count(quote) == 2 * width and len(values := _all_quoted(line, quote, between)) == width:
            pass  # The common case of quotes.
        else:
            try:
                values, line = joiner.record(line, lines, queue)
            except NotCsv as error:
                values = _literal(line, dialect, width, queue if error.is_open else ())
                if not values:
                    yield NoRow(row, f"is not CSV: {error}")
                    continue
            if len(values) == width + 1:
                values = _unended(values, dialect)
            if _FORMULA in line:
                values = [_of_formula(value) for value in values]
            stray = _stray(values, line, strict, quote) if len(values) == width else None
            if stray:
                yield NoRow(row, "holds a quote that encloses nothing", stray)
                continue
        if len(values) != width or len(line) > MAX_LINE:
            if line in _EMPTY:
                continue
            values = _unended(values, dialect) if len(values) == width + 1 else values
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
    reason = f"has {fields} fields, the header has {width}"
    return reason + _SURPLUS if fields > width else reason


def _literal(line: str, dialect: Dialect, width: int, following: Sequence[str]) -> list[str]:
    """The fields of a line of a text without quoting, in which a field begins with a quote; none if it is no such line.

    Args:
        following: the lines after it, of which the first would be the rest of a field.
    """
    if dialect.delimiter not in LITERAL or (following and following[0].count(dialect.delimiter) + 1 != width):
        return []
    values = line.rstrip("\r\n").split(dialect.delimiter)
    return values if len(values) == width else []


def _unended(values: list[str], dialect: Dialect) -> list[str]:
    """The fields of a row without the empty one behind a delimiter at its end, where rows of the file have one.

    A field with a blank before it is rather the second half of a text that holds the delimiter.
    """
    is_ended = dialect.ends and not values[-1] and not any(value[:1] == " " for value in values)
    return values[:-1] if is_ended else values


def _of_formula(value: str) -> str:
    """The text of a formula with which Excel keeps it from becoming a number.

    >>> _of_formula('="0012"'), _of_formula('a="b"')
    ('0012', 'a="b"')
    """
    text = value.strip()
    return text[2:-1] if text[:2] == _FORMULA and text[-1] == '"' and text.count('"') == 2 else value


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

    They are joined only to a record of as many fields as the header. An open quote does not swallow the rows after it:
    no line is joined that has as many fields by itself, and in them what such a row has. A line of a description may
    have as many delimiters by chance.

    Args:
        dialect: of the file.
        width: number of fields of its header.
        strict: positions of ids, times, labels and photos.
    """

    def __init__(self, dialect: Dialect, width: int, strict: Sequence[int]) -> None:
        self.dialect, self.width, self.strict, self.left = dialect, width, strict, LOOK_AHEAD

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
        taken = [line]
        try:
            values = record_of(self._joined(taken, lines, queue), self.dialect)
            if len(values) == self.width + 1:
                values = _unended(values, self.dialect)
            if len(values) == self.width and not self._swallows(values, taken):
                return values, "".join(taken)
        except NotCsv:
            pass
        self.left -= sum(map(len, taken))
        queue.extendleft(reversed(taken[1:]))
        raise reason

    def _joined(self, taken: list[str], lines: Iterator[str], queue: collections.deque[str]) -> Iterator[str]:
        """The lines of a record, from its first one, which `taken` holds. It gets those that were read."""
        yield taken[0]
        before = begun(taken[0], self.dialect)
        size = len(taken[0])
        while len(taken) <= MAX_JOINED_LINES and size < MAX_JOINED:
            more = queue.popleft() if queue else next(lines, None)
            if more is None:
                return
            taken.append(more)
            size += len(more)
            if (
                self.dialect.quote not in more
                and more.count(self.dialect.delimiter) + 1 == self.width
                and (self.left <= 0 or self._is_row(more, before, taken[0], len(self.strict)))
            ):
                return  # The record is not read to its end, which may be far.
            yield more

    def _swallows(self, values: list[str], taken: list[str]) -> bool:
        """Whether lines of a record are rows of their own: some between its first and its last one, or those two.

        Without ids or other fields to compare, all its lines have to be as wide as rows.
        """
        whole = [line for line in taken[1:-1] if self._is_whole(line)]
        if whole and self.strict:
            begins = len(begun(taken[0], self.dialect))
            if begins in self.strict or any(self._is_row(line, values, taken[0]) for line in whole):
                return True
        return len(whole) == sum(bool(line.strip()) for line in taken[1:-1]) and self._are_rows(values, taken)

    def _are_rows(self, values: list[str], taken: list[str]) -> bool:
        """Whether the first and the last line of a record are rows of their own, with a stray quote in each."""
        first = taken[0].rstrip("\r\n").split(self.dialect.delimiter)
        if len(first) != self.width or not self._is_whole(taken[-1]):
            return False
        begins = len(begun(taken[0], self.dialect))
        last = parsed(taken[-1], self.dialect)
        # What stands before the quote in the first line, and behind it in the last one, are fields of the record.
        return self._is_alike([*last[:begins], values[begins], *first[begins + 1 :]], values, 0 if self.strict else -1)

    def _is_whole(self, line: str) -> bool:
        """Whether a line has as many fields as the header by itself."""
        if self.dialect.quote not in line:
            return line.count(self.dialect.delimiter) + 1 == self.width
        try:
            return len(parsed(line, self.dialect)) == self.width
        except NotCsv:
            return False

    def _is_row(self, line: str, values: list[str], first: str, out_of: int = 0) -> bool:
        """Whether a line has what rows of the file have.

        Args:
            line: has as many fields as the header.
            values: the fields of another row, or those at its start.
            first: its first line.
            out_of: as for `_is_alike`.
        """
        quote = self.dialect.quote
        if first.startswith(quote) and values and "\n" not in values[0] and not line.startswith(quote):
            return False
        return self._is_alike(parsed(line, self.dialect), values, out_of)

    def _is_alike(self, fields: list[str], values: list[str], out_of: int = 0) -> bool:
        """Whether most ids, times and other fields that are not texts are of one kind in two rows.

        Args:
            fields, values: of the rows, of which one may break off.
            out_of: number of fields, of which more than half must be alike; 0 for the number of those that both have.
        """
        if any(field[:1] == " " != value[:1] for value, field in zip(values, fields, strict=False) if value):
            return False  # The comma of a text has a blank behind it.
        pairs = [(values[place], fields[place]) for place in self.strict if place < len(values)]
        compared = [(value, field) for value, field in pairs if value and field]
        return 2 * sum(_kind(value) == _kind(field) for value, field in compared) > (out_of or len(compared))


def _kind(text: str) -> frozenset[str]:
    """What ids, times and names of photos have in common with others of their table: the kinds of their characters.

    >>> _kind("images/3.jpg") == _kind("images/17.jpg"), _kind("i3") == _kind("cotton")
    (True, False)
    """
    kinds = {"0" if character.isdigit() else "a" if character.isalpha() else character for character in stripped(text)}
    return frozenset(kinds if "a" in kinds else kinds - set(".-+"))  # Numbers are written in several ways.


def _all_quoted(line: str, quote: str, between: str) -> list[str]:
    """The fields of a line of which all are quoted, if it holds no other quotes; otherwise too few."""
    text = line.rstrip("\r\n")
    return text[1:-1].split(between) if text[:1] == text[-1:] == quote else []


def _picker(positions: list[int]) -> Callable[[list[str]], Iterable[str]]:
    if len(positions) == 1:
        return lambda values: (values[positions[0]],)
    return operator.itemgetter(*positions)
