"""Translates the JSON of TensorFlow Serving to arrays and back.

A request holds rows (`instances`) or columns (`inputs`). Bytes are written as {"b64": ...}.
"""

import base64
import binascii
import itertools
from collections.abc import Mapping
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf.meta_graph_pb2 import SignatureDef

from serving.bundle.messages import MessageError
from serving.local.json_text import JsonObject, decimals, nested, quoted, to_bytes
from serving.local.loaded import AnswerError

BYTES_SUFFIX = "_bytes"  # Outputs with such names are written as {"b64": ...}.
MOST_AXES = 32  # Of an array, in every version of NumPy.
#: The integers that JSON may hold for a type. Those of 32 bits and less are all read as 32 bits, and then cut.
_BOUNDS = {
    **dict.fromkeys((tf.int8, tf.uint8, tf.int16, tf.int32), (-(2**31), 2**31 - 1)),
    tf.int64: (-(2**63), 2**63 - 1),
    tf.uint32: (0, 2**32 - 1),
    tf.uint64: (0, 2**64 - 1),
}


def inputs_of(content: JsonObject, signature: SignatureDef) -> tuple[dict[str, np.ndarray], bool]:
    """Reads the arrays of a predict request.

    Returns:
        (arrays by input name, whether they came as rows).

    Raises:
        MessageError: the request has neither or both of the forms, rows with different names or shapes, or values of
            another kind.
        AnswerError: UNIMPLEMENTED; JSON has no values of the type of an input.
    """
    if not signature.inputs:
        raise MessageError("the signature has no inputs")
    by_row = "instances" in content
    if by_row == ("inputs" in content):
        raise MessageError("a request must have either 'instances' or 'inputs'")
    columns = _columns(content["instances"], signature) if by_row else content["inputs"]
    # The only input of a signature may lack its name. An object with b64 is a value.
    if not isinstance(columns, dict) or _is_bytes(columns):
        if len(signature.inputs) != 1:
            raise MessageError(f"the inputs must be named: {sorted(signature.inputs)}")
        columns = {next(iter(signature.inputs)): columns}
    missing = sorted(set(signature.inputs) - set(columns))
    if missing:
        raise MessageError(f"input size does not match signature: missing {missing}")
    try:
        arrays = {name: _array(name, columns[name], tf.as_dtype(info.dtype)) for name, info in signature.inputs.items()}
    except AnswerError as error:
        if by_row:  # Whatever is wrong with a row is INVALID_ARGUMENT.
            raise MessageError(str(error)) from error
        raise
    return arrays, by_row


def outputs_to(outputs: Mapping[str, np.ndarray], by_row: bool) -> str:
    """Writes the response to a predict request in the form of the request.

    Raises:
        MessageError: JSON has no values of the type of an output, or outputs have no rows or differ in their number.

    >>> outputs_to({"y": np.array([1, 2]), "z": np.array([3, 4])}, by_row=True)
    '{"predictions": [{"y": 1, "z": 3}, {"y": 2, "z": 4}]}'
    """
    first_axes = {value.shape[:1] for value in outputs.values()}
    if by_row and (() in first_axes or len(first_axes) > 1):
        shapes = {name: value.shape for name, value in outputs.items()}
        raise MessageError(f"the outputs have no rows, or differ in their number: {shapes}; ask with 'inputs'")
    columns = {
        quoted(name.encode()): nested(_elements(name, value), value.shape, axis=int(by_row))
        for name, value in outputs.items()
    }
    if by_row:
        rows = zip(*columns.values(), strict=True)
        return f'{{"predictions": [{", ".join(_named(columns, row) for row in rows)}]}}'
    return f'{{"outputs": {_named(columns, [text for (text,) in columns.values()])}}}'


