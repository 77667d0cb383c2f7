"""TFRecord files: TensorFlow reads what the client writes, and the other way round."""

import struct

import google_crc32c
import numpy as np
import pytest
import tensorflow as tf

from serving.client import tfrecords
from serving.client.tfrecords import BrokenRecordError, CutRecordError

rng = np.random.default_rng(0)
RECORDS = [rng.bytes(size) for size in (0, 1, 7, 8, 100, 4096, 1_000_000)]


def test_tensorflow_reads_the_records(tmp_path):
    (tmp_path / "ours").write_bytes(b"".join(map(tfrecords.framed, RECORDS)))
    assert list(tf.data.TFRecordDataset(str(tmp_path / "ours")).as_numpy_iterator()) == RECORDS


def test_the_records_of_tensorflow_are_read(tmp_path):
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        for record in RECORDS:
            writer.write(record)
    assert list(tfrecords.read(tmp_path / "theirs")) == RECORDS
    assert (tmp_path / "theirs").read_bytes() == b"".join(map(tfrecords.framed, RECORDS))


def test_every_flipped_bit_and_every_cut_is_noticed(tmp_path):
    file, content = tmp_path / "file", tfrecords.framed(b"first") + tfrecords.framed(b"second")
    start = len(tfrecords.framed(b"first"))
    for place in range(8 * len(content)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        file.write_bytes(changed)
        with pytest.raises(BrokenRecordError, match=f"record at byte {0 if place < 8 * start else start}"):
            list(tfrecords.read(file))
    for length in range(start + 1, len(content)):
        file.write_bytes(content[:length])
        records = tfrecords.read(file)
        assert next(records) == b"first"
        with pytest.raises(CutRecordError, match=f"record at byte {start}"):
            next(records)
    file.write_bytes(b"")
    assert list(tfrecords.read(file)) == []


def test_a_length_beyond_the_file_is_not_asked_for(tmp_path):
    """The checksum of the length is right: only the file says that 2^60 bytes are not there."""
    length = struct.pack("<Q", 2**60)
    crc = google_crc32c.value(length)
    masked = ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF
    (tmp_path / "file").write_bytes(length + struct.pack("<I", masked) + b"x")
    with pytest.raises(tfrecords.CutRecordError, match="at byte 0"):
        list(tfrecords.read(tmp_path / "file"))
