"""How a raw file is written: its format, compression, encoding, delimiter and quotes, as its first bytes tell.

A file is recognised once, before the job starts. The workers get the `Dialect`, which is small, and read by it. The
content decides and not the name: a gzip file that is called events.csv is read as one.
"""

import codecs
import contextlib
import csv
import dataclasses
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import BinaryIO, Literal

from beam_jobs.csv_records import ends_with_delimiters, has_row_names, is_literal, well_formed
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_streams import BROKEN, Compression, naming, opened
from beam_jobs.texts import HEAD_BYTES, MAX_LINE, decoded, encoding_of

MAX_HEADER = 1 << 20  # Characters of the first line of a CSV file.
MOST_SEARCHED = 1 << 28  # Unpacked bytes of a table that are searched for text beyond ASCII.
DELIMITERS = ",;\t|\x01\x1f^~"  # Hive writes \x01.

Format = Literal["bigquery", "csv", "jsonl", "json", "parquet", "avro", "empty"]

_COMPRESSIONS: dict[bytes, Compression] = {
    b"\x1f\x8b": "gzip",
    b"BZh": "bzip2",
    b"\x28\xb5\x2f\xfd": "zstd",
    **{bytes([0x50 + number, 0x2A, 0x4D, 0x18]): "zstd" for number in range(16)},  # It begins with a skippable frame.
    b"\xfd7zXZ\x00": "xz",
    b"\x04\x22\x4d\x18": "lz4",
}

#: First bytes of formats that are not read, with the name and the way out.
_REFUSED: dict[bytes, tuple[str, str]] = {
    b"PK\x03\x04": ("a ZIP archive or an Excel workbook", "unpack it, or save the sheet as CSV"),
    b"\xd0\xcf\x11\xe0": ("an old Excel workbook", "save the sheet as CSV"),
    b"ORC": ("an ORC file", "convert it to Parquet"),
    b"ARROW1": ("an Arrow or Feather file", "convert it to Parquet"),
    b"\xff\xff\xff\xff": ("an Arrow stream", "convert it to Parquet"),
    b"SQLite format 3": ("an SQLite data base", "export the table as CSV"),
    b"\x89HDF": ("an HDF5 file", "convert it to Parquet"),
    b"%PDF": ("a PDF document", "export the table as CSV"),
    b"7z\xbc\xaf": ("a 7z archive", "unpack it"),
    b"\x1f\x9d": ("a file of `compress`", "unpack it"),
    b"\xff\x06\x00\x00sNaPpY": ("a snappy file", "unpack it, or pack it with gzip"),
    b"{\\rtf": ("a text of a word processor", "export the table as CSV"),
    b"\xff\xd8\xff": ("a JPEG photo", "hand over a table"),
    b"\x89PNG": ("a PNG picture", "hand over a table"),
    b"\x80\x04\x95": ("a Python pickle", "write it as Parquet"),
    b"SEQ\x06": ("a Hadoop sequence file", "convert it to Parquet"),
    b"\x93NUMPY": ("a NumPy array", "write it as Parquet"),
    b"x\x9c": ("a zlib stream", "pack it with gzip"),
    b"]\x00\x00": ("an LZMA file of the old format", "pack it with xz"),
    b"version https://git-lfs": ("a pointer of Git LFS", "fetch the file by `git lfs pull`"),
}


