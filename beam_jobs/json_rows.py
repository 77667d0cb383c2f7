"""The rows of a file of JSON: an object a line, an array of objects, or objects of several lines each."""

import collections
import functools
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO

from beam_jobs.dialects import Dialect
from beam_jobs.log_kinds import require_no_late_label
from beam_jobs.nested_columns import MAX_DEPTH, MOST_INSIDE
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, NoRow, RawFile, RawRow, inexact, is_unicode, several, text_of, undecoded
from beam_jobs.raw_streams import naming, opened
from beam_jobs.texts import HEAD_BYTES, MAX_LINE, lines_of
from courier_tf import schema
from courier_tf.escaping import printable

HEAD_OBJECTS = 1_000  # Those whose fields tell the columns of a log, as many as are sampled.


def columns_of(file: str, dialect: Dialect, every_row: bool) -> dict[str, None]:
    """The fields of the first objects, or of all, in the order of their first occurrence.

    Raises:
        RawDataError: there are too many, or no object at the start.
    """
    columns: dict[str, None] = {}
    whole: set[str] = set()
    first_reason = None
    with naming(file), opened(file, dialect.compression) as stream:
        objects = _objects(file, dialect, stream)
        for number, fields in enumerate(objects if every_row else itertools.islice(objects, HEAD_OBJECTS), start=1):
            if isinstance(fields, str):
                if number == 1:
                    first_reason = fields
            elif len(fields) <= schema.MAX_COLUMNS:
                _add(columns, fields, whole)
            else:
                raise RawDataError(f"{file}, row {number} has {len(fields):,} fields, more than {schema.MAX_COLUMNS:,}")
            if len(columns) > schema.MAX_COLUMNS:
                raise RawDataError(f"{file} has more than {schema.MAX_COLUMNS:,} columns")
    if not columns and first_reason is not None:
        raise RawDataError(f"{file}, its first line {first_reason}")
    return columns


def list_of_rows(file: str, dialect: Dialect) -> str | None:
    """The field that holds the rows, where a file is one object around them, as the answer of a web service is.

    None where there is no such field, and where the file holds several objects.
    """
    if dialect.format not in ("json", "jsonl"):
        return None
    with naming(file), opened(file, dialect.compression) as stream:
        objects = list(itertools.islice(_objects(file, dialect, stream), 2))
    if len(objects) != 1 or isinstance(objects[0], str):
        return None
    lists = [name for name, value in objects[0].items() if isinstance(value, list) and value and type(value[0]) is dict]
    return lists[0] if len(lists) == 1 else None


def _add(columns: dict[str, None], fields: dict[str, Any], whole: set[str]) -> None:
    """Adds the names of fields. An object of free names, such as attributes of many kinds, is one column (`whole`)."""
    if dict not in map(type, fields.values()):
        columns.update(dict.fromkeys(filter(is_unicode, fields)))
        return
    for name, value in fields.items():
        names = [name] if name in whole else [path for path in _paths({name: value}) if path not in columns]
        columns.update(dict.fromkeys(filter(is_unicode, names)))
        if names and names[0] != name:
            inside = [column for column in columns if column.startswith(f"{name}.")]
            if len(inside) > MOST_INSIDE:
                whole.add(name)
                for column in inside:
                    del columns[column]
                columns[name] = None


def _paths(fields: dict[str, Any]) -> Iterator[str]:
    """The names of fields. Those of an object inside have its name before theirs, as properties.product_id.

    >>> list(_paths({"a": 1, "b": {"c": 2, "d": [3]}, "e": {"$oid": "f"}}))
    ['a', 'b.c', 'b.d', 'e']
    """
    for name, value in fields.items():
        if type(value) is dict and value and not (_is_typed(value) or all(map(str.isdecimal, value))):
            yield from (f"{name}.{inner}" for inner in (_paths(value) if name.count(".") < MAX_DEPTH else value))
        else:
            yield name


def _is_typed(value: dict[str, Any]) -> bool:
    """Whether an object is a value as MongoDB exports it, such as {"$oid": "5f"}."""
    return len(value) == 1 and next(iter(value)).startswith("$")


def _inside(fields: dict[str, Any], path: str) -> Any:
    """The value at a path of names; None where there is none. A name may hold a dot itself."""
    name, dot, rest = path.partition(".")
    while dot:
        if type(inner := fields.get(name)) is dict:
            return inner[rest] if rest in inner else _inside(inner, rest)
        more, dot, rest = rest.partition(".")
        name = f"{name}.{more}"
    return None


def _plain_value(path: str, name: str, source: str, value: Any) -> Any:
    """A value without the type that MongoDB writes around it. An id must be one value.

    Raises:
        RawDataError: an id is a list or an object, or a number that a double does not tell apart.
    """
    while type(value) is dict and _is_typed(value):
        value = next(iter(value.values()))
    if name in IDS:
        if type(value) is float and abs(value) >= 2**53:
            raise inexact(path, source, value)
        if isinstance(value, list | dict):
            raise several(path, source, value)
    return value


def rows_of(file: RawFile, stream: BinaryIO) -> Iterator[RawRow | NoRow]:
    """The rows of an open file, or of a part of it, in order."""
    path, columns, constants = file.path, file.columns, dict(file.constants)
    nested = frozenset(source for _, source in columns if "." in source)
    known = set(file.header)
    first = file.rows_before + 1
    for row, fields in enumerate(_objects(path, file.dialect, stream, first), start=first):
        if isinstance(fields, str):
            yield NoRow(row, fields)
            continue
        if file.no_label and not fields.keys() <= known:
            require_no_late_label(path, row, [name for name in fields if name not in known])
            known.update(fields)
        texts = {}
        for name, source in columns:
            if source in fields:
                value = fields[source]
                if type(value) is not str:
                    value = text_of(_plain_value(path, name, source, value))
                texts[name] = value
            elif source in nested and (value := _inside(fields, source)) is not None:
                texts[name] = text_of(_plain_value(path, name, source, value))
        if constants:
            texts = constants | texts
        reject = undecoded(file, row, texts)
        yield reject or RawRow(path, row, texts)


def _objects(file: str, dialect: Dialect, stream: BinaryIO, first: int = 1) -> Iterator[dict[str, Any] | str]:
    """The objects of a file of JSON from the one with number `first` on; a text is the reason why a line is none."""
    if dialect.format == "json":
        yield from _joined_objects(file, dialect, stream)
        return
    scan = json.JSONDecoder().scan_once  # type: ignore[attr-defined]  # The typeshed leaves it out.
    for number, line in enumerate(lines_of(stream, dialect.encoding), start=first):
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
            json.loads(_bare(line), object_pairs_hook=functools.partial(_once, file, number))
        yield fields


def _loaded(line: str, scan: Callable[[str, int], tuple[Any, int]]) -> Any:
    """As `json.loads`, in two thirds of its time for a line without blanks at its start.

    A comma at the end is passed over, as programs leave it that write the lines of an array alone. So are record
    separators (RFC 7464), which are blanks to `str.strip`.
    """
    if line[0] == "{":
        try:
            fields, end = scan(line, 0)
        except StopIteration:
            return json.loads(line)
        if not (rest := line[end:].strip()) or rest == ",":
            return fields
    return json.loads(_bare(line))


def _bare(line: str) -> str:
    return line.strip().removesuffix(",")


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
