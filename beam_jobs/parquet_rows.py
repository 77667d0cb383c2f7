"""The rows of files with typed columns, such as Parquet: typed values as the texts that a CSV file would hold."""

import contextlib
import dataclasses
import decimal
import math
import struct
from collections.abc import Iterable, Iterator
from typing import IO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from beam_jobs import avro_rows, bigquery
from beam_jobs.dialects import Dialect
from beam_jobs.nested_columns import array_at, dotted, leaves
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import (
    IDS,
    NoRow,
    RawFile,
    RawRow,
    inexact,
    is_unicode,
    require_columns,
    several,
    text_of,
    undecoded,
)
from beam_jobs.raw_streams import naming, seekable

#: Formats with typed columns, and what a message calls their files.
TYPED = {"parquet": "Parquet file", "avro": "Avro file"}
LEAST_BYTES = 12  # PAR1, the length of the description, PAR1.
MAX_FOOTER = 1 << 26  # Bytes of the description at the end of a Parquet file.
BATCH = 8_192  # Rows that are read at once.
FIRST_ROWS = 1_000  # Rows that Google's client is asked for at once.
BATCH_OF_PHOTOS = 64  # The same, where rows hold photos.
_EXACT = {pa.float64(): 2**53, pa.float32(): 2**24, pa.float16(): 2**11}


def types_of(file: str, dialect: Dialect) -> dict[str, pa.DataType]:
    """The columns of a Parquet or Avro file, or of a table of BigQuery, with their types; of another file nothing."""
    if dialect.format == bigquery.FORMAT:
        return bigquery.types_of(file)
    if dialect.format not in TYPED:
        return {}
    with naming(file, TYPED[dialect.format]), seekable(file, dialect.compression) as stream:
        if dialect.format == "avro":
            return avro_rows.types_of(file, stream)
        _require_footer(file, stream)
        described = pq.read_schema(stream)
        require_columns(file, described.names)
        columns = list(_leaves(described))
        require_columns(file, [dotted(path) for path, _ in columns])
        return {dotted(path): kind for path, kind in columns}


def _leaves(table: pa.Schema) -> Iterator[tuple[tuple[str, ...], pa.DataType]]:
    return leaves(dict(zip(table.names, table.types, strict=True)), _fields_of)


def _fields_of(kind: pa.DataType) -> dict[str, pa.DataType]:
    """The fields of a struct, unless it is a photo."""
    return {} if not pa.types.is_struct(kind) or holds_photos(kind) else {field.name: field.type for field in kind}


def described(file: str, stream: IO[bytes]) -> pq.FileMetaData:
    """The row groups of a Parquet file, and how many rows and bytes each of them has."""
    _require_footer(file, stream)
    return pq.read_metadata(stream)


def _require_footer(file: str, stream: IO[bytes]) -> None:
    """Refuses a file that is too short, or a description that takes minutes, as that of a million columns."""
    if stream.seek(0, 2) < LEAST_BYTES:
        raise RawDataError(
            f"{file} is cut off: it has {stream.tell()} bytes, and a Parquet file at least {LEAST_BYTES}"
        )
    stream.seek(-8, 2)
    length, magic = struct.unpack("<I4s", stream.read(8))
    if magic == b"PAR1" and length > MAX_FOOTER:
        raise RawDataError(
            f"{file}, its description has {length:,} bytes, more than {MAX_FOOTER:,}: write it with fewer columns or "
            "larger row groups"
        )
    stream.seek(0)


def rows_of(file: RawFile, stream: IO[bytes]) -> Iterator[RawRow | NoRow]:
    """The rows of an open file, or of a part of it, in order."""
    return rows_of_batches(file, _batches(file, stream))


def rows_of_batches(file: RawFile, batches: Iterable[pa.RecordBatch]) -> Iterator[RawRow | NoRow]:
    """The rows of batches with the columns of a file, in order."""
    path, constants = file.path, dict(file.constants)
    names = [name for name, _ in file.columns]
    row = file.rows_before
    for batch in batches:
        photos: list[bytes | None] = []
        columns, doubtful = [], False
        paths = _paths(batch)
        for name, source in file.columns:
            column = array_at(batch, paths[source])
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
            if doubtful and (reject := undecoded(file, row, fields)):
                yield reject
            elif photos:
                yield RawRow(path, row, fields, photos[number])
            else:
                yield RawRow(path, row, fields)


