"""A part of an open file, read as if it were all of it."""

import io
from typing import Any, BinaryIO

from beam_jobs.raw_rows import FilePart


class _Window(io.RawIOBase):
    """The bytes of a part of an open file."""

    def __init__(self, stream: BinaryIO, part: FilePart) -> None:
        self._stream, self._left = stream, part.end - stream.seek(part.begin)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self._stream.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        return len(data)


def window(stream: BinaryIO, part: FilePart | None) -> BinaryIO:
    """The bytes of a part of an open file; the file itself without a part."""
    return stream if part is None else io.BufferedReader(_Window(stream, part))
