"""EfficientNet-lite against one written out in NumPy, and against its source where PyTorch is installed."""

import math

import numpy as np
import pytest
import tensorflow as tf
from safetensors.numpy import save_file

from courier_tf.backbone.architectures import architecture, is_installed
from courier_tf.backbone.checkpoints import CheckpointError
from courier_tf.backbone.efficientnet_lite import lite_weights
from courier_tf.backbone.pretrained_packages import PRETRAINED_PACKAGES

#: Stages of EfficientNet-lite0: blocks, kernel, stride, expansion, channels in and out (arXiv 1905.11946, table 1).
BLOCKS = (
    (1, 3, 1, 1, 32, 16),
    (2, 3, 2, 6, 16, 24),
    (2, 5, 2, 6, 24, 40),
    (3, 3, 2, 6, 40, 80),
    (3, 5, 1, 6, 80, 112),
    (4, 5, 2, 6, 112, 192),
    (1, 3, 1, 6, 192, 320),
)


@pytest.fixture(scope="module")
def lite():
    return architecture("efficientnetlite_b0").build()


@pytest.fixture(scope="module")
def state() -> dict[str, np.ndarray]:
    """A random checkpoint with the source's names and shapes."""
    rng = np.random.default_rng(0)
    tensors = {"_fc.weight": np.zeros([3, 1280], np.float32), "_fc.bias": np.zeros(3, np.float32)}

    def convolution(name, *shape):
        tensors[f"{name}.weight"] = rng.normal(0, math.prod(shape[1:]) ** -0.5, shape).astype(np.float32)

    def norm(name, width):
        for part in ("weight", "running_var"):
            tensors[f"{name}.{part}"] = rng.uniform(0.5, 2, width).astype(np.float32)
        for part in ("bias", "running_mean"):
            tensors[f"{name}.{part}"] = rng.normal(0, 0.5, width).astype(np.float32)
        tensors[f"{name}.num_batches_tracked"] = np.array(0, np.int64)

    convolution("_conv_stem", 32, 3, 3, 3)
    norm("_bn0", 32)
    number = 0
    for repeats, kernel, _, expansion, first, width in BLOCKS:
        for place in range(repeats):
            name, entering = f"_blocks.{number}", width if place else first
            inner = entering * expansion
            if expansion > 1:
                convolution(f"{name}._expand_conv", inner, entering, 1, 1)
                norm(f"{name}._bn0", inner)
            convolution(f"{name}._depthwise_conv", inner, 1, kernel, kernel)
            norm(f"{name}._bn1", inner)
            convolution(f"{name}._project_conv", width, inner, 1, 1)
            norm(f"{name}._bn2", width)
            number += 1
    convolution("_conv_head", 1280, 320, 1, 1)
    norm("_bn1", 1280)
    return tensors


