"""Writes sharded record files, shuffled, and reject files. The bytes are the same on every runner."""

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple, get_args

import apache_beam as beam
import tensorflow as tf

from beam_jobs.work_done import RECORDS, Pieces
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.workdir import stored

REJECTS_FILE = "rejects.jsonl"
MOST_REJECTS = 100_000  # Of each kind that are listed. All are counted.
MOST_SHOWN = 500  # Characters of a field or of a reason.

_Collected = dict[str, tuple[int, list[schema.Reject]]]  # Kind -> (number, the first of them).


def write_tfrecords(file: str, records: list[bytes]) -> None:
    """Writes serialised records to a TFRecord file."""
    with tf.io.TFRecordWriter(file) as writer:
        for serialised in records:
            writer.write(serialised)


class WriteShuffled(beam.PTransform):
    """Writes `folder/prefix-00000-of-0000N.tfrecord`. Every shard file is written, also an empty one.

    Takes (key, element) pairs. The key is a well-mixed int that decides the shard.

    Args:
        draft: the draft of the stage, here or on a store.
        folder: folder to write in there; created if missing.
        prefix: first part of the file names.
        shards: N, the number of files.
        expand: element -> (sort key, record) pairs. Records are written in the order of their sort keys.
        write: writes the records of a shard to a file; TFRecords by default.
        extension: extension of the file names.
    """

    def __init__(
        self,
        draft: str,
        folder: str,
        prefix: str,
        shards: int,
        expand: Callable[[Any], Iterable[tuple[Any, Any]]],
        write: Callable[[str, list[Any]], None] = write_tfrecords,
        extension: str = "tfrecord",
    ) -> None:
        super().__init__(f"Write {prefix} to {folder}")
        self.shards = shards
        self.write_shard = _WriteShard(draft, f"{folder}/{prefix}", f"{shards:05d}.{extension}", expand, write)

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        shards = self.shards
        sharded = elements | "Shard" >> beam.Map(lambda pair: (pair[0] % shards, pair[1]))
        every = elements.pipeline | "Shards" >> beam.Create([(shard, None) for shard in range(shards)])
        return {"elements": sharded, "every": every} | beam.CoGroupByKey() | beam.ParDo(self.write_shard)


class _WriteShard(beam.DoFn):
    """Writes `start-SHARD-of-end`, and notes what it has written."""

    def __init__(
        self,
        draft: str,
        start: str,
        end: str,
        expand: Callable[[Any], Iterable[tuple[Any, Any]]],
        write: Callable[[str, list[Any]], None],
    ) -> None:
        self.draft, self.start, self.end, self.expand_element, self.write = draft, start, end, expand, write
        self.done = Pieces(RECORDS)

    def process(self, group: tuple[int, dict[str, Iterable[Any]]]) -> Iterator[tuple[str, int]]:
        shard, elements = group
        rows = sorted(pair for element in elements["elements"] for pair in self.expand_element(element))
        draft, name = place_of(self.draft), f"{self.start}-{shard:05d}-of-{self.end}"
        with transfer.written_aside(draft / name) as aside:
            self.write(str(aside), [record for _, record in rows])
            stored.note(draft, name, aside)
        self.done.add(len(rows))
        yield self.start.replace("/", "_"), len(rows)


class Rejects(NamedTuple):
    """What was rejected: the number of each kind, and the first of them, in the order of file and row."""

    counts: dict[str, int]
    listed: list[schema.Reject]


class CollectRejects(beam.CombineFn):
    """Combines rejects into `Rejects`. Memory holds `most` of each kind, and all are counted."""

    def __init__(self, most: int = MOST_REJECTS) -> None:
        self.most = most

    def create_accumulator(self) -> _Collected:
        return {}

    def add_input(self, collected: _Collected, reject: schema.Reject) -> _Collected:
        number, listed = collected.get(reject.kind, (0, []))
        listed.append(reject)
        collected[reject.kind] = number + 1, self._first(listed, 2 * self.most)
        return collected

    def merge_accumulators(self, parts: Iterable[_Collected]) -> _Collected:
        whole: _Collected = {}
        for part in parts:
            for kind, (number, listed) in part.items():
                before, first = whole.get(kind, (0, []))
                whole[kind] = before + number, self._first([*first, *listed], 2 * self.most)
        return whole

    def extract_output(self, collected: _Collected) -> Rejects:
        counts = dict.fromkeys(get_args(schema.RejectKind), 0)
        counts |= {kind: number for kind, (number, _) in collected.items()}
        listed = [reject for _, part in collected.values() for reject in self._first(part, self.most)]
        return Rejects(counts, sorted(listed, key=_place))

    def _first(self, listed: list[schema.Reject], most: int) -> list[schema.Reject]:
        """Cuts a list down to `self.most` where it is longer than `most`."""
        return listed if len(listed) <= most else sorted(listed, key=_place)[: self.most]


def _place(reject: schema.Reject) -> tuple[str, int, str, str]:
    return reject.file, reject.row, reject.field, reject.reason


def write_rejects(folder: str, rejects: Rejects) -> dict[str, int]:
    """Writes the reject file, also where there is none. Returns the number of rejects of each kind."""
    lines = []
    for reject in rejects.listed:
        shown = dataclasses.replace(reject, field=reject.field[:MOST_SHOWN], reason=reject.reason[:MOST_SHOWN])
        lines.append(json.dumps(dataclasses.asdict(shown), ensure_ascii=True) + "\n")
    transfer.write_bytes(place_of(folder) / REJECTS_FILE, "".join(lines).encode())
    return rejects.counts