@dataclasses.dataclass(frozen=True)
class Dialect:
    """How a file is written.

    Attributes:
        format: jsonl is one object per line; json an array of objects, or objects of several lines one after another;
            empty a file without any row.
        encoding: of the text; Python's name.
        skipped: lines before the header of a CSV file: blank ones, and `sep=;`.
        delimiter: of a CSV file.
        quote: of a CSV file; empty where quotes are a part of the text.
        escape: a backslash stands before a quote inside a quoted field, as Spark writes it.
        blank_after: a quoted field may begin with a blank before its quote.
        row_names: rows begin with a name that has no place in the header, as those of R.
        ends: some rows end with a delimiter, the header does not.
    """

    format: Format
    compression: Compression = "none"
    encoding: str = "utf-8"
    skipped: int = 0
    delimiter: str = ","
    quote: str = '"'
    escape: bool = False
    blank_after: bool = False
    row_names: bool = False
    ends: bool = False

    def __str__(self) -> str:
        words = ["JSON" if self.format == "json" else {"jsonl": "JSON lines"}.get(self.format, self.format)]
        if self.format == "csv":
            words[0] = f"CSV with {_NAMES.get(self.delimiter, repr(self.delimiter))}"
            words += {"'": ["single quotes"], "": ["no quoting"]}.get(self.quote, [])
            words += ["backslashes before quotes"] if self.escape else []
        words += ["row names before the first column are left out"] if self.row_names else []
        words += [] if self.format in ("parquet", "avro", "empty") or self.encoding == "utf-8" else [self.encoding]
        words += [] if self.compression == "none" else [self.compression]
        return ", ".join(words)


_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}


def detect_all(files: Sequence[str], expected: str = "") -> dict[str, Dialect]:
    """Recognises how the files of a table are written. Where their encoding is a guess, it is one for all of them.

    Args:
        files: their paths.
        expected: encoding that was guessed for another table of the folder, with whose ids those of this one are
            compared. It takes the place of a guess where the text can be decoded by it.

    Raises:
        RawDataError: as `detect`.
    """
    most = MOST_SEARCHED // max(1, len(files))
    of_file = {file: detect(file, expected, most) for file in files}
    common = guessed(of_file.values())
    if not common or common == expected:
        return of_file
    return {file: detect(file, common, most) for file in files}


def guessed(dialects: Iterable[Dialect]) -> str:
    """The encoding that was guessed for most files, or "" if all are Unicode."""
    guesses = Counter(dialect.encoding for dialect in dialects if not dialect.encoding.startswith("utf"))
    return guesses.most_common(1)[0][0] if guesses else ""


def detect(file: str, expected: str = "", most: int = MOST_SEARCHED) -> Dialect:
    """Recognises how a file is written.

    Args:
        file: its path.
        expected: as for `encoding_of`; left aside where the text cannot be decoded by it.
        most: unpacked bytes that are searched for text beyond ASCII, if the first ones hold none.

    Raises:
        RawDataError: it cannot be read, or holds something else than a table.
    """
    with naming(file):
        with opened(file, "none") as stream:
            first = _read(stream, 4096)
        compression: Compression = "none"
        for magic, name in _COMPRESSIONS.items():
            if first.startswith(magic):
                compression = name
        if compression == "none" and len(first) < 4096:
            return _detected_or_empty(file, first, compression, expected)
        with opened(file, compression) as stream:
            head = _read(stream, HEAD_BYTES)
            dialect = _detected_or_empty(file, head, compression, expected)
            if dialect.format in ("csv", "jsonl", "json") and dialect.encoding == "utf-8" and _is_open(head):
                encoding = _encoding(_beyond_ascii(stream, head, most), expected)
                dialect = dataclasses.replace(dialect, encoding=encoding)
        return dialect


def _detected_or_empty(file: str, head: bytes, compression: Compression, expected: str) -> Dialect:
    if not head.strip(b"\r\n\t "):
        return Dialect("empty", compression)
    return _detected(file, head, compression, expected)


def _encoding(head: bytes, expected: str) -> str:
    """`encoding_of`, but for an expected encoding that the text cannot have."""
    encoding = encoding_of(head, expected)
    if encoding == expected and not _decodes(head, expected) and _decodes(head, guess := encoding_of(head)):
        return guess
    return encoding


def _decodes(head: bytes, encoding: str) -> bool:
    try:
        codecs.getincrementaldecoder(encoding)().decode(head)
    except UnicodeDecodeError:
        return False
    return True


