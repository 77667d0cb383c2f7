"""Writes sharded files, shuffled. The bytes are the same on every runner."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsSingleton

from beam_jobs.work_done import RECORDS, Pieces
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.workdir import stored


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
        shards: N, the number of files: one int.
        expand: element -> (sort key, record) pairs. Records are written in the order of their sort keys.
        write: writes the records of a shard to a file; TFRecords by default.
        extension: extension of the file names.
    """

    def __init__(
        self,
        draft: str,
        folder: str,
        prefix: str,
        shards: beam.PCollection,
        expand: Callable[[Any], Iterable[tuple[Any, Any]]],
        write: Callable[[str, list[Any]], None] = write_tfrecords,
        extension: str = "tfrecord",
    ) -> None:
        super().__init__(f"Write {prefix} to {folder}")
        self.shards = shards
        self.write_shard = _WriteShard(draft, f"{folder}/{prefix}", extension, expand, write)

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        shards = AsSingleton(self.shards)
        sharded = elements | "Shard" >> beam.Map(_into_shard, shards=shards)
        every = self.shards | "Shards" >> beam.FlatMap(lambda number: [(shard, None) for shard in range(number)])
        joined = {"elements": sharded, "every": every} | beam.CoGroupByKey()
        return joined | beam.ParDo(self.write_shard, shards=shards)


def _into_shard(pair: tuple[int, Any], shards: int) -> tuple[int, Any]:
    return pair[0] % shards, pair[1]


class _WriteShard(beam.DoFn):
    """Writes `start-SHARD-of-SHARDS.extension`, and notes what it has written."""

    def __init__(
        self,
        draft: str,
        start: str,
        extension: str,
        expand: Callable[[Any], Iterable[tuple[Any, Any]]],
        write: Callable[[str, list[Any]], None],
    ) -> None:
        self.draft, self.start, self.extension = draft, start, extension
        self.expand_element, self.write = expand, write
        self.done = Pieces(RECORDS)

    def process(self, group: tuple[int, dict[str, Iterable[Any]]], shards: int) -> Iterator[tuple[str, int]]:
        shard, elements = group
        rows = sorted(pair for element in elements["elements"] for pair in self.expand_element(element))
        draft, name = place_of(self.draft), f"{self.start}-{shard:05d}-of-{shards:05d}.{self.extension}"
        with transfer.written_aside(draft / name) as aside:
            self.write(str(aside), [record for _, record in rows])
            stored.note(draft, name, aside)
        self.done.add(len(rows))
        yield self.start.replace("/", "_"), len(rows)
