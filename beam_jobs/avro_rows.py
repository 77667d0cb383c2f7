"""The columns of an Avro file as those of Arrow, block by block. From there on they are read as those of Parquet."""

import decimal
import functools
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from fastavro import block_reader, parse_schema, schemaless_reader

from beam_jobs.nested_columns import dotted, leaves, value_at
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, require_columns, several, text_of

_PLAIN = {
    "boolean": pa.bool_(),
    "int": pa.int32(),
    "long": pa.int64(),
    "float": pa.float32(),
    "double": pa.float64(),
    "bytes": pa.binary(),
    "fixed": pa.binary(),
    "string": pa.string(),
    "enum": pa.string(),
}
#: Numbers that mean moments or days.
_LOGICAL = {"date": pa.date32()}
for _name, _unit in (("millis", "ms"), ("micros", "us"), ("nanos", "ns")):
    _LOGICAL |= {f"timestamp-{_name}": pa.timestamp(_unit, "UTC"), f"local-timestamp-{_name}": pa.timestamp(_unit)}
_NUMBERS = ("int", "long", "float", "double")  # From the narrowest to the widest.


class _Column(NamedTuple):
    """How a column becomes one of Arrow.

    Attributes:
        type: its type there. What has none becomes text.
        nested: its values are lists, maps or records.
        scale: digits after the point of a decimal, whose values are bytes; None for all others.
    """

    type: pa.DataType
    nested: bool = False
    scale: int | None = None


def types_of(file: str, stream: IO[bytes]) -> dict[str, pa.DataType]:
    """The columns of an open file with their types.

    Raises:
        RawDataError: it does not hold records, or two columns have one name.
    """
    columns = _columns(file, block_reader(stream).writer_schema)
    require_columns(file, [dotted(path) for path, _ in columns])
    return {dotted(path): column.type for path, column in columns}


def batches(file: str, stream: IO[bytes], columns: Sequence[tuple[str, str]], size: int) -> Iterator[pa.RecordBatch]:
    """The rows of an open file, at most `size` at once.

    Args:
        file: its path.
        stream: the file.
        columns: (our name, name in the file) of those that are read.
        size: most rows of a batch.

    Raises:
        RawDataError: an id is a list, a map or a record.
    """
    blocks = block_reader(stream)
    described = {dotted(path): (path, column) for path, column in _columns(file, blocks.writer_schema)}
    # Values without their logical types: a moment that Python cannot hold must cost its row and not the file.
    raw = parse_schema(_without_logical_types(blocks.writer_schema))
    sources = list(dict.fromkeys(source for _, source in columns))
    ids = {source for name, source in columns if name in IDS}
    for block in blocks:
        content = block.bytes_  # type: ignore[attr-defined]  # The stub leaves it out.
        read = functools.partial(schemaless_reader, content, raw, None, handle_unicode_errors="surrogateescape")
        left = block.num_records
        while left > 0:
            records: list[Any] = [read() for _ in range(min(left, size))]
            left -= len(records)
            arrays = []
            for source in sources:
                path, column = described[source]
                values = [value_at(record, path) for record in records]
                if source in ids and column.nested and any(value is not None for value in values):
                    raise several(file, source, next(value for value in values if value is not None))
                arrays.append(_array(values, column))
            yield pa.RecordBatch.from_arrays(arrays, sources)


def _columns(file: str, schema: Any) -> list[tuple[tuple[str, ...], _Column]]:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        kind = schema.get("type") if isinstance(schema, dict) else "union" if isinstance(schema, list) else schema
        raise RawDataError(f"{file} holds values of the type {kind} and no records: write one record for each row")
    named: dict[str, Any] = {}
    _name_types(schema, named)
    fields_of = functools.partial(_fields_of, named=named)
    return [(path, _column(kind, named)) for path, kind in leaves(fields_of(schema), fields_of)]


