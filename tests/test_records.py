"""Records that do not fit the schema."""

import pytest
import tensorflow as tf

from courier_tf import records, schema


def test_items_of_another_version_are_refused_by_name(tmp_path):
    folder = tmp_path / schema.ITEMS_FOLDER
    folder.mkdir()
    features = records.item_features([schema.CATEGORY])
    former = {name: kind for name, kind in features.items() if name != "train_impressions"}
    values = {name: b"x" if kind == "bytes" else 1 for name, kind in former.items()}
    with tf.io.TFRecordWriter(str(folder / "items-00000-of-00001.tfrecord")) as writer:
        writer.write(records.serialise(values, former))
    with pytest.raises(records.RecordError, match=rf"{tmp_path} do not fit the schema.*train_impressions"):
        records.read_items(tmp_path, [schema.CATEGORY])
