"""Rows between the steps of a job, packed into bytes. Beam would pickle each named tuple for itself.

The workers of a job share one version of Python, which Beam requires, too.
"""

import marshal
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

BLOCK = 1_000  # Rows of a block.


def pack(value: Any) -> bytes:
    """A value of texts, bytes, numbers, and plain tuples, lists and dicts of them.

    >>> unpack(pack([("a", 1)]))
    [('a', 1)]
    """
    return marshal.dumps(value)


def unpack(packed: bytes) -> Any:
    """The value that `pack` was given."""
    return marshal.loads(packed)


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
