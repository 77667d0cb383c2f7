"""Sharded record files, shuffled at write time, and reject files: the same bytes on every runner."""

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import Any, get_args

import apache_beam as beam
import tensorflow as tf

from courier_tf import schema

REJECTS_FILE = "rejects.jsonl"


def write_tfrecords(file: str, records: list[bytes]) -> None:
    """Writes serialised records to a TFRecord file."""
    with tf.io.TFRecordWriter(file) as writer:
        for serialised in records:
            writer.write(serialised)


class WriteShuffled(beam.PTransform):
    """Writes `folder/prefix-00000-of-0000N.tfrecord`; every shard file is written, if empty.

    Takes (key, element) with a well-mixed int key that decides the shard.

    Args:
        folder: where to write; created if missing.
        prefix: of the file names.
        shards: N.
        expand: element -> (sort key, record) pairs; records stand in the order of their sort keys.
        write: (file, records of a shard) -> the file, TFRecords unless said otherwise.
        extension: of the file names.
    """

    def __init__(
        self,
        folder: str,
        prefix: str,
        shards: int,
        expand: Callable[[object], Iterable[tuple[Any, Any]]],
        write: Callable[[str, list], None] = write_tfrecords,
        extension: str = "tfrecord",
    ) -> None:
        super().__init__(f"Write {prefix} to {folder.rsplit('/', 1)[-1]}")
        self.shards = shards
        self.write_shard = _WriteShard(f"{folder}/{prefix}", f"{shards:05d}.{extension}", expand, write)

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        shards = self.shards
        sharded = elements | "Shard" >> beam.Map(lambda pair: (pair[0] % shards, pair[1]))
        every = elements.pipeline | "Shards" >> beam.Create([(shard, None) for shard in range(shards)])
        return {"elements": sharded, "every": every} | beam.CoGroupByKey() | beam.ParDo(self.write_shard)


class _WriteShard(beam.DoFn):
    """Writes `start-SHARD-of-end`."""

    def __init__(self, start: str, end: str, expand: Callable, write: Callable) -> None:
        self.start, self.end, self.expand_element, self.write = start, end, expand, write

    def process(self, group: tuple[int, dict[str, Iterable]]) -> Iterator[tuple[str, int]]:
        shard, elements = group
        rows = sorted(pair for element in elements["elements"] for pair in self.expand_element(element))
        folder, prefix = self.start.rsplit("/", 1)
        target = f"{self.start}-{shard:05d}-of-{self.end}"
        aside = f"{target}.{uuid.uuid4().hex}"  # A retried bundle must not write into the file of the first try.
        tf.io.gfile.makedirs(folder)
        self.write(aside, [record for _, record in rows])
        tf.io.gfile.rename(aside, target, overwrite=True)
        yield f"{folder.rsplit('/', 1)[-1]}_{prefix}", len(rows)


def write_rejects(folder: str, rejects: list[schema.Reject]) -> dict[str, int]:
    """Writes the reject file, ordered by file and row; returns the number of rejects of each kind."""
    tf.io.gfile.makedirs(folder)
    counts = dict.fromkeys(get_args(schema.RejectKind), 0)
    with tf.io.gfile.GFile(f"{folder}/{REJECTS_FILE}", "w") as stream:
        for reject in sorted(rejects, key=lambda reject: (reject.file, reject.row, reject.field)):
            text = json.dumps(dataclasses.asdict(reject), ensure_ascii=True)
            stream.write(text + "\n")
            counts[reject.kind] += 1
    return counts
