"""The extractor as a SavedModel, and the files of a features stage."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf import images
from courier_tf.features.extractor import VIEWS, Extractor, fixed_view, joined, load_extractor
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.files import FeatureFiles, features_schema, folder_of, read_together, rows_together
from courier_tf.features.signatures import PHOTOS, PIXELS
from courier_tf.features.sources import Colour, Pixels
from courier_tf.workdir import artefacts
from courier_tf.workdir.facts import FeatureFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import FEATURES

RANDOM = np.random.default_rng(5)
PHOTOS_GIVEN = RANDOM.integers(0, 256, [5, 32, 32, 3], np.uint8)


def test_a_saved_extractor_gives_the_vectors_of_each_source(tmp_path):
    Extractor(["colour", "pixels"], 32, views=2).save(tmp_path)
    loaded = load_extractor(tmp_path)
    encoded = tf.stack([tf.io.encode_png(photo) for photo in PHOTOS_GIVEN])
    of_photos = loaded.signatures[PHOTOS](photos=encoded)
    of_pixels = loaded.signatures[PIXELS](pixels=tf.constant(PHOTOS_GIVEN))
    names = [f"source{place}{view}" for place in range(2) for view in ("", "_view1", "_view2")]
    assert set(of_photos) == set(names)
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


def files_of(folder, source, rows):
    """Features of a source whose vectors have two parts of one number, with one further view."""
    made_by = MadeBy(FEATURES, {}, {})
    columns = ("item_id", "vector", "vector_view1")
    items = [dict(zip(columns, row, strict=True), category="", in_train_span=True) for row in rows]
    with artefacts.write_aside(folder / source, made_by) as draft:
        (draft.path / "items").mkdir()
        table = pa.Table.from_pylist(items, features_schema(1))
        pq.write_table(table.slice(0, 2), draft.path / "items" / "features-00000-of-00002.parquet")
        pq.write_table(table.slice(2), draft.path / "items" / "features-00001-of-00002.parquet")
        draft.facts = FeatureFacts(source, (1, 1), "x", 1, 32)
    return FeatureFiles(folder / source)


ROWS = [
    ("c", [5.0, 6.0], [7.0, 8.0]),
    ("b", None, None),
    ("a", [1.0, 2.0], [3.0, 4.0]),
    ("gone", [1.0, 1.0], [1.0, 1.0]),
]


def test_vectors_are_read_by_item_number(tmp_path):
    ids = np.array([b"a", b"b", b"c", b"d"], object)
    other = [(item, vector and [10 * number for number in vector], view) for item, vector, view in ROWS]
    first, second = files_of(tmp_path, "first", ROWS), files_of(tmp_path, "second", other)
    np.testing.assert_array_equal(first.read(ids), [[0, 0], [1, 2], [0, 0], [5, 6], [0, 0]])
    both = read_together([second, first], ids)
    np.testing.assert_array_equal(both[[1, 3]], [[10, 20, 1, 2], [50, 60, 5, 6]])
    views = read_together([second, first], ids, views=True)
    np.testing.assert_array_equal(views[3], [[50, 60, 5, 6], [7, 8, 7, 8]])
    rows = [row for files in zip(second.files, first.files, strict=True) for row in rows_together(files)]
    assert [key[0] for key, _ in rows] == ["c", "b", "a", "gone"]
    np.testing.assert_array_equal(rows[0][1], [50, 60, 5, 6])
    assert rows[1][1] is None


def test_files_of_different_items_are_not_joined(tmp_path):
    other = [(item.upper(), vector, view) for item, vector, view in ROWS]
    first, second = files_of(tmp_path, "first", ROWS), files_of(tmp_path, "second", other)
    with pytest.raises(FeatureError, match="hold different items"):
        list(rows_together([first.files[0], second.files[0]]))


@pytest.mark.parametrize("broken", [[float("nan"), 1.0], [1.0], [1.0, 2.0, 3.0]])
def test_broken_vectors_are_refused(broken, tmp_path):
    files = files_of(tmp_path, "first", [*ROWS[:2], ("a", broken, [3.0, 4.0])])
    with pytest.raises(FeatureError, match="features-00001.*not finite, or not 2 wide"):
        files.read(np.array([b"a", b"c"], object))


def test_a_path_becomes_a_folder_of_its_own():
    assert folder_of("/models/a b") != folder_of("/models/a_b") and "/" not in folder_of("/models/a b")
    assert len(folder_of("x" * 300)) < 80