def results_to(classes: np.ndarray | None, scores: np.ndarray | None) -> str:
    """Writes the response to a classify request: [B, C] classes or scores or both."""
    shape = next(value for value in (classes, scores) if value is not None).shape
    labels = [quoted(label) for label in classes.ravel()] if classes is not None else ['""'] * (shape[0] * shape[1])
    numbers = decimals(scores.ravel()) if scores is not None else ["0.0"] * len(labels)
    pairs = [f"[{label}, {number}]" for label, number in zip(labels, numbers, strict=True)]
    return f'{{"results": {nested(pairs, shape)[0]}}}'


def values_to(values: np.ndarray) -> str:
    """Writes the response to a regress request: [B] values."""
    return f'{{"results": {nested(decimals(values), values.shape)[0]}}}'


def examples_of(content: JsonObject) -> np.ndarray:
    """Reads the [B] serialised examples of a request to classify or regress, with its context merged into each.

    Raises:
        MessageError: there are none, or a feature has values of several kinds.
    """
    rows, context = content.get("examples"), content.get("context", JsonObject([]))
    if not isinstance(rows, list) or not rows or not all(isinstance(row, JsonObject) for row in (*rows, context)):
        raise MessageError("'examples' must be a list of objects, 'context' an object")
    # Of features with the same name the last counts: each replaces the one before.
    return np.array([_example(dict((*context.pairs, *row.pairs))).SerializeToString() for row in rows], object)


def _columns(rows: Any, signature: SignatureDef) -> Any:
    if not isinstance(rows, list) or not rows:
        raise MessageError("'instances' must be a list of at least one row")
    named = [isinstance(row, dict) and not _is_bytes(row) for row in rows]
    if not any(named):
        return rows
    if not all(named) or any(set(row) != set(signature.inputs) for row in rows):
        raise MessageError(f"'instances' must name the same inputs in every row: {sorted(signature.inputs)}")
    return {name: [row[name] for row in rows] for name in signature.inputs}


def _array(name: str, value: Any, dtype: tf.DType) -> np.ndarray:
    leaves, shape = _leaves(name, value)
    if dtype == tf.string:
        array = np.empty(len(leaves), object)
        array[:] = [_bytes(f"input {name!r}", leaf) for leaf in leaves]
        return array.reshape(shape)
    kinds = {type(leaf) for leaf in leaves}
    if leaves and dtype not in (tf.float32, tf.float64, tf.bool, *_BOUNDS):
        raise AnswerError(grpc.StatusCode.UNIMPLEMENTED, f"input {name!r} is {dtype.name}, which JSON cannot hold")
    if not kinds <= ({bool} if dtype.is_bool else {int, float} if dtype.is_floating else {int}):
        raise MessageError(f"input {name!r} must be {dtype.name}, but holds {_kinds(kinds)}")
    if dtype in _BOUNDS and leaves and not _BOUNDS[dtype][0] <= min(leaves) <= max(leaves) <= _BOUNDS[dtype][1]:
        raise MessageError(f"input {name!r} must be {dtype.name}, but holds {min(leaves)} to {max(leaves)}")
    wide = {True: np.float64, False: np.uint64 if dtype == tf.uint64 else np.int64}[dtype.is_floating]
    with np.errstate(over="ignore", under="ignore"):  # A number that is too large for a float32 is infinite.
        return np.array(leaves, bool if dtype.is_bool else wide).astype(dtype.as_numpy_dtype).reshape(shape)


def _leaves(name: str, value: Any) -> tuple[list[Any], tuple[int, ...]]:
    """The elements of a nested list, and its shape, which is that of its first elements."""
    shape, first = [], value
    while isinstance(first, list):
        shape.append(len(first))
        if not first:
            break
        first = first[0]
    if len(shape) > MOST_AXES:
        raise MessageError(f"input {name!r} is nested more than {MOST_AXES} deep")
    leaves = [value]
    for size in shape:
        if any(not isinstance(part, list) or len(part) != size for part in leaves):
            raise MessageError(f'input {name!r} is no tensor: its rows differ in length (pad strings with "")')
        leaves = list(itertools.chain.from_iterable(leaves))
    if any(isinstance(leaf, list) for leaf in leaves):
        raise MessageError(f"input {name!r} is no tensor: its rows differ in depth")
    return leaves, tuple(shape)


