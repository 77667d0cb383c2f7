"""EfficientNet-lite: KerasCV's layers with the original's padding, and weights in the layout of EfficientNet-PyTorch.

The weights are those of TensorFlow's own EfficientNet-lite. Its convolutions pad as TensorFlow's "SAME" does, which
depends on the size of the map. KerasCV settles the padding when it builds the layers, and takes even maps for granted.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.checkpoints import fill, read_tensors
from courier_tf.backbone.keras_cv_networks import NETWORKS

LITE_FAMILY = "EfficientNetLiteBackbone"  # The class in KerasCV.

#: Tensors of such a file that are no weights of a backbone: counters, and the classifier.
NOT_WEIGHTS = re.compile(r"num_batches_tracked$|^_fc\.")


class SamePadding(keras.layers.Layer):
    """Zeros around a map, as TensorFlow's "SAME" puts them before a convolution with stride 2.

    Args:
        kernel: side of the convolution's kernel, odd.

    Call: [B, H, W, C] -> [B, H + p, W + p, C]. p is kernel - 2 for even sides, kernel - 1 for odd ones; the odd pixel
    goes to the bottom and the right.

    >>> SamePadding(3)(tf.ones([1, 4, 5, 1])).shape
    TensorShape([1, 5, 7, 1])
    """

    def __init__(self, kernel: int, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.kernel = kernel

    def call(self, pixels: tf.Tensor) -> tf.Tensor:
        amounts = []
        for axis in (1, 2):
            side = pixels.shape[axis] or tf.shape(pixels)[axis]
            total = self.kernel - 2 + side % 2
            amounts.append([total // 2, total - total // 2])
        padded = tf.pad(pixels, [[0, 0], *amounts, [0, 0]])
        return tf.ensure_shape(padded, [None, None, None, pixels.shape[3]])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "kernel": self.kernel}


def with_same_padding(backbone: keras.Model, name: str) -> keras.Model:
    """The same network, with fresh weights, whose strided convolutions pad as the original does at every size.

    Args:
        backbone: KerasCV's `EfficientNetLiteBackbone`.
        name: of the new model.
    """
    kernels = {"stem_conv_pad": backbone.get_layer("stem_conv").kernel_size[0]}
    for layer in backbone.layers:
        if layer.name.endswith("_dwconv_pad"):
            kernels[layer.name] = backbone.get_layer(layer.name.removesuffix("_pad")).kernel_size[0]

    def copy(layer: keras.layers.Layer) -> keras.layers.Layer:
        if layer.name in kernels:
            return SamePadding(kernels[layer.name], name=layer.name)
        return layer.__class__.from_config(layer.get_config())

    inputs = keras.Input([None, None, 3])
    cloned = keras.models.clone_model(backbone, input_tensors=inputs, clone_function=copy)
    return keras.Model(cloned.inputs, cloned.outputs[0], name=name)


def load_lite(backbone: keras.Model, file: Path) -> None:
    """Fills an EfficientNet-lite with the weights of a file in the layout of EfficientNet-PyTorch.

    Args:
        backbone: with KerasCV's names of layers.
        file: .pth, .pt or .safetensors.

    Raises:
        CheckpointError: the file cannot be read, or names or shapes differ. The backbone is then untouched.
    """
    tensors = {name: value for name, value in read_tensors(file).items() if not NOT_WEIGHTS.search(name)}
    fill(lite_weights(backbone), tensors, _as_ours, file, lambda: _size_of(tensors))


def lite_weights(backbone: keras.Model) -> dict[str, tf.Variable]:
    """Name in EfficientNet-PyTorch -> variable, for every weight of a backbone, moving statistics included."""
    variables: dict[str, tf.Variable] = {}
    names = {layer.name for layer in backbone.layers}

    def convolution(theirs: str, ours: str) -> None:
        variables[f"{theirs}.weight"] = backbone.get_layer(ours).weights[0]

    def norm(theirs: str, ours: str) -> None:
        layer = backbone.get_layer(ours)
        variables[f"{theirs}.weight"], variables[f"{theirs}.bias"] = layer.gamma, layer.beta
        variables[f"{theirs}.running_mean"], variables[f"{theirs}.running_var"] = (
            layer.moving_mean,
            layer.moving_variance,
        )

    convolution("_conv_stem", "stem_conv")
    norm("_bn0", "stem_bn")
    blocks = [layer.name.removesuffix("dwconv") for layer in backbone.layers if layer.name.endswith("_dwconv")]
    for number, block in enumerate(blocks):
        name = f"_blocks.{number}"
        if f"{block}expand_conv" in names:
            convolution(f"{name}._expand_conv", f"{block}expand_conv")
            norm(f"{name}._bn0", f"{block}expand_bn")
        convolution(f"{name}._depthwise_conv", f"{block}dwconv")
        norm(f"{name}._bn1", f"{block}bn")
        convolution(f"{name}._project_conv", f"{block}project_conv")
        norm(f"{name}._bn2", f"{block}project_bn")
    convolution("_conv_head", "top_conv")
    norm("_bn1", "top_bn")
    return variables


def _size_of(tensors: Mapping[str, np.ndarray]) -> str | None:
    """The EfficientNet-lite that has tensors of these shapes; None if there is none."""
    if "_conv_stem.weight" not in tensors:  # Building all of them takes seconds.
        return None
    shapes = {name: _as_ours(name, value).shape for name, value in tensors.items()}
    for name, network in NETWORKS.items():
        if network.family == LITE_FAMILY:
            wanted = lite_weights(network.build())
            if shapes == {name: tuple(variable.shape) for name, variable in wanted.items()}:
                return name
    return None


def _as_ours(name: str, value: np.ndarray) -> np.ndarray:
    """PyTorch keeps [out, in, height, width]; of a depthwise convolution [channels, 1, height, width]."""
    if value.ndim != 4:
        return value
    return value.transpose(2, 3, 0, 1) if name.endswith("_depthwise_conv.weight") else value.transpose(2, 3, 1, 0)
