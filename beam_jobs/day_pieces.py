"""A day of a user in pieces, where it is large. All rows of a page view are in one piece."""

import zlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from beam_jobs.packing import BLOCK, pack, size_of, unpack

PIECE_BYTES = 1 << 20  # Before compression, about 15,000 rows; with what merging them takes it is some 20 MB.


def pieces_of_day(packed: Iterable[bytes], pause: int) -> list[list[bytes]]:
    """The packed rows of a day of a user, as one piece or several. Rows stay packed, so that little memory holds them.

    Args:
        packed: lists of (item, timestamp, request id, ...), in any order.
        pause: as for `page_views.view_keys`.
    """
    blocks = list(packed)
    number = sum(map(size_of, blocks)) // PIECE_BYTES + 1
    if number == 1:
        return [blocks]
    starts = _starts(blocks, pause)
    pieces: list[list[bytes]] = [[] for _ in range(number)]
    waiting: list[list[tuple[Any, ...]]] = [[] for _ in range(number)]
    while blocks:
        for row in unpack(blocks.pop()):
            _, timestamp, request = row[:3]
            view = zlib.crc32(request.encode()) if request else int(np.searchsorted(starts, timestamp, side="right"))
            waiting[view % number].append(row)
            if len(waiting[view % number]) == BLOCK:
                pieces[view % number].append(pack(waiting[view % number]))
                waiting[view % number] = []
    for piece, rows in zip(pieces, waiting, strict=True):
        piece.append(pack(rows))
    return pieces


def rows_of(piece: list[bytes]) -> Iterator[tuple[Any, ...]]:
    """The rows of a piece."""
    return (row for block in piece for row in unpack(block))


def _starts(blocks: list[bytes], pause: int) -> np.ndarray:
    """[n] int64 timestamps at which page views without a request id start, sorted."""
    seconds = array("q")
    for block in blocks:
        seconds.extend(row[1] for row in unpack(block) if not row[2])
    ordered = np.sort(np.frombuffer(seconds, np.int64))
    return ordered[np.diff(ordered, prepend=ordered[:1] - pause) >= pause]
