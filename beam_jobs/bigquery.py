"""Tables of BigQuery as raw tables: described by Google's client, read by Beam through the Storage Read API.

Google's packages come with the extra `beam`, and are imported where the first table is asked for.
"""

import importlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import apache_beam as beam
import pyarrow as pa

from beam_jobs.nested_columns import dotted, leaves, value_at
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import IDS, several, text_of
from courier_tf.escaping import printable

FORMAT = "bigquery"
#: Of BigQuery's types, both the old and the new name. All others become text: lists and records that of JSON.
_TYPES = {
    "STRING": pa.string(),
    "INTEGER": pa.int64(),
    "INT64": pa.int64(),
    "FLOAT": pa.float64(),
    "FLOAT64": pa.float64(),
    "BOOLEAN": pa.bool_(),
    "BOOL": pa.bool_(),
    "BYTES": pa.binary(),
    "DATE": pa.date32(),
    "DATETIME": pa.timestamp("us"),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
    "NUMERIC": pa.decimal128(38, 9),
    "BIGNUMERIC": pa.decimal256(76, 38),
}
_LONGEST = 300  # Characters of Google's own words.


def table_of(address: str) -> str:
    """`project.dataset.table` of an address `bigquery://project.dataset.table`."""
    return address.partition("://")[2]


def types_of(address: str) -> dict[str, pa.DataType]:
    """The columns of a table with their types.

    Raises:
        RawDataError: there is no such table, it may not be read, or Google's packages are missing.
    """
    fields = _asked(address, lambda client: client.get_table(table_of(address)).schema)
    return {
        dotted(path): _TYPES.get(field.field_type, pa.string()) if field.mode != "REPEATED" else pa.string()
        for path, field in leaves({field.name: field for field in fields}, _fields_of)
    }


def _fields_of(field: Any) -> dict[str, Any]:
    """The fields of a record that is not repeated."""
    is_record = field.field_type in ("RECORD", "STRUCT") and field.mode != "REPEATED"
    return {inner.name: inner for inner in field.fields} if is_record else {}


def state_of(address: str) -> tuple[str, int, float]:
    """(address, rows, time of the last change in seconds) of a table, which tell whether it is still the same.

    Raises:
        RawDataError: as `types_of`.
    """
    table = _asked(address, lambda client: client.get_table(table_of(address)))
    return address, table.num_rows, table.modified.timestamp()


def first_rows(address: str, columns: Sequence[tuple[str, str]], size: int) -> Iterator[list[dict[str, Any]]]:
    """The rows of a table by Google's client, at most `size` at once. A job reads them by Beam.

    Args:
        address: of the table.
        columns: (our name, name in the table) of those that are read.
        size: most rows of a page.

    Raises:
        RawDataError: as `types_of`.
    """

    def pages(client: Any) -> Any:
        table = client.get_table(table_of(address))
        sources = {_path(source)[0] for _, source in columns}
        chosen = [field for field in table.schema if field.name in sources]
        return client.list_rows(table, selected_fields=chosen, page_size=size).pages

    for page in _asked(address, pages):
        yield [dict(row.items()) for row in page]


def read_rows(address: str, columns: Sequence[tuple[str, str]]) -> beam.PTransform:
    """A step that reads all rows of a table as dictionaries, in any order."""
    _require_packages(address)
    return beam.io.ReadFromBigQuery(
        method=beam.io.ReadFromBigQuery.Method.DIRECT_READ,
        table=table_of(address).replace(".", ":", 1),
        selected_fields=list(dict.fromkeys(source for _, source in columns)),
        use_native_datetime=True,
    )


def batch_of(
    address: str, types: Mapping[str, pa.DataType], columns: Sequence[tuple[str, str]], rows: Iterable[dict[str, Any]]
) -> pa.RecordBatch:
    """Rows as columns of Arrow.

    Args:
        address: of the table.
        types: as `types_of` gives them.
        columns: (our name, name in the table) of those that are read.
        rows: dictionaries by the table's names.

    Raises:
        RawDataError: an id is a list or a record.
    """
    listed = list(rows)
    sources = list(dict.fromkeys(source for _, source in columns))
    ids = {source for name, source in columns if name in IDS}
    arrays = []
    for source in sources:
        values = [value_at(row, _path(source)) for row in listed]
        nested = next((value for value in values if isinstance(value, list | dict)), None)
        if source in ids and nested is not None:
            raise several(address, source, nested)
        if pa.types.is_string(types[source]):
            values = [value if value is None else text_of(value) for value in values]
        arrays.append(pa.array(values, types[source]))
    return pa.RecordBatch.from_arrays(arrays, sources)


def _path(source: str) -> tuple[str, ...]:
    return tuple(source.split("."))  # Names of BigQuery hold no dots.


def _require_packages(address: str) -> Any:
    try:
        bigquery = importlib.import_module("google.cloud.bigquery")
    except ImportError as error:
        raise RawDataError(
            f"{address}: BigQuery needs Google's packages, the extra `beam`: pip install 'courier-tf[beam]'"
        ) from error
    return bigquery


def _asked(address: str, question: Any) -> Any:
    """What Google's client answers; its errors become one line."""
    bigquery = _require_packages(address)
    try:
        return question(bigquery.Client(project=table_of(address).partition(".")[0]))
    except Exception as error:  # Of several packages: of the API, of credentials, of the network.
        words = re.sub(r"\s+", " ", str(error))
        raise RawDataError(f"{address}: BigQuery says: {printable(words, _LONGEST)}") from error
