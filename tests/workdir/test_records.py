"""Records that do not fit the schema."""

from pathlib import Path

import pytest
import tensorflow as tf

from courier_tf import schema
from courier_tf.workdir import records
from courier_tf.workdir.records import RecordError, files


def test_items_of_another_version_are_refused_by_name(tmp_path):
    folder = tmp_path / schema.ITEMS_FOLDER
    folder.mkdir()
    features = records.item_features([schema.CATEGORY])
    earlier = {name: kind for name, kind in features.items() if name != "train_impressions"}
    values = {name: b"x" if kind == "bytes" else 1 for name, kind in earlier.items()}
    with tf.io.TFRecordWriter(str(folder / "items-00000-of-00001.tfrecord")) as writer:
        writer.write(records.serialise(values, earlier))
    with pytest.raises(records.RecordError, match=rf"{tmp_path} do not fit the schema.*train_impressions"):
        records.read_items(tmp_path, [schema.CATEGORY])


def test_a_file_that_is_missing_is_noticed_and_one_half_written_is_none(tmp_path):
    for number in (0, 2):
        (tmp_path / f"train-0000{number}-of-00003.tfrecord").write_bytes(b"")
    (tmp_path / "train-00001-of-00003.tfrecord.b7c1").write_bytes(b"half")
    with pytest.raises(RecordError, match="holds 2 of the 3 files train-"):
        files(tmp_path, "train")
    (tmp_path / "train-00001-of-00003.tfrecord").write_bytes(b"")
    assert [Path(file).name for file in files(tmp_path, "train")] == [
        f"train-0000{n}-of-00003.tfrecord" for n in range(3)
    ]
    with pytest.raises(RecordError, match="holds no files valid-"):
        files(tmp_path, "valid")