def _fields_of(schema: Any, named: dict[str, Any]) -> dict[str, Any]:
    """The fields of a record that may be null. One that holds itself, such as a tree, is a value."""
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        return _fields_of(branches[0], named) if len(branches) == 1 else {}
    if isinstance(schema, str):
        return _fields_of(named[schema], named) if schema in named else {}
    if schema["type"] != "record":
        return {} if isinstance(schema["type"], str) else _fields_of(schema["type"], named)
    fields = {field["name"]: field["type"] for field in schema["fields"]}
    return {} if _mentions(list(fields.values()), schema["name"].rpartition(".")[2]) else fields


def _mentions(schema: Any, name: str) -> bool:
    """Whether a schema names a type, by its name without a namespace."""
    if isinstance(schema, dict):
        return any(_mentions(schema.get(part), name) for part in ("type", "items", "values", "fields"))
    if isinstance(schema, list):
        return any(_mentions(inner, name) for inner in schema)
    return isinstance(schema, str) and schema.rpartition(".")[2] == name


def _name_types(schema: Any, named: dict[str, Any]) -> None:
    """Collects enumerations and fixed types, which later fields may mention by name alone."""
    if isinstance(schema, list):
        for branch in schema:
            _name_types(branch, named)
    elif isinstance(schema, dict):
        if "name" in schema and isinstance(schema.get("type"), str):
            named[schema["name"]] = named[schema["name"].rpartition(".")[2]] = schema
        for inner in (schema.get("type"), schema.get("items"), schema.get("values")):
            _name_types(inner, named)
        for field in schema.get("fields", ()):
            _name_types(field["type"], named)


def _column(schema: Any, named: dict[str, Any]) -> _Column:
    if isinstance(schema, list):
        branches = [branch for branch in schema if branch != "null"]
        if len(branches) == 1:
            return _column(branches[0], named)
        if branches and all(branch in _NUMBERS for branch in branches):
            return _Column(_PLAIN[max(branches, key=_NUMBERS.index)])
        return _Column(pa.string(), any(_column(branch, named).nested for branch in branches))
    if isinstance(schema, str):
        if schema in _PLAIN:
            return _Column(_PLAIN[schema])
        return _column(named[schema], named) if schema in named else _Column(pa.string())
    kind, logical = schema["type"], schema.get("logicalType")
    if not isinstance(kind, str):
        return _column(kind, named)
    if kind in ("int", "long") and logical in _LOGICAL:
        return _Column(_LOGICAL[logical])
    if kind in ("bytes", "fixed") and logical == "decimal":
        precision, scale = int(schema["precision"]), int(schema.get("scale", 0))
        return _Column((pa.decimal128 if precision <= 38 else pa.decimal256)(precision, scale), scale=scale)
    return _Column(_PLAIN.get(kind, pa.string()), nested=kind not in _PLAIN and kind != "null")


def _without_logical_types(schema: Any) -> Any:
    """A copy of a schema that names plain types alone."""
    if isinstance(schema, list):
        return [_without_logical_types(inner) for inner in schema]
    if isinstance(schema, dict):
        left_out = ("logicalType", "precision", "scale", "default")
        return {name: _without_logical_types(inner) for name, inner in schema.items() if name not in left_out}
    return schema


def _array(values: list[Any], column: _Column) -> pa.Array:
    kind = column.type
    if column.scale is not None:
        whole = [None if value is None else int.from_bytes(value, "big", signed=True) for value in values]
        numbers = [None if value is None else decimal.Decimal(value).scaleb(-column.scale) for value in whole]
        return pa.array(numbers, kind)
    if pa.types.is_temporal(kind):
        return pa.array(values, pa.int32() if pa.types.is_date32(kind) else pa.int64()).cast(kind)
    if not pa.types.is_string(kind):
        return pa.array(values, kind)
    texts = [value if value is None else text_of(value) for value in values]
    try:
        return pa.array(texts, kind)
    except UnicodeEncodeError:  # A text that is not UTF-8 must cost its row only.
        encoded = pa.array(
            [None if text is None else text.encode(errors="surrogateescape") for text in texts], pa.binary()
        )
        return pc.cast(encoded, options=pc.CastOptions(kind, allow_invalid_utf8=True))