def _kinds(kinds: set[type]) -> str:
    names = {bool: "booleans", int: "integers", float: "numbers with a fraction", str: "strings", list: "lists"}
    return ", ".join(sorted(names.get(kind, "objects or null") for kind in kinds))


def _is_bytes(value: Any) -> bool:
    """Whether a value is {"b64": "..."}."""
    return isinstance(value, JsonObject) and len(value.pairs) == 1 and isinstance(value.get("b64"), str)


def _bytes(holder: str, value: Any) -> bytes:
    if isinstance(value, str):
        return to_bytes(value)
    if not _is_bytes(value):
        raise MessageError(f"{holder} must hold strings or {{'b64': ...}}, but holds {type(value).__name__}")
    text = "".join(value["b64"].split())  # Line breaks and blanks are no part of it.
    digits = text.rstrip("=")
    padding = -len(digits) % 4
    if padding == 3 or len(text) - len(digits) not in (0, padding):
        raise MessageError(f"{holder} holds bytes that are no base64: they are cut, or their padding is")
    try:
        return base64.b64decode(digits + padding * "=", validate=True)
    except (binascii.Error, ValueError) as error:
        raise MessageError(f"{holder} holds bytes that are no base64: {error}") from error


def _elements(name: str, value: np.ndarray) -> list[str]:
    """The JSON of each element of an array."""
    if value.dtype == object:
        leaves = value.ravel().tolist()
        if name.endswith(BYTES_SUFFIX):
            return [f'{{"b64": "{base64.b64encode(leaf).decode()}"}}' for leaf in leaves]
        return [quoted(leaf) for leaf in leaves]
    dtype = tf.as_dtype(value.dtype)
    if dtype in (tf.float32, tf.float64):
        return decimals(value.ravel())
    if dtype.is_bool or dtype in _BOUNDS or not value.size:
        return [str(leaf).lower() for leaf in value.ravel().tolist()]
    raise MessageError(f"output {name!r} is {dtype.name}, which JSON cannot hold")


def _named(names: Mapping[str, Any], values: Any) -> str:
    """An object of JSON; a value alone needs no name."""
    if len(names) == 1:
        return str(next(iter(values)))
    return f"{{{', '.join(f'{name}: {value}' for name, value in zip(names, values, strict=True))}}}"


def _example(features: Mapping[str, Any]) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in features.items():
        values = value if isinstance(value, list) else [value]
        if not values:
            example.features.feature[_utf8(name)].SetInParent()
            continue
        feature, kinds = example.features.feature[_utf8(name)], {_kind(name, content) for content in values}
        if len(kinds) > 1:
            raise MessageError(f"feature {name!r} must hold values of one kind, but holds {sorted(kinds)}")
        if "integers" in kinds:
            if any(number >= 2**63 for number in values):
                raise MessageError(f"feature {name!r} holds an integer of more than 63 bits")
            feature.int64_list.value.extend(map(int, values))
        elif "floats" in kinds:
            feature.float_list.value.extend(values)
        else:
            feature.bytes_list.value.extend(_bytes(f"feature {name!r}", content) for content in values)
    return example


def _kind(name: str, value: Any) -> str:
    if isinstance(value, bool | int):  # A boolean is a 1 or a 0.
        return "integers"
    if isinstance(value, float):
        return "floats"
    if isinstance(value, str) or _is_bytes(value):
        return "bytes"
    raise MessageError(f"feature {name!r} must hold strings, numbers or booleans, but holds {type(value).__name__}")


def _utf8(name: str) -> str:
    """A name that a message can hold."""
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise MessageError(f"a feature has a name that is no UTF-8: {name!r}") from error
    return name
