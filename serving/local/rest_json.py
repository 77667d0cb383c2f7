"""Translates the JSON of TensorFlow Serving to arrays and back.

A request holds rows (`instances`) or columns (`inputs`). Bytes are written as {"b64": ...}.
"""

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.bundle.messages import MessageError

BYTES_SUFFIX = "_bytes"  # Outputs with such names are written as {"b64": ...}.
MOST_AXES = 32  # Of an array, in every version of NumPy.
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(body: bytes) -> dict[str, Any]:
    """Reads the JSON object of a request.

    Raises:
        MessageError: the body is no JSON object.
    """
    try:
        text = body.decode()
        content = json.loads(text)
        if _SURROGATE.search(text):
            json.dumps(content, ensure_ascii=False).encode()  # json lets half a character pass, which is no text.
    except (ValueError, RecursionError) as error:
        raise MessageError(f"JSON Parse Error: {error}") from error
    if not isinstance(content, dict):
        raise MessageError("JSON Value: the request must be an object")
    return content


def inputs_of(content: Mapping[str, Any], signature: SignatureDef) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the arrays of a predict request.

    Returns:
        (arrays by input name, whether they came as rows).

    Raises:
        MessageError: the request has neither or both of the forms, rows with different names or shapes, or values of
            another kind.
    """
    by_row = "instances" in content
    if by_row == ("inputs" in content):
        raise MessageError("a request must have either 'instances' or 'inputs'")
    columns = _columns(content["instances"], signature) if by_row else content["inputs"]
    # The only input of a signature may lack its name. An object with b64 is a value.
    if not isinstance(columns, dict) or set(columns) == {"b64"}:
        if len(signature.inputs) != 1:
            raise MessageError(f"the inputs must be named: {sorted(signature.inputs)}")
        columns = {next(iter(signature.inputs)): columns}
    unknown = sorted(set(columns) - set(signature.inputs))
    if unknown:
        raise MessageError(f"the signature has no input {unknown}; there are {sorted(signature.inputs)}")
    return {
        name: _array(name, value, tf.as_dtype(signature.inputs[name].dtype)) for name, value in columns.items()
    }, by_row


def outputs_to(outputs: Mapping[str, np.ndarray], by_row: bool) -> dict[str, Any]:
    """Writes the response to a predict request in the form of the request.

    >>> outputs_to({"y": np.array([1, 2]), "z": np.array([3, 4])}, by_row=True)
    {'predictions': [{'y': 1, 'z': 3}, {'y': 2, 'z': 4}]}
    """
    columns = {name: _listed(value, name.endswith(BYTES_SUFFIX)) for name, value in outputs.items()}
    if not by_row:
        return {"outputs": columns if len(columns) != 1 else next(iter(columns.values()))}
    if len(columns) == 1:
        return {"predictions": next(iter(columns.values()))}
    rows = zip(*columns.values(), strict=True)
    return {"predictions": [dict(zip(columns, row, strict=True)) for row in rows]}


def examples_of(content: Mapping[str, Any]) -> np.ndarray:
    """Reads the [B] serialised examples of a request to classify or regress, with its context merged into each.

    Raises:
        MessageError: there are none, or a feature has values of several kinds.
    """
    rows, context = content.get("examples"), content.get("context", {})
    if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in (*rows, context)):
        raise MessageError("'examples' must be a list of objects, 'context' an object")
    return np.array([_example({**context, **row}).SerializeToString() for row in rows], object)


def _columns(rows: Any, signature: SignatureDef) -> Any:
    if not isinstance(rows, list) or not rows:
        raise MessageError("'instances' must be a list of at least one row")
    named = [isinstance(row, dict) and set(row) != {"b64"} for row in rows]
    if not any(named):
        return rows
    if not all(named) or any(set(row) != set(rows[0]) for row in rows):
        raise MessageError("'instances' must name the same inputs in every row")
    return {name: [row[name] for row in rows] for name in rows[0]}


def _array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    if dtype == tf.string:
        leaves: list[bytes] = []
        shape = _strings(name, value, leaves)
        return np.array(leaves, object).reshape(shape)
    try:
        array = np.array(value)
    except (ValueError, OverflowError) as error:
        raise MessageError(
            f"input {name!r} is no tensor: its rows differ in length, or are nested too deeply"
        ) from error
    if array.size == 0:
        return array.astype(dtype.as_numpy_dtype)
    kinds = {True: "iuf", False: "iu"}[dtype.is_floating] if not dtype.is_bool else "b"
    if array.dtype.kind not in kinds:
        raise MessageError(f"input {name!r} must be {dtype.name}, but holds {_kind(array)}")
    if dtype.is_integer and (array.min() < dtype.min or array.max() > dtype.max):
        raise MessageError(f"input {name!r} must be {dtype.name}, but holds {array.min()} to {array.max()}")
    return array.astype(dtype.as_numpy_dtype)


def _kind(array: np.ndarray) -> str:
    return {"b": "booleans", "f": "numbers with a fraction", "i": "integers", "u": "integers"}.get(
        array.dtype.kind, "something else"
    )


def _strings(name: str, value: Any, leaves: list[bytes], axis: int = 0) -> tuple[int, ...]:
    """Appends the strings of a nested list; returns its shape."""
    if isinstance(value, list):
        if axis == MOST_AXES:
            raise MessageError(f"input {name!r} is nested more than {MOST_AXES} deep")
        shapes = {_strings(name, part, leaves, axis + 1) for part in value}
        if len(shapes) > 1:
            raise MessageError(f'input {name!r} is no tensor: its rows differ in length (pad them with "")')
        return (len(value), *next(iter(shapes), ()))
    leaves.append(_bytes(name, value))
    return ()


def _bytes(name: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, dict) and set(value) == {"b64"} and isinstance(value["b64"], str):
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (binascii.Error, ValueError) as error:
            raise MessageError(f"input {name!r} holds bytes that are no base64: {error}") from error
    raise MessageError(f"input {name!r} must hold strings or {{'b64': ...}}, but holds {type(value).__name__}")


def _listed(value: np.ndarray, as_bytes: bool) -> Any:
    if value.dtype != object:
        return value.tolist()
    if as_bytes:
        written = [{"b64": base64.b64encode(leaf).decode()} for leaf in value.ravel()]
    else:
        written = [leaf.decode(errors="replace") for leaf in value.ravel()]
    array = np.empty(value.size, object)
    array[:] = written
    return array.reshape(value.shape).tolist()


def _example(features: Mapping[str, Any]) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        if values and all(isinstance(number, int) and not isinstance(number, bool) for number in values):
            if not all(-(2**63) <= number < 2**63 for number in values):
                raise MessageError(f"feature {name!r} holds an integer of more than 64 bits")
            feature.int64_list.value.extend(values)
        elif values and all(isinstance(number, int | float) and not isinstance(number, bool) for number in values):
            try:
                feature.float_list.value.extend(float(number) for number in values)
            except OverflowError as error:
                raise MessageError(f"feature {name!r} holds a number that is too large") from error
        else:
            feature.bytes_list.value.extend(_bytes(name, text) for text in values)
    return example