def _paths(batch: pa.RecordBatch) -> dict[str, tuple[str, ...]]:
    return {dotted(path): path for path, _ in _leaves(batch.schema)}


def _batches(file: RawFile, stream: IO[bytes]) -> Iterator[pa.RecordBatch]:
    sources = list(dict.fromkeys(source for _, source in file.columns))
    if file.dialect.format == "avro":
        types = avro_rows.types_of(file.path, stream)
        stream.seek(0)
        size = BATCH_OF_PHOTOS if any(holds_photos(types[source]) for source in sources) else BATCH
        yield from avro_rows.batches(file.path, stream, file.columns, size)
        return
    table = pq.ParquetFile(stream, page_checksum_verification=True)  # Where the file has any.
    types = {dotted(path): kind for path, kind in _leaves(table.schema_arrow)}
    large = any(holds_photos(types[source]) for source in sources)
    groups = range(file.part.begin, file.part.end) if file.part else range(table.num_row_groups)
    yield from table.iter_batches(BATCH_OF_PHOTOS if large else BATCH, row_groups=list(groups), columns=sources)


def holds_photos(kind: pa.DataType) -> bool:
    """Whether a column of this type may hold photos: bytes, or a struct with them. Bytes may be texts, too."""
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and holds_photos(kind.field("bytes").type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return bool(pa.types.is_uint8(kind.value_type))
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind))


def are_photos(file: RawFile, source: str) -> bool:
    """Whether a column of bytes holds photos, and not texts that were written as bytes."""
    alone = dataclasses.replace(file, columns=(("image", source),))
    if file.dialect.format == bigquery.FORMAT:
        return _holds_photos(next(batches_of_table(alone), None), source)
    kind = TYPED[file.dialect.format]
    with naming(file.path, kind), seekable(file.path, file.dialect.compression) as stream:
        return _holds_photos(next(_batches(alone, stream), None), source)


def _holds_photos(batch: pa.RecordBatch | None, source: str) -> bool:
    if batch is None:
        return False
    column = array_at(batch, _paths(batch)[source])
    if not pa.types.is_binary(column.type) and not pa.types.is_large_binary(column.type):
        return True
    values = [value for value in column.to_pylist() if value]
    texts = [value.decode("utf-8", errors="surrogateescape") for value in values]
    return not all(is_unicode(text) and text.isprintable() for text in texts)


def batches_of_table(file: RawFile) -> Iterator[pa.RecordBatch]:
    """The rows of a table of BigQuery by Google's client, for a look at it."""
    types = bigquery.types_of(file.path)
    size = BATCH_OF_PHOTOS if any(holds_photos(types[source]) for _, source in file.columns) else FIRST_ROWS
    for rows in bigquery.first_rows(file.path, file.columns, size):
        yield bigquery.batch_of(file.path, types, file.columns, rows)


def is_time(kind: pa.DataType) -> bool:
    """Whether a column of this type holds moments or dates."""
    return bool(pa.types.is_timestamp(kind) or pa.types.is_date(kind))


def is_short(kind: pa.DataType) -> bool:
    """Whether a column of this type holds floating-point numbers that are too short for times."""
    return bool(pa.types.is_floating(kind) and kind != pa.float64())


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


def _parquet_texts(column: pa.Array, name: str, source: str, file: RawFile) -> tuple[list[str], bool]:
    """(texts of a column, whether all of them are Unicode)."""
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    kind = column.type
    if name in file.typed_times:
        column = _seconds(column, file.zone)
    elif name in IDS and pa.types.is_floating(kind):
        _require_exact(column, source, file.path)
    elif name in IDS and pa.types.is_nested(kind):
        if len(values := column.drop_null()):
            raise several(file.path, source, values[0].as_py())
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
        raise inexact(path, source, beyond[0].as_py())


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
    return [text_of(value) for value in column.to_pylist()], False


def _listed(column: pa.Array) -> list[str]:
    """The texts of a column, as NumPy lists them: several times as fast as `to_pylist`."""
    return pc.fill_null(column, "").to_numpy(zero_copy_only=False).tolist()
