"""Reads the JSON files of a workdir. Anyone may have edited them, so every field has the type that the code expects."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin, get_type_hints

from courier_tf.escaping import printable

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    D = TypeVar("D", bound=DataclassInstance)
else:
    D = TypeVar("D")


class JsonError(ValueError):
    """A JSON file is missing or broken, or a field of it has another type than is expected."""


def read_json(file: Path) -> Any:
    """The content of a JSON file.

    Raises:
        JsonError: it is no regular file, no text, no JSON, or names a field twice. The message does not name the file.
        OSError: it cannot be read.
    """
    if file.exists() and not file.is_file() and not file.is_dir():  # Reading a named pipe would wait for ever.
        raise JsonError("it is no regular file")
    try:
        return parse_json(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise JsonError(f"it is no UTF-8: {error.reason} at byte {error.start}") from error


def parse_json(text: str) -> Any:
    """The content of a JSON text; as `read_json`.

    >>> parse_json('{"seed": 1, "seed": 2}')
    Traceback (most recent call last):
    ...
    courier_tf.typed_json.JsonError: the field 'seed' stands there twice
    """
    try:
        return json.loads(text, object_pairs_hook=_once)
    except json.JSONDecodeError as error:
        raise JsonError(f"it is no JSON: {error}") from error
    except RecursionError as error:
        raise JsonError("its brackets are nested too deeply") from error


def require_kind(what: str, value: Any, kind: Any) -> None:
    """Refuses a value of another type than `kind`, with all that it holds.

    Raises:
        JsonError: begins with `what`.

    >>> require_kind("seed='7'", "7", int)
    Traceback (most recent call last):
    ...
    courier_tf.typed_json.JsonError: seed='7': str is not an instance of int
    """
    # Here, as its import takes longer than that of all settings: a typing error is to be answered at once.
    from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

    if isinstance(value, bool) and bool not in (kind, *get_args(kind)) and {int, float} & {kind, *get_args(kind)}:
        raise JsonError(f"{what}: bool is not a number")  # In Python it is one.
    try:
        check_type(value, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        raise JsonError(f"{what}: {printable(error)}") from error


def fields_of(kind: "type[D]", values: Any, what: str = "") -> "D":
    """A dataclass from its fields, as `dataclasses.asdict` and JSON have written them. Lists become tuples.

    Args:
        kind: the dataclass.
        values: field -> value. Fields with a default may be missing.
        what: stands before the name of a field in messages.

    Raises:
        JsonError: a field is missing, unknown, or of another type; the message names it.
    """
    if not isinstance(values, Mapping):
        raise JsonError(f"{what or kind.__name__} must be an object, but is {printable(repr(values))}")
    hints, fields = get_type_hints(kind), {field.name: field for field in dataclasses.fields(kind)}
    prefix = f"{what}." if what else ""
    for name in values:
        if name not in fields:
            raise JsonError(f"there is no field {printable(f'{prefix}{name}')}")
    read: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            is_tuple = tuple in (get_origin(hint) or hint for hint in (hints[name], *get_args(hints[name])))
            value = values[name]
            read[name] = tuple(value) if is_tuple and isinstance(value, list) else value
            require_kind(f"{prefix}{name}={printable(repr(value))}", read[name], hints[name])
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise JsonError(f"the field {prefix}{name} is missing")
    return kind(**read)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for name, value in pairs:
        if name in content:
            raise JsonError(f"the field {printable(repr(name))} stands there twice")
        content[name] = value
    return content
