"""Sharded TFRecords and reject files, shuffled at write time, the same bytes on every runner."""

import dataclasses
import json
import uuid
from collections.abc import Callable, Iterable, Iterator
from typing import get_args

import apache_beam as beam
import tensorflow as tf

from courier_tf import schema

REJECTS_FILE = "rejects.jsonl"


class WriteShuffled(beam.PTransform):
    """Writes `folder/prefix-00000-of-0000N.tfrecord`; every shard file is written, if empty.

    Takes (key, element) with a well-mixed int key that decides the shard.

    Args:
        folder: where to write; created if missing.
        prefix: of the file names.
        shards: N.
        expand: element -> (sort key, serialised record) pairs; records stand in the order of their sort keys.
    """

    def __init__(
        self, folder: str, prefix: str, shards: int, expand: Callable[[object], Iterable[tuple[int, bytes]]]
    ) -> None:
        super().__init__(f"Write {prefix} to {folder.rsplit('/', 1)[-1]}")
        self.folder, self.prefix, self.shards, self.expand_element = folder, prefix, shards, expand

    def expand(self, elements: beam.PCollection) -> beam.PCollection:
        shards = self.shards
        sharded = elements | "Shard" >> beam.Map(lambda pair: (pair[0] % shards, pair[1]))
        every = elements.pipeline | "Shards" >> beam.Create([(shard, None) for shard in range(shards)])
        return (
            {"elements": sharded, "every": every}
            | beam.CoGroupByKey()
            | beam.ParDo(_WriteShard(self.folder, self.prefix, shards, self.expand_element))
        )


class _WriteShard(beam.DoFn):
    def __init__(self, folder: str, prefix: str, shards: int, expand: Callable) -> None:
        self.folder, self.prefix, self.shards, self.expand_element = folder, prefix, shards, expand

    def process(self, group: tuple[int, dict[str, Iterable]]) -> Iterator[tuple[str, int]]:
        shard, elements = group
        rows = sorted(pair for element in elements["elements"] for pair in self.expand_element(element))
        target = f"{self.folder}/{self.prefix}-{shard:05d}-of-{self.shards:05d}.tfrecord"
        aside = f"{target}.{uuid.uuid4().hex}"  # A retried bundle must not write into the file of the first try.
        tf.io.gfile.makedirs(self.folder)
        with tf.io.TFRecordWriter(aside) as writer:
            for _, serialised in rows:
                writer.write(serialised)
        tf.io.gfile.rename(aside, target, overwrite=True)
        yield f"{self.folder.rsplit('/', 1)[-1]}_{self.prefix}", len(rows)


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
