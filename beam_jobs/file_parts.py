"""Large raw files in parts, which several workers read side by side.

A row is named by its number in the file, so a part knows how many rows stand before it. Parquet says that in its
description. Lines of CSV and JSON are counted first. A file is read by one worker where its parts depend on each other:
where it is packed, where one object or one quoted field goes over several lines, or where it cannot be read.
"""

import dataclasses
import io
import itertools
from collections.abc import Iterable, Iterator
from typing import Any, BinaryIO, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import TaggedOutput

from beam_jobs import csv_rows, parquet_rows
from beam_jobs.dialects import Dialect
from beam_jobs.file_windows import window
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_rows import FilePart, RawFile
from beam_jobs.raw_streams import naming, opened, seekable
from beam_jobs.texts import lines_of

PART_BYTES = 1 << 26  # Of a file, or of the unpacked columns of row groups, that one worker reads at a time.
_TO_COUNT = "to_count"
_BLOCK = 1 << 16


class _Counted(NamedTuple):
    """A part of a file of lines.

    Attributes:
        file: the file with this part, whose `rows_before` is not known yet.
        rows: lines in the part, without those before the first row.
        is_alone: whether each of its lines stands for itself.
    """

    file: RawFile
    rows: int
    is_alone: bool


class SplitFiles(beam.PTransform):
    """Turns raw files into files and parts of files, in any order. Each row is in one of them."""

    def expand(self, files: beam.PCollection) -> beam.PCollection:
        split = files | "Split" >> beam.FlatMap(_parts).with_outputs(_TO_COUNT, main="main")
        numbered = (
            split[_TO_COUNT]
            | "Spread parts" >> beam.Reshuffle()
            | "Count lines" >> beam.Map(_counted)
            | "Parts of a file" >> beam.GroupByKey()
            | "Number rows" >> beam.FlatMapTuple(_numbered)
        )
        return (split["main"], numbered) | "Files and parts" >> beam.Flatten() | "Spread files" >> beam.Reshuffle()


def _parts(file: RawFile) -> Iterator[Any]:
    """A small file as it is, the parts of a large one; those of lines go to the output `_TO_COUNT`."""
    dialect = file.dialect
    try:
        if dialect.format == "parquet" and dialect.compression == "none":
            yield from _groups(file)
            return
        parts = _ranges(file) if _has_lines(dialect) else []
    except (RawDataError, OSError):
        parts = []  # Whoever reads it says why.
    if len(parts) < 2:
        yield file
    yield from (TaggedOutput(_TO_COUNT, part) for part in parts if len(parts) > 1)


def _groups(file: RawFile) -> list[RawFile]:
    """The parts of a Parquet file, row groups that follow one another; a small file as it is."""
    with naming(file.path, "Parquet file"), seekable(file.path, "none") as stream:
        described = parquet_rows.described(file.path, stream)
    parts: list[RawFile] = []
    begin = size = before = rows = 0
    for number in range(described.num_row_groups):
        group = described.row_group(number)
        if size and size + group.total_byte_size > PART_BYTES:
            parts.append(dataclasses.replace(file, part=FilePart(begin, number, before)))
            begin, size, before = number, 0, rows
        size, rows = size + group.total_byte_size, rows + group.num_rows
    parts.append(dataclasses.replace(file, part=FilePart(begin, described.num_row_groups, before)))
    return parts if len(parts) > 1 else [file]


def _has_lines(dialect: Dialect) -> bool:
    """Whether each line break of the file can be found without reading what is before it."""
    is_wide = dialect.encoding.startswith(("utf-16", "utf-32"))  # There the byte of a line break is part of others.
    return dialect.format in ("csv", "jsonl") and dialect.compression == "none" and not is_wide


def _ranges(file: RawFile) -> list[RawFile]:
    """The parts of a file of lines, each from the start of a line to the start of another one."""
    with naming(file.path), opened(file.path, "none") as stream:
        size = stream.seek(0, io.SEEK_END)
        starts = [0, *(_line_start(stream, offset) for offset in range(PART_BYTES, size, PART_BYTES)), size]
    ranges = itertools.pairwise(sorted(set(starts)))
    return [dataclasses.replace(file, part=FilePart(begin, end, 0)) for begin, end in ranges]


def _line_start(stream: BinaryIO, offset: int) -> int:
    """Where the first line begins that does not begin before `offset`; the end of the file where there is none."""
    position = stream.seek(offset - 1)
    while block := stream.read(_BLOCK):
        line_end = block.find(b"\n")
        if line_end >= 0:
            return position + line_end + 1
        position += len(block)
    return position


def _counted(file: RawFile) -> tuple[str, _Counted]:
    """The lines of a part, with the path of the file as key."""
    assert file.part
    rows, is_alone = 0, True
    try:
        with naming(file.path), opened(file.path, "none") as stream:
            for line in lines_of(window(stream, file.part), file.dialect.encoding):
                rows += 1
                if file.dialect.format == "csv" and csv_rows.goes_on(line, file.dialect):
                    is_alone = False
                    break
    except RawDataError:
        is_alone = False
    if not file.part.begin and file.dialect.format == "csv":
        rows -= csv_rows.lines_before_rows(file.dialect)
    return file.path, _Counted(file, rows, is_alone)


def _numbered(path: str, counted: Iterable[_Counted]) -> Iterator[RawFile]:
    """The parts of a file, which now know how many rows are before them; or the whole file."""
    in_order = sorted(counted, key=lambda counted: counted.file.part)  # type: ignore[arg-type, return-value]  # All have parts.
    if not all(part.is_alone for part in in_order):
        yield dataclasses.replace(in_order[0].file, part=None)
        return
    before = 0
    for file, rows, _ in in_order:
        assert file.part
        yield dataclasses.replace(file, part=file.part._replace(rows_before=before))
        before += rows
