"""JSON as TensorFlow Serving reads and writes it: what it takes and refuses, and the digits of its numbers."""

import codecs
import json
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from serving.bundle.messages import MessageError

_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
#: One escape: the first half of a surrogate pair with or without the second, a second half alone, anything else.
_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})(\\u[dD][c-fC-F][0-9a-fA-F]{2})?|u([dD][c-fC-F][0-9a-fA-F]{2})|.)", re.DOTALL
)
#: A string, or a number that RapidJSON takes and Python's reader does not.
_SHORT_NUMBER = re.compile(r'"(?:[^"\\]|\\.)*"|-?Inf(?!inity)|-NaN', re.DOTALL)
_LONG_NUMBERS = {"Inf": "Infinity", "-Inf": "-Infinity", "-NaN": "NaN"}
_NOT_FINITE = {"nan": "NaN", "inf": "Infinity", "-inf": "-Infinity"}


class JsonObject(dict[str, Any]):
    """An object of JSON. The first of equal names counts.

    Attributes:
        pairs: all names and values, in the order of the text.
    """

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(reversed(pairs))
        self.pairs = pairs


def parse(body: bytes) -> JsonObject:
    r"""Reads the JSON object of a request.

    Strings may hold bytes that are no UTF-8. They become halves of surrogate pairs, which `to_bytes` turns back.

    Raises:
        MessageError: the body is no JSON object.

    >>> parse(b'{"a": [1, 1e3], "a": "the first counts"}')
    {'a': [1, 1000.0]}
    """
    # RapidJSON skips a byte order mark, and takes a NUL for the end of the text.
    body = body.removeprefix(codecs.BOM_UTF8).partition(b"\0")[0]
    if not body:
        raise MessageError("JSON Parse Error: the body is empty")
    if _SURROGATE.search(body):
        body = _ESCAPE.sub(_without_half, body)
    text = body.decode("utf-8", "surrogateescape")
    try:
        content = _decoded(text)
    except (ValueError, RecursionError) as error:
        raise MessageError(f"JSON Parse Error: {error}") from error
    if not isinstance(content, JsonObject):
        raise MessageError("JSON Value: the request must be an object")
    return content


def to_bytes(text: str) -> bytes:
    """The bytes of a string that `parse` has read."""
    return text.encode("utf-8", "surrogateescape")


def quoted(value: bytes) -> str:
    """Bytes as a string of JSON. What is no UTF-8 stays as it is once `to_bytes` has made bytes of the text."""
    return json.dumps(value.decode("utf-8", "surrogateescape"), ensure_ascii=False)


def decimals(values: np.ndarray) -> list[str]:
    """[N] float32 or float64 in the digits of TensorFlow Serving.

    Six digits where they are exactly the number, else nine (17 of a float64). A whole number ends with `.0`.

    >>> decimals(np.array([0.1, 0.9826521277, 3, 9e6, np.inf], np.float32))
    ['0.1', '0.982652128', '3.0', '9e+06', 'Infinity']
    """
    digits = 17 if values.dtype == np.float64 else 9
    numbers = values.tolist()
    short = [f"{number:.6g}" for number in numbers]
    exact = (np.array([float(text) for text in short], values.dtype) == values).tolist()
    written = (
        text if same else f"{number:.{digits}g}" for number, text, same in zip(numbers, short, exact, strict=True)
    )
    return [text if "." in text or "e" in text else _NOT_FINITE.get(text, f"{text}.0") for text in written]


def nested(items: list[str], shape: Sequence[int], axis: int = 0) -> list[str]:
    """Puts the JSON of elements into lists, for the axes of an array from `axis` on.

    >>> nested(["1", "2", "3", "4"], [2, 2])
    ['[[1, 2], [3, 4]]']
    >>> nested(["1", "2", "3", "4"], [2, 2], axis=1)
    ['[1, 2]', '[3, 4]']
    """
    for place in range(len(shape) - 1, axis - 1, -1):
        size, lists = shape[place], math.prod(shape[:place])
        items = [f"[{', '.join(items[number * size : (number + 1) * size])}]" for number in range(lists)]
    return items


def _decoded(text: str) -> Any:
    try:
        return _DECODER.decode(text)
    except json.JSONDecodeError:
        if "Inf" not in text and "-NaN" not in text:
            raise
        return _DECODER.decode(_SHORT_NUMBER.sub(lambda number: _LONG_NUMBERS.get(number[0], number[0]), text))


def _without_half(escape: re.Match[bytes]) -> bytes:
    """Of a surrogate pair RapidJSON refuses the first half alone, and takes the second half alone for three bytes."""
    first, second, alone = escape.groups()
    if first and not second:
        raise MessageError("JSON Parse Error: an escape is the first half of a surrogate pair without the second")
    return chr(int(alone, 16)).encode("utf-8", "surrogatepass") if alone else escape[0]


def _double(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise MessageError("JSON Parse Error: a number is too large for 64 bits")
    return value


def _integer(text: str) -> float:
    """An integer of up to 64 bits; beyond, a float."""
    if len(text) > 20 or not -(2**63) <= int(text) < 2**64:
        return _double(text)
    return int(text)


_DECODER = json.JSONDecoder(object_pairs_hook=JsonObject, parse_float=_double, parse_int=_integer)
