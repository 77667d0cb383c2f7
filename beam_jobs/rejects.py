"""Rows and photos that cannot be used: counted as they come, and written to dead-letter files.

No process holds more than a file of them. Between the steps they are packed: rows that are lost for one reason are much
alike, and ten million of them take some hundred megabytes.
"""

import dataclasses
import heapq
import json
import zlib
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton, TaggedOutput
from apache_beam.transforms.window import GlobalWindows

from beam_jobs.packing import pack, unpack
from beam_jobs.write import WriteShuffled
from courier_tf import schema

PREFIX = "rejects"  # rejects/rejects-00000-of-00001.jsonl
FILE_ROWS = 100_000  # Rejects of a file, on average.
MOST_SHOWN = 500  # Characters of a field or of a reason.
EXAMPLES = 3  # Rejects of each kind that a message shows.
_BLOCK = 5_000  # Rejects that are packed together.
KINDS = "kinds"  # Tag of an output.

#: Kind -> (number, the first of them in the order of file and row, as lines of JSON with their places).
Kinds = dict[str, tuple[int, list[tuple[Any, ...]]]]
#: (number of rejects, packed).
Block = tuple[int, bytes]


def pack_rejects(rejects: beam.PCollection, name: str) -> beam.pvalue.DoOutputsTuple:
    """Turns rejects into blocks (main output) and their `Kinds` (output `KINDS`), where they come from.

    Args:
        rejects: of one place.
        name: for the label of the step.
    """
    return rejects | f"Pack rejects {name}" >> beam.ParDo(_Pack()).with_outputs(KINDS, main="main")


class _Pack(beam.DoFn):
    def start_bundle(self) -> None:
        self.rows: list[tuple[Any, ...]] = []
        self.kinds: Kinds = {}

    def process(self, reject: schema.Reject) -> Iterator[Block]:
        row = (reject.file, reject.row, reject.field[:MOST_SHOWN], reject.reason[:MOST_SHOWN], reject.kind)
        self.rows.append(row)
        _add(self.kinds, reject.kind, 1, [row])
        if len(self.rows) == _BLOCK:
            yield packed(self.rows)
            self.rows = []

    def finish_bundle(self) -> Iterator[Any]:
        if self.rows:
            yield GlobalWindows.windowed_value(packed(self.rows))
        if self.kinds:
            yield TaggedOutput(KINDS, GlobalWindows.windowed_value(self.kinds))


def packed(rows: list[tuple[Any, ...]]) -> Block:
    """A block of rejects, as tuples of their fields."""
    return len(rows), pack(rows)


def unpacked(block: Block) -> list[tuple[Any, ...]]:
    """The rejects that `packed` was given."""
    rows: list[tuple[Any, ...]] = unpack(block[1])
    return rows


def _add(kinds: Kinds, kind: str, number: int, rows: list[tuple[Any, ...]]) -> None:
    before, first = kinds.get(kind, (0, []))
    if len(first) == EXAMPLES and len(rows) == 1 and rows[0] > first[-1]:
        kinds[kind] = before + number, first
    else:
        kinds[kind] = before + number, heapq.nsmallest(EXAMPLES, [*first, *rows])


class AddKinds(beam.CombineFn):
    """Adds `Kinds`."""

    def create_accumulator(self) -> Kinds:
        return {}

    def add_input(self, sums: Kinds, more: Kinds) -> Kinds:
        for kind, (number, rows) in more.items():
            _add(sums, kind, number, rows)
        return sums

    def merge_accumulators(self, parts: Iterable[Kinds]) -> Kinds:
        whole: Kinds = {}
        for part in parts:
            self.add_input(whole, part)
        return whole

    def extract_output(self, sums: Kinds) -> Kinds:
        return sums


def line_of(row: tuple[Any, ...]) -> str:
    """A reject as a line of JSON, in ASCII: a name in it may hold anything."""
    return json.dumps(dataclasses.asdict(schema.Reject(*row)), ensure_ascii=True)


class WriteRejects(beam.PTransform):
    """Writes blocks of rejects to dead-letter files, also where there is none. In a file they stand by file and row.

    Args:
        draft: the draft of the stage.
    """

    def __init__(self, draft: str) -> None:
        super().__init__("Write rejects")
        self.draft = draft

    def expand(self, blocks: beam.PCollection) -> beam.PCollection:
        files = (
            blocks
            | "Sizes" >> beam.Map(lambda block: block[0])
            | "Number" >> beam.CombineGlobally(sum)
            | "Files" >> beam.Map(lambda number: max(1, -(-number // FILE_ROWS)))
        )
        parts = blocks | "Spread" >> beam.FlatMap(_spread, files=AsSingleton(files))
        return parts | WriteShuffled(self.draft, schema.REJECTS_FOLDER, PREFIX, files, _lines, _write_lines, "jsonl")


def _spread(block: Block, files: int) -> Iterator[tuple[int, Block]]:
    """(number of the file, its rejects of the block)."""
    if files == 1:
        yield 0, block
        return
    of_files: dict[int, list[tuple[Any, ...]]] = {}
    for row in unpacked(block):
        of_files.setdefault(zlib.crc32(f"{row[0]}\x1f{row[1]}".encode()) % files, []).append(row)
    yield from ((file, packed(rows)) for file, rows in of_files.items())


def _lines(block: Block) -> Iterator[tuple[tuple[Any, ...], str]]:
    return ((row, line_of(row)) for row in unpacked(block))


def _write_lines(file: str, lines: Iterable[str]) -> None:
    with open(file, "w", encoding="ascii") as stream:
        stream.writelines(f"{line}\n" for line in lines)
