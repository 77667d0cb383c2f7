"""Rows between the steps of a job, packed into bytes. Beam would pickle each named tuple for itself.

The workers of a job share one version of Python, which Beam requires, too.
"""

import marshal
import zlib
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

BLOCK = 1_000  # Rows of a block.
LARGE = 1_000  # Bytes from which on a value is compressed: the local engine holds all that goes between two steps.
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
    return COMPRESSED + len(packed).to_bytes(_LENGTH, "little") + zlib.compress(packed, 1)


def unpack(packed: bytes) -> Any:
    """The value that `pack` was given."""
    return marshal.loads(zlib.decompress(packed[1 + _LENGTH :]) if packed[:1] == COMPRESSED else packed)


def size_of(packed: bytes) -> int:
    """Bytes of a packed value before it was compressed, which say more about the memory that the value takes."""
    return int.from_bytes(packed[1 : 1 + _LENGTH], "little") if packed[:1] == COMPRESSED else len(packed)


class PackBlocks(beam.DoFn):
    """Packs named tuples into blocks: lists of plain tuples."""

    def start_bundle(self) -> None:
        self.rows: list[tuple[Any, ...]] = []

    def process(self, row: tuple[Any, ...]) -> Iterator[bytes]:
        self.rows.append(tuple(row))
        if len(self.rows) == BLOCK:
            yield pack(self.rows)
            self.rows = []

    def finish_bundle(self) -> Iterator[Any]:
        if self.rows:
            yield GlobalWindows.windowed_value(pack(self.rows))
            self.rows = []