def _is_open(head: bytes) -> bool:
    """Whether no line of a text says that it is UTF-8: it is ASCII, or cannot be decoded."""
    return not any(_decodes(line, "utf-8") for line in head.splitlines() if not line.isascii())


def _beyond_ascii(stream: BinaryIO, head: bytes, most: int) -> bytes:
    """The lines of a text that are not ASCII, as many as its encoding is told by.

    The first accent of a long log may stand behind a million rows.

    Args:
        stream: the text behind its first bytes.
        head: its first bytes.
        most: bytes that are searched.
    """
    lines: list[bytes] = []
    block, size = head, 0
    with contextlib.suppress(*BROKEN):  # Whoever reads it says why.
        while block and most > 0 and size < HEAD_BYTES // 2:
            end = 1 + max(block.rfind(b"\n"), block.rfind(b"\r"))
            if not block[:end].isascii():
                lines += [line for line in block[:end].splitlines(keepends=True) if not line.isascii()]
                size = sum(map(len, lines))
            more = stream.read(1 << 20)
            most -= len(more)
            block = block[end:][-HEAD_BYTES:] + more if more else b""
    return b"".join(lines)[: HEAD_BYTES - 1]


def _read(stream: BinaryIO, size: int) -> bytes:
    """The first bytes of a stream, which may give them in several pieces."""
    pieces: list[bytes] = []
    while size > 0 and (piece := stream.read(size)):
        pieces.append(piece)
        size -= len(piece)
    return b"".join(pieces)


_SQL = re.compile(r"--|/\*|INSERT|CREATE|DROP|COPY|SET|BEGIN", re.IGNORECASE)
_STATEMENT = re.compile(r"^(INSERT INTO|CREATE TABLE|COPY) \S+ ?", re.IGNORECASE | re.MULTILINE)


def _detected(file: str, head: bytes, compression: Compression, expected: str) -> Dialect:
    if head.startswith(b"PAR1"):
        return Dialect("parquet", compression)
    if head.startswith(b"Obj\x01"):
        return Dialect("avro", compression)
    for magic, (kind, remedy) in _REFUSED.items():
        if head.startswith(magic):
            raise RawDataError(f"{file} is {kind}, which is not read: {remedy}")
    if head[257:262] == b"ustar":
        raise RawDataError(f"{file} is a tar archive, which is not read: unpack it")
    if any(head.startswith(magic) for magic in _COMPRESSIONS):
        raise RawDataError(f"{file} is packed twice: unpack it once")
    encoding = _encoding(head, expected)
    text = decoded(head, encoding).lstrip("\ufeff")
    start = text.lstrip()
    if start[:1] == "<":
        raise RawDataError(f"{file} is HTML or XML, which is not read: export the table as CSV")
    if _SQL.match(start) and _STATEMENT.search(start[:100_000]):
        raise RawDataError(f"{file} is an SQL dump, which is not read: export the table as CSV")
    odd = sum(character < " " and character not in "\t\r\n\x01\x1f" for character in text[:8192])
    if odd > 0.1 * len(text[:8192]):
        raise RawDataError(
            f"{file} is no text, no Parquet and no Avro file: export the table as CSV, JSON lines, Parquet or Avro"
        )
    json_name = re.search(r"\.(json|jsonl|ndjson)(\.\w+)?$", os.path.basename(file).lower())
    if start[:1] == "[" and (json_name or start[1:].lstrip()[:1] in ("{", "]")):
        return Dialect("json", compression, encoding)
    if start[:1] == "{" or json_name:
        first = start.splitlines()[0].strip()
        alone = first == "{" or re.fullmatch(r'\{\s*"(\\.|[^"\\])*"\s*:\s*("(\\.|[^"\\])*"|[-\w.+]+)\s*,', first)
        return Dialect("json" if alone else "jsonl", compression, encoding)
    return _csv(file, text, compression, encoding)