def lite_in_numpy(state, photo):
    """One photo [H, W, 3] uint8 through EfficientNet-lite0, pixel by pixel of the map."""

    def norm(name, x):
        mean, variance = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        return (x - mean) / np.sqrt(variance + 1e-3) * state[f"{name}.weight"] + state[f"{name}.bias"]

    def convolve(name, x, stride, product):
        kernel = state[f"{name}.weight"]
        side = kernel.shape[-1]
        out = [-(-size // stride) for size in x.shape[:2]]
        # TensorFlow's SAME: as many zeros as the last step needs, the odd one at the end.
        needed = [max((n - 1) * stride + side - size, 0) for n, size in zip(out, x.shape[:2], strict=True)]
        x = np.pad(x, [*((n // 2, n - n // 2) for n in needed), (0, 0)])
        made = np.zeros([*out, kernel.shape[0]])
        for row in range(out[0]):
            for column in range(out[1]):
                top, left = row * stride, column * stride
                made[row, column] = np.einsum(product, x[top : top + side, left : left + side], kernel)
        return made

    def relu6(x):
        return np.clip(x, 0, 6)

    x = (photo - 127.0) / 128.0
    x = relu6(norm("_bn0", convolve("_conv_stem", x, 2, "hwi,oihw->o")))
    number = 0
    for repeats, _, stride, expansion, _, _ in BLOCKS:
        for place in range(repeats):
            name, entering = f"_blocks.{number}", x
            if expansion > 1:
                x = relu6(norm(f"{name}._bn0", convolve(f"{name}._expand_conv", x, 1, "hwi,oihw->o")))
            x = convolve(f"{name}._depthwise_conv", x, 1 if place else stride, "hwo,oihw->o")
            x = norm(
                f"{name}._bn2", convolve(f"{name}._project_conv", relu6(norm(f"{name}._bn1", x)), 1, "hwi,oihw->o")
            )
            x = x + entering if place else x
            number += 1
    return relu6(norm("_bn1", convolve("_conv_head", x, 1, "hwi,oihw->o")))


@pytest.mark.parametrize("size", [(32, 32), (37, 22)])
def test_loaded_weights_give_the_features_of_the_original(tmp_path, lite, state, size):
    save_file(state, tmp_path / "lite.safetensors")
    arch = architecture("efficientnetlite_b0")
    arch.load_file(lite, tmp_path / "lite.safetensors")
    photo = np.random.default_rng(1).integers(0, 256, [*size, 3]).astype(np.uint8)
    made = arch.apply(lite, arch.normalise(photo[None]))[0]
    np.testing.assert_allclose(made, lite_in_numpy(state, photo), rtol=1e-4, atol=1e-4)


def test_names_are_compared_strictly(tmp_path, lite, state):
    changed = {
        **state,
        "_blocks.99._bn1.bias": np.zeros(1, np.float32),
        "_conv_head.weight": np.zeros([1280, 320, 3, 3]),
    }
    del changed["_bn1.running_var"]
    save_file(changed, tmp_path / "lite.safetensors")
    before = lite.get_weights()
    with pytest.raises(CheckpointError) as refused:
        architecture("efficientnetlite_b0").load_file(lite, tmp_path / "lite.safetensors")
    told = "does not fit this backbone: missing: _bn1.running_var; 2 other tensors do not fit, either"
    assert str(refused.value).endswith(told)
    for value, kept in zip(before, lite.get_weights(), strict=True):
        np.testing.assert_array_equal(value, kept)


@pytest.mark.skipif(not is_installed("efficientnetlite_b0_imagenet"), reason="needs the extra `pretrained`")
def test_the_package_fills_every_weight(lite):
    before = {name: variable.numpy() for name, variable in lite_weights(lite).items()}
    assert len(before) == len(lite.weights)
    architecture("efficientnetlite_b0_imagenet").load_pretrained(lite)
    for name, variable in lite_weights(lite).items():
        assert not np.array_equal(before[name], variable), name


@pytest.mark.parity
@pytest.mark.parametrize("name", PRETRAINED_PACKAGES)
def test_against_the_source_network(name):
    """To run where `torch` and `efficientnet-lite-pytorch` are installed, too."""
    torch = pytest.importorskip("torch")
    source = pytest.importorskip("efficientnet_lite_pytorch").EfficientNet
    if not is_installed(name):
        pytest.skip(f"the package of {name} is not installed")
    arch = architecture(name)
    backbone = arch.build()
    arch.load_pretrained(backbone)
    rng = np.random.default_rng(0)
    for size in (64, 96, 128, 133, 224):
        # Its static padding is that of TensorFlow at this size.
        theirs = source.from_name(
            name.replace("efficientnetlite_b", "efficientnet-lite").removesuffix("_imagenet"), image_size=size
        )
        named = {key: variable for key, variable in lite_weights(backbone).items()}
        values = {key: variable.numpy() for key, variable in named.items()}
        for key, value in values.items():
            if value.ndim == 4:
                values[key] = value.transpose((2, 3, 0, 1) if "depthwise" in key else (3, 2, 0, 1))
        theirs.load_state_dict({key: torch.from_numpy(value) for key, value in values.items()}, strict=False)
        theirs.eval()
        photos = rng.integers(0, 256, [2, size, size, 3]).astype(np.uint8)
        with torch.no_grad():
            expected = theirs.extract_features(
                torch.from_numpy((photos.transpose(0, 3, 1, 2).astype(np.float32) - 127) / 128)
            )
        made = arch.apply(backbone, arch.normalise(photos))
        np.testing.assert_allclose(tf.transpose(made, [0, 3, 1, 2]), expected.numpy(), atol=1e-4)


@pytest.mark.slow
def test_weights_of_another_size_name_their_backbone(tmp_path, state):
    save_file(state, tmp_path / "lite.safetensors")
    other = architecture("efficientnetlite_b1")
    with pytest.raises(CheckpointError, match="weights of efficientnetlite_b0: add --backbone efficientnetlite_b0$"):
        other.load_file(other.build(), tmp_path / "lite.safetensors")
