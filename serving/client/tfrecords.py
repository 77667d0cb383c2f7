"""TFRecord files, without TensorFlow.

A record is its length (8 bytes), the checksum of the length (4), its content, and the checksum of the content (4). All
numbers are little-endian; a checksum is a masked CRC-32C.
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path

import google_crc32c

_LENGTH, _CHECKSUM = struct.Struct("<Q"), struct.Struct("<I")
_HEADER_BYTES = _LENGTH.size + _CHECKSUM.size


class BrokenRecordError(ValueError):
    """A record does not have the checksum that it was written with."""


class CutRecordError(ValueError):
    """A file ends inside a record."""


def framed(content: bytes) -> bytes:
    """A record with this content, as it stands in a file.

    >>> framed(b"abc").hex()
    '0300000000000000b099490e6162636e57f121'
    """
    length = _LENGTH.pack(len(content))
    return length + _checksum(length) + content + _checksum(content)


def read(file: Path) -> Iterator[bytes]:
    """The contents of the records of a file.

    Raises:
        BrokenRecordError: a checksum is wrong. The message has the place in the file.
        CutRecordError: the file ends inside its last record. All records before it have been read then.
        OSError: the file cannot be read.
    """
    with file.open("rb") as stream:
        place, end = 0, os.fstat(stream.fileno()).st_size
        while header := stream.read(_HEADER_BYTES):
            if len(header) < _HEADER_BYTES:
                raise CutRecordError(f"the file ends inside the record at byte {place}")
            length = header[: _LENGTH.size]
            if _checksum(length) != header[_LENGTH.size :]:
                raise BrokenRecordError(f"the record at byte {place} has a length that does not fit its checksum")
            size = _LENGTH.unpack(length)[0]
            if place + size > end:  # It is not asked for: it may be more than any memory holds.
                raise CutRecordError(f"the file ends inside the record at byte {place}")
            content, checksum = stream.read(size), stream.read(_CHECKSUM.size)
            if len(content) < size or len(checksum) < _CHECKSUM.size:
                raise CutRecordError(f"the file ends inside the record at byte {place}")
            if _checksum(content) != checksum:
                raise BrokenRecordError(f"the record at byte {place} has a content that does not fit its checksum")
            yield content
            place += _HEADER_BYTES + size + _CHECKSUM.size


def _checksum(content: bytes) -> bytes:
    crc = google_crc32c.value(content)
    # A checksum of data that holds checksums would be weak; so TFRecords rotate it and add a constant.
    return _CHECKSUM.pack(((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)
