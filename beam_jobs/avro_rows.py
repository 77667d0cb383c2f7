"""The columns of an Avro file as those of Arrow, block by block. From there on they are read as those of Parquet."""

import decimal
import functools
from collections.abc import Iterator, Sequence
from typing import IO, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
from fastavro import block_reader, parse_schema, schemaless_reader

from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, several, text_of

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
        RawDataError: it does not hold records.
    """
    return {name: column.type for name, column in _columns(file, block_reader(stream).writer_schema).items()}


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
    described = _columns(file, blocks.writer_schema)
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
                values = [record[source] for record in records]
                if source in ids and described[source].nested and any(value is not None for value in values):
                    raise several(file, source, next(value for value in values if value is not None))
                arrays.append(_array(values, described[source]))
            yield pa.RecordBatch.from_arrays(arrays, sources)


def _columns(file: str, schema: Any) -> dict[str, _Column]:
    if not isinstance(schema, dict) or schema.get("type") != "record":
        kind = schema.get("type") if isinstance(schema, dict) else "union" if isinstance(schema, list) else schema
        raise RawDataError(f"{file} holds values of the type {kind} and no records: write one record for each row")
    named: dict[str, Any] = {}
    _name_types(schema, named)
    return {field["name"]: _column(field["type"], named) for field in schema["fields"]}


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
