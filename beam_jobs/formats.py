"""The rows of a raw file as dicts of text: CSV, JSON and Parquet, read as a stream.

A row of a CSV file is a line, or several where a quoted field holds line breaks. A quote that is not closed costs its
own line only: lines are joined only to a record with as many fields as the header. Each line is a part of a row or
a reject, and none is lost without being counted.
"""

import collections
import contextlib
import csv
import decimal
import functools
import itertools
import json
import math
import operator
import re
import struct
from collections.abc import Callable, Iterable, Iterator
from typing import IO, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs.dialects import HEAD_BYTES, MAX_HEADER, MAX_LINE, Dialect, lines_of, naming, opened, seekable
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, TIMES, NoRow, RawFile, RawRow
from courier_tf import schema
from courier_tf.escaping import printable

__all__ = ["NoRow", "RawDataError", "RawRow", "columns_of", "is_unicode", "rows_of", "types_of"]

MAX_JOINED_LINES = 1_000  # Lines of a record with quoted line breaks, and its characters.
MAX_JOINED = 1 << 18
LOOK_AHEAD = 1 << 26  # Characters that are read again, of all records of a file with open quotes.
MAX_FOOTER = 1 << 26  # Bytes of the description at the end of a Parquet file.
BATCH = 8_192  # Rows of a Parquet file that are read at once.
_EXACT = {pa.float64(): 2**53, pa.float32(): 2**24, pa.float16(): 2**11}
_STRICT = (*IDS, *TIMES, "clicked", schema.EVENT_TYPE, "image")  # Fields in which a quote makes no sense.


class _NotCsv(ValueError):
    """A line is no record. `is_open` where a quote is not closed, so that further lines may close it."""

    def __init__(self, reason: str, is_open: bool) -> None:
        super().__init__(reason)
        self.is_open = is_open


def columns_of(file: str, dialect: Dialect, every_row: bool = False) -> list[str]:
    """The columns of a raw file, in the order of their first occurrence. A file without any byte has none.

    Args:
        file: path of the file.
        dialect: how it is written.
        every_row: read a file of JSON to its end, for columns that its first rows leave out.

    Raises:
        RawDataError: the file is unreadable, has too many columns, or two of one name.
    """
    if dialect.format == "empty":
        return []
    if dialect.format == "parquet":
        columns = list(types_of(file, dialect))
    elif dialect.format == "csv":
        columns = _csv_header(file, dialect)
    else:
        columns = list(_json_columns(file, dialect, every_row))
    _require_columns(file, columns)
    return columns


def _require_columns(file: str, columns: list[str]) -> None:
    if len(columns) > schema.MAX_COLUMNS:
        raise RawDataError(f"{file} has {len(columns):,} columns, more than {schema.MAX_COLUMNS:,}")
    if not all(map(is_unicode, columns)):
        raise RawDataError(f"{file}, its column names are not UTF-8")
    twice = [name for name, number in collections.Counter(columns).items() if number > 1 and name.strip()]
    if twice:
        raise RawDataError(f"{file} has the column '{printable(twice[0])}' twice: keep one of them")


def types_of(file: str, dialect: Dialect) -> dict[str, pa.DataType]:
    """The columns of a Parquet file with their types; of another file nothing."""
    if dialect.format != "parquet":
        return {}
    with naming(file, "Parquet file"), seekable(file, dialect.compression) as stream:
        _require_footer(file, stream)
        described = pq.read_schema(stream)
        _require_columns(file, described.names)
        return dict(zip(described.names, described.types, strict=True))


def _require_footer(file: str, stream: IO[bytes]) -> None:
    """Refuses a description so large that reading it takes minutes, as that of a million columns."""
    stream.seek(-8, 2)
    length, magic = struct.unpack("<I4s", stream.read(8))
    if magic == b"PAR1" and length > MAX_FOOTER:
        raise RawDataError(
            f"{file}, its description has {length:,} bytes, more than {MAX_FOOTER:,}: write it with fewer columns or "
            "larger row groups"
        )
    stream.seek(0)


def _csv_header(file: str, dialect: Dialect) -> list[str]:
    with naming(file), opened(file, dialect.compression) as stream:
        lines = itertools.islice(lines_of(stream, dialect.encoding), dialect.skipped, None)
        csv.field_size_limit(MAX_LINE)
        first = next(lines, "").lstrip("\ufeff")
        if len(first) > MAX_HEADER:
            raise RawDataError(f"{file}, its first line has more than {MAX_HEADER:,} characters: it is no header")
        try:
            return _parsed(first, dialect)
        except _NotCsv as error:
            raise RawDataError(f"{file}, its first line is not CSV: {error}") from error