def _csv(file: str, text: str, compression: Compression, encoding: str) -> Dialect:
    csv.field_size_limit(MAX_LINE)
    lines = list(io.StringIO(text, newline=""))
    skipped = 0
    declared = None
    while lines and (not lines[0].strip() or (match := re.fullmatch(r'"?sep=(.)"?\s*', lines[0]))):
        if lines[0].strip() and match:
            declared = match.group(1)
        del lines[0]
        skipped += 1
    comments = _comments(lines)
    del lines[:comments]
    skipped += comments
    if not lines:
        return Dialect("empty", compression, encoding)
    if not lines[0].endswith(("\n", "\r")) and len(lines[0]) >= len(text) - 4 and len(text) > 200_000:
        raise RawDataError(f"{file}, its first line has more than {len(text):,} characters: it is no header of a table")
    if len(lines) > 1 and not lines[-1].endswith("\n"):
        lines.pop()  # It may break off.
    lines = lines[:1000]
    quote = _quote(lines)
    delimiter = declared or _delimiter(lines, quote)
    sample = "".join(lines)
    blank_after = bool(re.search(rf"{re.escape(delimiter)} +{quote}", sample))
    plain = Dialect("csv", compression, encoding, skipped, delimiter, quote, blank_after=blank_after)
    if is_literal(lines, plain):
        plain = dataclasses.replace(plain, quote="", blank_after=False)
    elif f"\\{quote}" in sample:
        escaped = dataclasses.replace(plain, escape=True)  # Or a text ends with a backslash.
        more = well_formed(lines, escaped) - well_formed(lines, plain)
        is_doubled = re.search(rf"[^{re.escape(delimiter)}\s]{quote}{quote}", sample)
        plain = escaped if more > 0 or (more == 0 and not is_doubled) else plain
    return dataclasses.replace(plain, row_names=has_row_names(lines, plain), ends=ends_with_delimiters(lines, plain))


def _comments(lines: list[str]) -> int:
    """How many lines at the start are comments or empty. A first line with # that has as many fields as the row after
    it is a header."""
    number = 0
    while number < len(lines) and (not lines[number].strip() or lines[number].startswith("#")):
        number += 1
    if not number or number == len(lines):
        return 0
    last = max(position for position in range(number) if lines[position].strip())
    of_row = [(delimiter, lines[number].count(delimiter)) for delimiter in DELIMITERS]
    is_header = any(count and lines[last].count(delimiter) == count for delimiter, count in of_row)
    return last if is_header else number


def _quote(lines: list[str]) -> str:
    """The quotes of a CSV file: single ones only where fields begin and end with them, and none with double ones."""
    text = "".join(lines)
    edge = "[" + re.escape(DELIMITERS) + "\r\n]"
    double = len(re.findall(f'(?:^|{edge})"', text))
    single = len(re.findall(f"(?:^|{edge})'[^'\r\n]*'(?={edge}|$)", text))
    return "'" if single > double and single >= len(lines) / 2 else '"'


def _delimiter(lines: list[str], quote: str) -> str:
    """The delimiter with which most lines have as many fields as the first, of which it has the most."""

    def score(delimiter: str) -> tuple[float, int]:
        try:
            widths = [len(row) for row in csv.reader(lines, delimiter=delimiter, quotechar=quote) if row]
        except csv.Error:
            return 0.0, 0
        if not widths or widths[0] < 2:
            return 0.0, 0
        return round(sum(width == widths[0] for width in widths) / len(widths), 1), widths[0]

    best = max(DELIMITERS, key=lambda delimiter: (score(delimiter)[0] >= 0.5, _words(lines[0], delimiter, quote),
                                                  *score(delimiter)))  # fmt: skip
    return best if best in lines[0] else ","


def _words(header: str, delimiter: str, quote: str) -> int:
    """How many names of the header are words, such as user_id, rather than parts of several names."""
    names = [name.strip(f" {quote}\r\n\ufeff") for name in header.split(delimiter)]
    return sum(bool(re.fullmatch(r"\w[\w .-]*", name)) for name in names) if len(names) > 1 else 0
