"""The extractor as a SavedModel, and the files of a features stage."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf import images
from courier_tf.features.extractor import PHOTOS, PIXELS, VIEWS, Extractor, fixed_view, joined, load_extractor
from courier_tf.features.files import FeatureFiles, features_schema, vector_columns
from courier_tf.features.sources import Colour, FeatureError, Pixels
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import FeatureFacts
from courier_tf.workdir.stages import FEATURES

RANDOM = np.random.default_rng(5)
PHOTOS_GIVEN = RANDOM.integers(0, 256, [5, 32, 32, 3], np.uint8)


def test_a_saved_extractor_gives_the_vectors_of_each_source(tmp_path):
    Extractor(["colour", "pixels"], 32, views=2).save(tmp_path)
    loaded = load_extractor(tmp_path)
    encoded = tf.stack([tf.io.encode_png(photo) for photo in PHOTOS_GIVEN])
    of_photos = loaded.signatures[PHOTOS](photos=encoded)
    of_pixels = loaded.signatures[PIXELS](pixels=tf.constant(PHOTOS_GIVEN))
    assert set(of_photos) == set(vector_columns(2, 2))
    for name, vectors in of_photos.items():
        np.testing.assert_allclose(vectors, of_pixels[name], atol=1e-6)
    np.testing.assert_allclose(of_pixels["source0"], Colour().vectors(PHOTOS_GIVEN), atol=1e-6)
    np.testing.assert_allclose(of_pixels["source1"], Pixels().vectors(PHOTOS_GIVEN), atol=1e-6)
    second = fixed_view(tf.constant(PHOTOS_GIVEN), 2)
    np.testing.assert_allclose(of_pixels["source1_view2"], Pixels().vectors(second), atol=1e-6)
    both = joined({name: of_pixels[name] for name in ("source0", "source1")})
    assert both.shape == (5, 256 + 768) and np.allclose(both[:, :256], of_pixels["source0"])


def test_photos_of_another_size_are_resized_as_everywhere(tmp_path):
    Extractor(["pixels"], 16).save(tmp_path)
    large = RANDOM.integers(0, 256, [40, 24, 3], np.uint8)
    given = tf.io.encode_png(large)
    expected = Pixels().vectors(images.decode(given, 16)[None])
    found = load_extractor(tmp_path).signatures[PHOTOS](photos=given[None])["source0"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("number", range(1, VIEWS + 1))
def test_a_view_depends_on_its_photo_alone(number):
    whole = fixed_view(tf.constant(PHOTOS_GIVEN), number).numpy()
    alone = np.concatenate([fixed_view(tf.constant(photo[None]), number).numpy() for photo in PHOTOS_GIVEN])
    np.testing.assert_array_equal(whole, alone)
    others = [fixed_view(tf.constant(PHOTOS_GIVEN), n).numpy() for n in range(1, VIEWS + 1) if n != number]
    assert all((whole != other).any() for other in [PHOTOS_GIVEN, *others])


def files_of(folder, rows):
    """A features stage with the sources a (2 wide, one further view) and b (1 wide, likewise)."""
    made_by = artefacts.MadeBy(FEATURES, {}, {})
    with artefacts.write_aside(folder, made_by) as draft:
        (draft.path / "items").mkdir()
        table = pa.Table.from_pylist(rows, features_schema(vector_columns(2, 1)))
        pq.write_table(table.slice(0, 2), draft.path / "items" / "features-00000-of-00002.parquet")
        pq.write_table(table.slice(2), draft.path / "items" / "features-00001-of-00002.parquet")
        draft.facts = FeatureFacts({"a": [1, 1], "b": [1]}, {"a": "x", "b": "y"}, 1, 32)
    return FeatureFiles(folder)


def row(item, first, view, b):
    names = {"source0": first, "source0_view1": view, "source1": b, "source1_view1": b}
    return {"item_id": item, "category": "", "in_train_span": True, **names}


ROWS = [
    row("c", [5.0, 6.0], [7.0, 8.0], [9.0]),
    row("b", None, None, None),
    row("a", [1.0, 2.0], [3.0, 4.0], [0.5]),
    row("gone", [1.0, 1.0], [1.0, 1.0], [1.0]),
]


def test_vectors_are_read_by_item_number(tmp_path):
    files, ids = files_of(tmp_path / "features", ROWS), np.array([b"a", b"b", b"c", b"d"], object)
    found = files.read(["b", "a"], ids)
    np.testing.assert_array_equal(found, [[0, 0, 0], [0.5, 1, 2], [0, 0, 0], [9, 5, 6], [0, 0, 0]])
    views = files.read(["a"], ids, views=True)
    np.testing.assert_array_equal(views[3], [[5, 6], [7, 8]])
    with pytest.raises(FeatureError, match=r"not \['c'\]"):
        files.read(["c"], ids)


@pytest.mark.parametrize("broken", [[float("nan"), 1.0], [1.0], [1.0, 2.0, 3.0]])
def test_broken_vectors_are_refused(broken, tmp_path):
    files = files_of(tmp_path / "features", [*ROWS[:2], row("a", broken, [3.0, 4.0], [0.5])])
    with pytest.raises(FeatureError, match="features-00001.*not finite, or not 2 wide"):
        files.read(["a"], np.array([b"a", b"c"], object))
