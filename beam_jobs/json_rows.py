"""The rows of a file of JSON: an object a line, an array of objects, or objects of several lines each."""

import collections
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from beam_jobs.dialects import Dialect, naming, opened
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, NoRow, RawFile, RawRow, inexact, is_unicode, text_of, undecoded
from beam_jobs.texts import HEAD_BYTES, MAX_LINE, lines_of
from courier_tf import schema
from courier_tf.escaping import printable

HEAD_OBJECTS = 100  # Those whose fields tell the columns of a log.


def columns_of(file: str, dialect: Dialect, every_row: bool) -> dict[str, None]:
    """The fields of the first objects, or of all, in the order of their first occurrence.

    Raises:
        RawDataError: there are too many, or no object at the start.
    """
    columns: dict[str, None] = {}
    first_reason = None
    with naming(file), opened(file, dialect.compression) as stream:
        objects = _objects(file, dialect, stream)
        for number, fields in enumerate(objects if every_row else itertools.islice(objects, HEAD_OBJECTS), start=1):
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


def rows_of(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    """The rows of an open file, in order."""
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
                        raise inexact(path, source, value)
                    value = text_of(value)
                texts[name] = value
        if constants:
            texts = constants | texts
        reject = undecoded(file, row, texts)
        yield reject or RawRow(path, row, texts)


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
