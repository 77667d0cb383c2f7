"""Rows between the steps of a job, packed into bytes. Beam would pickle each named tuple for itself.

The workers of a job share one version of Python, which Beam requires, too.
"""

import marshal
from typing import Any

import pyarrow as pa

BLOCK = 1_000  # Rows of a block.
LARGE = 1_000  # Bytes from which on a value is compressed: the local engine holds all that goes between two steps.
_CODEC = pa.Codec("zstd")  # It takes half the time of zlib, and packs rows into three quarters of the bytes.
_LENGTH = 8  # Bytes of the length that follows it.
COMPRESSED = b"\x00"  # First byte of such a value; marshal's own are letters and signs.


def pack(value: Any) -> bytes:
    """A value of texts, bytes, numbers, and plain tuples, lists and dicts of them.

    >>> unpack(pack([("a", 1)]))
    [('a', 1)]
    """
    packed = marshal.dumps(value)
    if len(packed) < LARGE:
        return packed
    return COMPRESSED + len(packed).to_bytes(_LENGTH, "little") + _CODEC.compress(packed, asbytes=True)


def unpack(packed: bytes) -> Any:
    """The value that `pack` was given."""
    if packed[:1] == COMPRESSED:
        packed = _CODEC.decompress(memoryview(packed)[1 + _LENGTH :], size_of(packed), asbytes=True)
    return marshal.loads(packed)


def size_of(packed: bytes) -> int:
    """Bytes of a packed value before it was compressed, which say more about the memory that the value takes."""
    return int.from_bytes(packed[1 : 1 + _LENGTH], "little") if packed[:1] == COMPRESSED else len(packed)
