"""The rows of a day by user. The day of a user comes in pieces where it is large: a page view lies in one of them."""

import zlib
from array import array
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from beam_jobs.packing import BLOCK, pack, size_of, unpack

PIECE_BYTES = 1 << 20  # Before compression, about 20,000 rows; with what merging them takes it is some 20 MB.
TOGETHER_BYTES = 2 << 20  # Of the rows of a group of users that are unpacked at once, and merged user by user.

#: Rows of a user, in lists of (item, timestamp, request id, ...), packed or not.
Piece = list[Any]


def users_of_day(packed: Iterable[bytes], pause: int) -> Iterator[tuple[str, list[Piece]]]:
    """(user, the pieces of the user's day) of each user of a group. Where there are many rows, they stay packed.

    Args:
        packed: {user: rows}, packed, in any order.
        pause: as for `page_views.view_keys`.
    """
    blocks = list(packed)
    users: dict[str, Piece] = {}
    if sum(map(size_of, blocks)) <= TOGETHER_BYTES:
        for block in blocks:
            for user, rows in unpack(block).items():
                users.setdefault(user, []).append(rows)
        yield from ((user, [lists]) for user, lists in users.items())
        return
    while blocks:
        for user, rows in unpack(blocks.pop()).items():
            users.setdefault(user, []).append(pack(rows))
    while users:
        user, lists = users.popitem()
        yield user, pieces_of_day(lists, pause)


def pieces_of_day(packed: list[bytes], pause: int) -> list[Piece]:
    """The packed rows of a day of a user, as one piece or several. Rows stay packed, so that little memory holds them.

    Args:
        packed: lists of rows, in any order. The list is used up.
        pause: as for `page_views.view_keys`.
    """
    number = sum(map(size_of, packed)) // PIECE_BYTES + 1
    if number == 1:
        return [packed]
    starts = _starts(packed, pause)
    pieces: list[Piece] = [[] for _ in range(number)]
    waiting: list[list[tuple[Any, ...]]] = [[] for _ in range(number)]
    while packed:
        for row in unpack(packed.pop()):
            _, timestamp, request = row[:3]
            view = zlib.crc32(request.encode()) if request else int(np.searchsorted(starts, timestamp, side="right"))
            waiting[view % number].append(row)
            if len(waiting[view % number]) == BLOCK:
                pieces[view % number].append(pack(waiting[view % number]))
                waiting[view % number] = []
    for piece, rows in zip(pieces, waiting, strict=True):
        piece.append(pack(rows))
    return pieces


def rows_of(piece: Piece) -> Iterator[tuple[Any, ...]]:
    """The rows of a piece."""
    return (row for rows in piece for row in (unpack(rows) if isinstance(rows, bytes) else rows))


def _starts(blocks: list[bytes], pause: int) -> np.ndarray:
    """[n] int64 timestamps at which page views without a request id start, sorted."""
    seconds = array("q")
    for block in blocks:
        seconds.extend(row[1] for row in unpack(block) if not row[2])
    ordered = np.sort(np.frombuffer(seconds, np.int64))
    return ordered[np.diff(ordered, prepend=ordered[:1] - pause) >= pause]