def _json_columns(file: str, dialect: Dialect, every_row: bool) -> dict[str, None]:
    columns: dict[str, None] = {}
    first_reason = None
    with naming(file), opened(file, dialect.compression) as stream:
        objects = _objects(file, dialect, stream)
        for number, fields in enumerate(objects if every_row else itertools.islice(objects, 100), start=1):
            if isinstance(fields, str):
                if number == 1:
                    first_reason = fields
            elif len(fields) <= schema.MAX_COLUMNS:
                columns.update(dict.fromkeys(filter(is_unicode, fields)))
            else:
                raise RawDataError(f"{file}, row {number} has {len(fields):,} fields, more than {schema.MAX_COLUMNS:,}")
            if len(columns) > schema.MAX_COLUMNS:
                raise RawDataError(f"{file} has more than {schema.MAX_COLUMNS:,} columns")
    if not columns and first_reason is not None:
        raise RawDataError(f"{file}, its first line {first_reason}")
    return columns


def rows_of(file: RawFile) -> Iterator[RawRow | NoRow]:
    """The rows of a raw file, in order. What is no row comes with its reason.

    Raises:
        RawDataError: the file breaks off, or does not tell ids apart.
    """
    dialect = file.dialect
    if dialect.format == "parquet":
        with naming(file.path, "Parquet file"), seekable(file.path, dialect.compression) as stream:
            yield from _parquet_rows(file, stream)
    elif dialect.format != "empty":
        with naming(file.path), opened(file.path, dialect.compression) as stream:
            yield from _csv_rows(file, stream) if dialect.format == "csv" else _json_rows(file, stream)


def is_unicode(text: str) -> bool:
    """Whether a text holds no surrogates, which stand for bytes that could not be decoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _undecoded(file: RawFile, row: int, fields: dict[str, str]) -> NoRow | None:
    for name, text in fields.items():
        if not text.isascii() and not is_unicode(text):
            encoding = file.dialect.encoding
            return NoRow(row, f"is not {'UTF-8' if encoding == 'utf-8' else encoding}", name)
    return None


# --- CSV ------------------------------------------------------------------------------------------------------------


def _parsed(text: str, dialect: Dialect) -> list[str]:
    """The fields of one record.

    Raises:
        _NotCsv: it is none.
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
        raise _NotCsv("a quote is not closed" if is_open else str(error), is_open) from error


def _all_quoted(line: str, quote: str, between: str) -> list[str]:
    """The fields of a line of which all are quoted, if it holds no other quotes; otherwise too few."""
    text = line.rstrip("\r\n")
    return text[1:-1].split(between) if text[:1] == text[-1:] == quote else []


def _unescaped(character: str, quote: str) -> str:
    return 2 * quote if character == quote else character


def _picker(positions: list[int]) -> Callable[[list[str]], Iterable[str]]:
    if len(positions) == 1:
        return lambda values: (values[positions[0]],)
    return operator.itemgetter(*positions)


