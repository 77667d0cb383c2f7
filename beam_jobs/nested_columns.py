"""Columns inside columns: the fields of structs and records, named as those of objects in JSON are, `user.id`."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

MOST_INSIDE = 50  # Columns of the fields of one struct, record or object.
MAX_DEPTH = 5  # Of structs inside structs whose fields are columns.

Type = TypeVar("Type")


def leaves(
    types: Mapping[str, Type], fields_of: Callable[[Type], Mapping[str, Type]], depth: int = MAX_DEPTH
) -> Iterator[tuple[tuple[str, ...], Type]]:
    """The columns of a table, those inside structs in place of them.

    A struct of more than MOST_INSIDE columns, such as attributes of many kinds, is one column. So is one without any.

    Args:
        types: the types of columns by their names.
        fields_of: gives the types of a struct's fields by their names, and nothing for a type that is no struct.
        depth: structs inside each other that are looked into.

    Yields:
        (the names on the way to a column, its type), in order.
    """
    for name, kind in types.items():
        inside = leaves(fields_of(kind), fields_of, depth - 1) if depth else ()
        fields = list(itertools.islice(inside, MOST_INSIDE + 1))
        if 0 < len(fields) <= MOST_INSIDE:
            yield from (((name, *path), leaf) for path, leaf in fields)
        else:
            yield (name,), kind


def dotted(path: tuple[str, ...]) -> str:
    """The name of a column inside others."""
    return ".".join(path)


def array_at(batch: pa.RecordBatch, path: tuple[str, ...]) -> pa.Array:
    """A column of a batch. It is null where a struct around it is."""
    column = batch.column(batch.schema.get_field_index(path[0]))
    for name in path[1:]:
        column = pc.struct_field(column, name)
    return column


def value_at(row: Mapping[str, Any], path: tuple[str, ...]) -> Any:
    """The value of a column of a row. It is None where a record around it is."""
    value: Any = row
    for name in path:
        value = None if value is None else value.get(name)
    return value
