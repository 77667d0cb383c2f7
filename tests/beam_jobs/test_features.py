"""The features job: a file of vectors for each file of items, in the same order, a row group at a time."""

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from beam_jobs import features as job
from courier_tf import images, schema
from courier_tf.features import sources
from courier_tf.features.extractor import fixed_view
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.files import FeatureFiles
from courier_tf.features.sources import Pixels
from courier_tf.settings import EmbedSettings
from courier_tf.workdir import artefacts, records
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import FEATURES, INGEST

from ..stage_facts import example
from .conftest import photo

FILES = ([f"a{n}" for n in range(11)], [], ["lonely"], ["bare", "too"])
BARE = {"a0", "a4", "a5", "a10", "bare", "too"}


def stored(item: str) -> bytes:
    """The photo of an item, as ingest stores it."""
    return b"" if item in BARE else photo("PNG", size=16, seed=sum(item.encode()))


def write_ingest(folder) -> None:
    with artefacts.write_aside(folder, MadeBy(INGEST, {}, {})) as draft:
        (draft.path / schema.ITEMS_FOLDER).mkdir()
        for number, items in enumerate(FILES):
            name = f"items-{number:05d}-of-{len(FILES):05d}.tfrecord"
            with tf.io.TFRecordWriter(str(draft.path / schema.ITEMS_FOLDER / name)) as writer:
                for item in items:
                    values = {
                        "item_id": item,
                        "image": stored(item),
                        "title": "",
                        "available_from": 2000 if item == "a3" else 10,
                        "photo_digest": b"",
                        "train_impressions": 0,
                        "train_events": 0,
                        schema.column_feature("category"): f"c-{item}",
                    }
                    writer.write(records.serialise(values, records.item_features(["category"])))
        draft.facts = example(IngestFacts)


@pytest.mark.slow
def test_a_file_of_vectors_for_each_file_of_items(tmp_path, monkeypatch):
    monkeypatch.setattr(job, "ROW_GROUP", 4)
    write_ingest(tmp_path / "ingest")
    target = tmp_path / "features"
    job.features(tmp_path / "ingest", target, "pixels", 1, EmbedSettings(embed_batch_size=3), MadeBy(FEATURES, {}, {}))
    files = FeatureFiles(target).files
    assert [file.name for file in files] == [f"features-{n:05d}-of-00004.parquet" for n in range(4)]
    for file, items in zip(files, FILES, strict=True):
        rows = pq.read_table(file).to_pylist()
        assert [row["item_id"] for row in rows] == items
        assert [row["category"] for row in rows] == [f"c-{item}" for item in items]
        assert [row["in_train_span"] for row in rows] == [item != "a3" for item in items]
        for row in rows:
            assert (row["vector"] is None) == (row["vector_view1"] is None) == (row["item_id"] in BARE)
            if row["vector"]:
                pixels = images.decode(stored(row["item_id"]), 16)[None]
                np.testing.assert_allclose(row["vector"], Pixels().vectors(pixels)[0], atol=1e-6)
                view = Pixels().vectors(fixed_view(pixels, 1))[0]
                np.testing.assert_allclose(row["vector_view1"], view, atol=1e-6)
    described = pq.ParquetFile(files[0]).metadata
    assert [described.row_group(n).num_rows for n in range(described.num_row_groups)] == [4, 4, 3]
    assert artefacts.read(target, FEATURES).facts.views == 1


def test_a_vector_that_is_not_finite_is_never_stored(tmp_path, monkeypatch):
    """The source is sound on the photos that it is tried on, and takes the root of a negative number for one item."""
    monkeypatch.setattr(sources, "FORMULAS", dict(sources.FORMULAS))
    bad = images.decode(stored("a7"), 16)

    def roots(photos):
        same = tf.reduce_all(photos == bad, axis=[1, 2, 3])
        return tf.sqrt(tf.where(same[:, None], -1.0, tf.reduce_mean(tf.cast(photos, tf.float32), axis=[1, 2])))

    sources.register("roots", roots, width=3)
    write_ingest(tmp_path / "ingest")
    target = tmp_path / "features"
    with pytest.raises(FeatureError) as raised:
        job.features(
            tmp_path / "ingest", target, "roots", 0, EmbedSettings(embed_batch_size=3), MadeBy(FEATURES, {}, {})
        )
    told = str(raised.value)
    assert "features: roots gives [nan nan nan] for the photo of item a7, but 3 finite numbers are needed" in told
    assert "\n" not in told and not target.exists()
