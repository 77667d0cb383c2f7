"""The bytes of a raw file, unpacked. What libraries raise for a broken one becomes an error that names it."""

import bz2
import contextlib
import gzip
import lzma
import tempfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, Literal

import pyarrow as pa

from beam_jobs.raw_errors import RawDataError
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import StoreError, place_of

Compression = Literal["none", "gzip", "bzip2", "zstd", "xz", "lz4"]

#: What libraries raise for files that are cut off or damaged.
BROKEN = (StoreError, EOFError, OSError, ValueError, zlib.error, lzma.LZMAError, pa.ArrowException, OverflowError)


@contextlib.contextmanager
def naming(file: str, what: str = "file") -> Iterator[None]:
    """Turns what libraries raise for a broken file into a RawDataError that names the file in one line."""
    try:
        yield
    except RawDataError:
        raise
    except BROKEN as error:
        reason = printable(" ".join(str(error).split()) or type(error).__name__)  # Arrow's messages have several lines.
        raise RawDataError(f"{file} is no readable {what}: {reason}") from error


@contextlib.contextmanager
def opened(file: str, compression: Compression) -> Iterator[BinaryIO]:
    """The unpacked bytes of a file. A packed file that was cut off raises at its end."""
    with contextlib.ExitStack() as stack:
        stream: Any = stack.enter_context(transfer.open_file(place_of(file)))
        if compression == "gzip":
            stream = stack.enter_context(gzip.GzipFile(fileobj=stream))
        elif compression == "bzip2":
            stream = stack.enter_context(bz2.BZ2File(stream))
        elif compression == "xz":
            stream = stack.enter_context(lzma.LZMAFile(stream))
        elif compression != "none":
            stream = stack.enter_context(pa.CompressedInputStream(pa.PythonFile(stream, "r"), compression))
        yield stream


@contextlib.contextmanager
def seekable(file: str, compression: Compression) -> Iterator[IO[bytes]]:
    """The unpacked bytes of a file, from any place. A packed file is unpacked to a temporary one."""
    with opened(file, compression) as stream:
        if compression == "none":
            yield stream
            return
        with tempfile.TemporaryFile() as unpacked:
            while block := stream.read(1 << 20):
                unpacked.write(block)
            unpacked.seek(0)
            yield unpacked