def _csv_rows(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    dialect, header, path, constants = file.dialect, file.header, file.path, dict(file.constants)
    lines = itertools.islice(lines_of(stream, dialect.encoding), dialect.skipped + 1, None)
    width, titles = len(header), frozenset(header)
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
    row = 0
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
            except _NotCsv as error:
                yield NoRow(row, f"is not CSV: {error}")
                continue
            stray = _stray(values, line, strict, quote) if len(values) == width else None
            if stray:
                yield NoRow(row, "holds a quote that encloses nothing", stray)
                continue
        if len(values) != width or len(line) > MAX_LINE:
            yield NoRow(row, _no_record(line, len(values), width))
            continue
        if values[-1] in titles and titles.issuperset(value.strip("\ufeff") for value in values):
            _require_order(file, row, values)
            yield NoRow(row, "repeats the header")
            continue
        fields = dict(zip(names, values if pick is None else pick(values), strict=True))
        if constants:
            fields |= constants
        if not line.isascii() and (reject := _undecoded(file, row, fields)):
            yield reject
        else:
            yield RawRow(path, row, fields)


def _no_record(line: str, fields: int, width: int) -> str:
    if len(line) > MAX_LINE:
        return f"has more than {MAX_LINE:,} characters"
    return f"has {fields} fields, the header has {width}" if line.strip("\r\n") else "is an empty line"


def _require_order(file: RawFile, row: int, values: list[str]) -> None:
    if [value.strip("\ufeff") for value in values] != list(file.header):
        raise RawDataError(
            f"{file.path}, row {row} is a second header with its columns in another order: keep such rows in a file of "
            "their own"
        )


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
            _NotCsv: it is none; no further line has been used up.
        """
        try:
            return _parsed(line, self.dialect), line
        except _NotCsv as error:
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
                values = _parsed(text, self.dialect)
            except _NotCsv as error:
                if error.is_open:
                    continue
                break
            if len(values) == self.width:
                return values, text
            break
        queue.extendleft(reversed(taken))
        raise reason


# --- JSON -----------------------------------------------------------------------------------------------------------


def _objects(file: str, dialect: Dialect, stream: BinaryIO) -> Iterator[dict[str, Any] | str]:
    """The objects of a file of JSON; a text is the reason why a line is none."""
    if dialect.format == "json":
        yield from _joined_objects(file, dialect, stream)
        return
    scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # The typeshed leaves it out.
    for number, line in enumerate(lines_of(stream, dialect.encoding), start=1):
        if number == 1:
            line = line.lstrip("\ufeff") or "\n"
        if len(line) > MAX_LINE:
            yield f"has more than {MAX_LINE:,} characters"
            continue
        try:
            fields = _loaded(line, scan)
        except (
            ValueError,
            RecursionError,
        ) as error:  # Not JSON, a number of thousands of digits, or nested too deeply.
            yield f"is not JSON: {error}"
            continue
        if not isinstance(fields, dict):
            yield "is not a JSON object"
            continue
        if line.count('":') > len(fields) or '" :' in line:
            json.loads(line, object_pairs_hook=functools.partial(_once, file, number))
        yield fields


def _loaded(line: str, scan: Callable[[str, int], tuple[Any, int]]) -> Any:
    """As `json.loads`, in two thirds of its time for a line without blanks at its start."""
    if line[0] == "{":
        try:
            fields, end = scan(line, 0)
        except StopIteration:
            return json.loads(line)
        if not line[end:].strip():
            return fields
    return json.loads(line)


def _once(file: str, number: int, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        name = next(name for name, count in collections.Counter(name for name, _ in pairs).items() if count > 1)
        raise RawDataError(f"{file}, row {number} has the field '{printable(name)}' twice: keep one of them")
    return fields


def _joined_objects(file: str, dialect: Dialect, stream: BinaryIO) -> Iterator[dict[str, Any] | str]:
    """The objects of an array, or objects that follow one another, of several lines each."""
    texts = _texts(stream, dialect.encoding)
    number = 0
    decoder = json.JSONDecoder(object_pairs_hook=lambda pairs: _once(file, number + 1, pairs))
    buffer, position, ended, in_array = "", 0, False, False
    while True:
        while position < len(buffer) and buffer[position] in " \t\r\n,\ufeff[]":
            in_array = in_array or buffer[position] == "["
            position += 1
        try:
            fields, end = decoder.raw_decode(buffer, position)
            if end == len(buffer) and not ended and not isinstance(fields, dict):
                raise ValueError("it may go on")
        except RecursionError as error:
            raise RawDataError(f"{file}, object {number + 1} is nested too deeply") from error
        except RawDataError:
            raise
        except ValueError as error:
            if ended and position >= len(buffer):
                return
            if ended or len(buffer) - position > MAX_LINE:
                raise RawDataError(f"{file}, object {number + 1} is not JSON: {error}") from error
            piece = next(texts, None)
            ended = piece is None
            buffer, position = buffer[position:] + (piece or ""), 0
            continue
        number, position = number + 1, end
        yield fields if isinstance(fields, dict) else "is not a JSON object"


def _texts(stream: BinaryIO, encoding: str) -> Iterator[str]:
    pieces: list[str] = []
    size = 0
    for line in lines_of(stream, encoding):
        pieces.append(line)
        size += len(line)
        if size >= HEAD_BYTES:
            yield "".join(pieces)
            pieces, size = [], 0
    yield "".join(pieces)


def _json_rows(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    path, columns, constants = file.path, file.columns, dict(file.constants)
    for row, fields in enumerate(_objects(path, file.dialect, stream), start=1):
        if isinstance(fields, str):
            yield NoRow(row, fields)
            continue
        texts = {}
        for name, source in columns:
            if source in fields:
                value = fields[source]
                if type(value) is not str:
                    if type(value) is float and name in IDS and abs(value) >= 2**53:
                        raise _inexact(path, source, value)
                    value = _text(value)
                texts[name] = value
        if constants:
            texts = constants | texts
        reject = _undecoded(file, row, texts)
        yield reject or RawRow(path, row, texts)


def _inexact(path: str, column: str, value: object) -> RawDataError:
    return RawDataError(
        f"{path}, column '{printable(column)}' holds {value} as a floating-point number, which does not tell ids of "
        "this size apart: export ids as whole numbers or as text"
    )


# --- Parquet --------------------------------------------------------------------------------------------------------


def _parquet_rows(file: RawFile, stream: IO[bytes]) -> Iterator[RawRow | NoRow]:
    path, constants = file.path, dict(file.constants)
    names = [name for name, _ in file.columns]
    sources = list(dict.fromkeys(source for _, source in file.columns))
    row = 0
    for batch in pq.ParquetFile(stream).iter_batches(BATCH, columns=sources):
        photos: list[bytes | None] = []
        columns, doubtful = [], False
        for name, source in file.columns:
            column = batch.column(batch.schema.get_field_index(source))
            if name == "image" and file.photo:
                photos, texts, whole = _photos(column)
            else:
                texts, whole = _parquet_texts(column, name, source, file)
            doubtful = doubtful or not whole
            columns.append(texts)
        for number, values in enumerate(zip(*columns, strict=True)):
            row += 1
            fields = dict(zip(names, values, strict=True))
            if constants:
                fields |= constants
            if doubtful and (reject := _undecoded(file, row, fields)):
                yield reject
            elif photos:
                yield RawRow(path, row, fields, photos[number])
            else:
                yield RawRow(path, row, fields)


def _photos(column: pa.Array) -> tuple[list[bytes | None], list[str], bool]:
    """(photos, their names, whether all names are Unicode) of a column of bytes, or of a struct of bytes and path."""
    if pa.types.is_struct(column.type):
        photos, _, _ = _photos(pc.struct_field(column, "bytes"))
        if column.type.get_field_index("path") < 0:
            return photos, [""] * len(column), True
        paths, whole = _plain_texts(pc.struct_field(column, "path"))
        return photos, paths, whole
    values = column.to_pylist()
    return [bytes(value) if value else None for value in values], [""] * len(column), True


def holds_photos(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold photos: bytes, or a struct with them. Bytes may be texts, too."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and holds_photos(kind.field("bytes").type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_uint8(kind.value_type))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def is_time(kind: pa.DataType) -> bool:
    """Whether a column of this type holds moments or dates."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def _parquet_texts(column: pa.Array, name: str, source: str, file: RawFile) -> tuple[list[str], bool]:
    """(texts of a column, whether all of them are Unicode)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if name in file.typed_times:
        column = _seconds(column, file.zone)
    elif name in IDS and pa.types.is_floating(kind):
        _require_exact(column, source, file.path)
    elif name in IDS and pa.types.is_decimal(kind):
        return [_whole(value) for value in column.to_pylist()], True
    return _plain_texts(column)


def _seconds(column: pa.Array, zone: str) -> pa.Array:
    """A column of moments or dates as whole seconds, UTC."""
    if pa.types.is_date(column.type):
        column = column.cast(pa.timestamp("s"))
    if column.type.tz is None:
        column = pc.assume_timezone(column, zone, ambiguous="earliest", nonexistent="latest")
    return pc.floor_temporal(column, unit="second").cast(pa.timestamp("s", column.type.tz), safe=False).cast(pa.int64())


def _require_exact(column: pa.Array, source: str, path: str) -> None:
    numbers = column.drop_null().cast(pa.float64())
    beyond = numbers.filter(pc.greater_equal(pc.abs(numbers), float(_EXACT[column.type])))
    if len(beyond) and not math.isnan(beyond[0].as_py()):
        raise _inexact(path, source, beyond[0].as_py())


def _whole(value: decimal.Decimal | None) -> str:
    return "" if value is None else str(int(value)) if value == value.to_integral_value() else str(value)


def _plain_texts(column: pa.Array) -> tuple[list[str], bool]:
    kind = column.type
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        # Arrow does not check texts that are read as bytes. A text that is not UTF-8 must cost its row only.
        with contextlib.suppress(pa.ArrowInvalid):
            column.validate(full=True)
            return _listed(column), True
        column = column.cast(pa.large_binary())
    elif pa.types.is_boolean(kind):
        return _listed(column.cast(pa.int8()).cast(pa.string())), True
    elif pa.types.is_integer(kind):
        return _listed(column.cast(pa.string())), True
    return [_text(value) for value in column.to_pylist()], False


def _listed(column: pa.Array) -> list[str]:
    """The texts of a column, as NumPy lists them: several times as fast as `to_pylist`."""
    return pc.fill_null(column, "").to_numpy(zero_copy_only=False).tolist()


def _text(value: object) -> str:
    """A typed value as a CSV file would hold it: whole numbers without a point, a missing value as an empty text.

    >>> [_text(value) for value in (None, 3.0, 2.5, True, b"a")]
    ['', '3', '2.5', '1', 'a']
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
    return str(value)


FLOAT32, FLOAT16 = pa.float32(), pa.float16()


def are_photos(file: RawFile, source: str) -> bool:
    """Whether a column of bytes of a Parquet file holds photos, and not texts that were written as bytes."""
    with naming(file.path, "Parquet file"), seekable(file.path, file.dialect.compression) as stream:
        for batch in pq.ParquetFile(stream).iter_batches(100, columns=[source]):
            column = batch.column(batch.schema.get_field_index(source))
            if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
                return True
            values = [value for value in column.to_pylist() if value]
            texts = [value.decode("utf-8", errors="surrogateescape") for value in values]
            return not all(is_unicode(text) and text.isprintable() for text in texts)
    return False
