"""One record of CSV, of one line or several, and what the first records of a file tell of its quotes."""

import csv
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

LITERAL = "\t|^~\x01\x1f"  # Delimiters with which tables are often written without any quoting.
_MOST_JOINED = 100  # Lines of a record among the first ones.


class Quoting(Protocol):
    """How fields are written; a `Dialect` is one. An empty `quote` is for text without quoting."""

    @property
    def delimiter(self) -> str: ...

    @property
    def quote(self) -> str: ...

    @property
    def escape(self) -> bool: ...

    @property
    def blank_after(self) -> bool: ...


class NotCsv(ValueError):
    """A line is no record. `is_open` where a quote is not closed, so that further lines may close it."""

    def __init__(self, reason: str, is_open: bool) -> None:
        super().__init__(reason)
        self.is_open = is_open


def parsed(text: str, quoting: Quoting) -> list[str]:
    """The fields of one record.

    Raises:
        NotCsv: it is none.
    """
    return _next(_reader([text], quoting))


def record_of(lines: Iterable[str], quoting: Quoting) -> list[str]:
    """The fields of the record at the start of some lines, of which it takes no more than it has.

    Raises:
        NotCsv: there is none.
    """
    return _next(_reader(lines, quoting))


def begun(line: str, quoting: Quoting) -> list[str]:
    """The fields of a line before the one whose quote it leaves open."""
    return next(_reader([line], quoting, strict=False), [])[:-1]


def records(lines: Sequence[str], quoting: Quoting) -> Iterator[tuple[str, list[str]]]:
    """(first line, fields) of each record among some lines; the fields of a line that is none are empty."""
    place = 0
    while place < len(lines):
        reader = _reader((lines[n] for n in range(place, min(place + _MOST_JOINED, len(lines)))), quoting)
        try:
            fields, taken = _next(reader), reader.line_num
        except NotCsv:
            fields, taken = [], 1
        if lines[place].strip("\r\n"):
            yield lines[place], fields
        place += taken


def well_formed(lines: Sequence[str], quoting: Quoting) -> int:
    """How many records among the first lines have as many fields as the header."""
    widths = [len(fields) for _, fields in records(lines, quoting)]
    return widths.count(widths[0]) if widths and widths[0] else 0


def ends_with_delimiters(lines: Sequence[str], quoting: Quoting) -> bool:
    """Whether some rows have a delimiter behind their last field, and no row has a field more that holds something."""
    (_, header), *rows = records(lines, quoting)
    surplus = [fields[-1] for _, fields in rows if header and len(fields) == len(header) + 1]
    return bool(surplus) and not any(surplus)


def has_row_names(lines: Sequence[str], quoting: Quoting) -> bool:
    """Whether each row has a field more than the header, which is its name: what R writes.

    The names are 1, 2, 3 and so on, or differ and are quoted as the header is. Fields that look like the halves of
    others, at a delimiter that should have been quoted, are the other reason for a field more.
    """
    (title, header), *rows = records(lines, quoting)
    named = [(line, fields) for line, fields in rows if fields]
    if len(named) < 2 or not header or any(len(fields) != len(header) + 1 for _, fields in named):
        return False
    names, *columns = zip(*(fields for _, fields in named), strict=True)
    quote = quoting.quote
    is_quoted = bool(quote) and all(line.startswith(quote) for line in (title, *(line for line, _ in named)))
    is_counted = list(names) == [str(number) for number in range(1, len(names) + 1)]
    if not (is_counted or (is_quoted and len(set(names)) == len(names))) or not any(columns[-1]):
        return False
    return not any(_are_halves(*pair) for pair in itertools.pairwise(columns))


def _are_halves(left: Sequence[str], right: Sequence[str]) -> bool:
    """Whether two columns are rather one, of texts with a comma or of numbers with a decimal comma."""
    if all(text[:1] == " " for text in right):
        return True
    are_numbers = all(re.fullmatch(r"-?\d+", whole) and re.fullmatch(r"\d\d?", cents)
                      for whole, cents in zip(left, right, strict=True))  # fmt: skip
    return are_numbers and any(len(text) == 2 for text in right)


def is_literal(lines: Sequence[str], quoting: Quoting) -> bool:
    """Whether quotes mean nothing in a file, by its first lines.

    Then each line with a quote has as many fields as the header if its quotes are taken for text. More of these lines
    are no records of CSV than hold a field in quotes.
    """
    delimiter, quote = quoting.delimiter, quoting.quote
    if delimiter not in LITERAL or quote in lines[0]:
        return False
    quoted = [line for line in lines[1:] if quote in line]
    if 20 * sum(line.count(delimiter) != lines[0].count(delimiter) for line in quoted) > len(quoted):
        return False
    edge = re.escape(delimiter)
    enclosed = re.compile(f"(?:^|{edge}){quote}[^{quote}]*{quote}(?={edge}|\\s*$)")
    broken = in_quotes = 0
    for line in quoted:
        try:
            parsed(line, quoting)
        except NotCsv:
            broken += 1
        else:
            in_quotes += bool(enclosed.search(line))
    return broken > in_quotes


def _reader(lines: Iterable[str], quoting: Quoting, strict: bool = True) -> Any:
    quote = quoting.quote
    if not quote:
        return csv.reader(lines, strict=strict, delimiter=quoting.delimiter, quotechar=None, quoting=csv.QUOTE_NONE)
    return csv.reader(
        (_unescaped(line, quote) for line in lines) if quoting.escape else lines,
        strict=strict,
        delimiter=quoting.delimiter,
        quotechar=quote,
        skipinitialspace=quoting.blank_after,
    )


def _next(reader: Any) -> list[str]:
    try:
        return next(reader, [])
    except csv.Error as error:
        is_open = "end of data" in str(error)
        raise NotCsv("a quote is not closed" if is_open else str(error), is_open) from error


def _unescaped(text: str, quote: str) -> str:
    """A text with backslashes before quotes, as CSV writes it."""
    if f"\\{quote}" not in text:
        return text
    return re.sub(rf"\\([\\{quote}])", lambda match: 2 * quote if match.group(1) == quote else "\\", text)
