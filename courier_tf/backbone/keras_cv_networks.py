"""The networks of KerasCV that can be a backbone: name of its preset -> class and arguments.

KerasCV 0.9 asks the network for the arguments of a preset, even without weights. They are written out here, so that a
saved encoder can be built anywhere. EfficientNet-lite: arXiv 1905.11946 and TensorFlow's `efficientnet/lite`;
EfficientNetV2: arXiv 2104.00298, table 4; ResNetV2: arXiv 1603.05027; MobileNetV3: arXiv 1905.02244, tables 1 and 2.
"""

from typing import Any, NamedTuple

import keras_cv
import tensorflow as tf
from tensorflow import keras


class Network(NamedTuple):
    """A class of KerasCV and its arguments."""

    family: str  # Name of the class in `keras_cv.models`.
    arguments: dict[str, Any]

    def build(self, **more: Any) -> keras.Model:
        """The network with random weights, for floats [B, H, W, 3] that nothing rescales."""
        made = tf.autograph.experimental.do_not_convert(getattr(keras_cv.models, self.family))
        return made(include_rescaling=False, **self.arguments, **more)


def _lite(width: float, depth: float) -> Network:
    return Network(
        "EfficientNetLiteBackbone",
        {
            "width_coefficient": width,
            "depth_coefficient": depth,
            "stackwise_kernel_sizes": [3, 3, 5, 3, 5, 5, 3],
            "stackwise_num_repeats": [1, 2, 2, 3, 3, 4, 1],
            "stackwise_input_filters": [32, 16, 24, 40, 80, 112, 192],
            "stackwise_output_filters": [16, 24, 40, 80, 112, 192, 320],
            "stackwise_expansion_ratios": [1, 6, 6, 6, 6, 6, 6],
            "stackwise_strides": [1, 2, 2, 2, 1, 2, 1],
        },
    )


def _v2(width: float, depth: float, repeats: list[int], inputs: list[int], outputs: list[int]) -> Network:
    return Network(
        "EfficientNetV2Backbone",
        {
            "width_coefficient": width,
            "depth_coefficient": depth,
            "stackwise_kernel_sizes": [3] * 6,
            "stackwise_num_repeats": repeats,
            "stackwise_input_filters": inputs,
            "stackwise_output_filters": outputs,
            "stackwise_expansion_ratios": [1, 4, 4, 4, 6, 6],
            "stackwise_squeeze_and_excite_ratios": [0.0, 0.0, 0.0, 0.25, 0.25, 0.25],
            "stackwise_strides": [1, 2, 2, 2, 1, 2],
            "stackwise_conv_types": ["fused"] * 3 + ["unfused"] * 3,
        },
    )


def _v2_b(width: float, depth: float) -> Network:
    return _v2(width, depth, [1, 2, 2, 3, 5, 8], [32, 16, 32, 48, 96, 112], [16, 32, 48, 96, 112, 192])


def _resnet(blocks: list[int], block_type: str) -> Network:
    return Network(
        "ResNetV2Backbone",
        {
            "stackwise_filters": [64, 128, 256, 512],
            "stackwise_blocks": blocks,
            "stackwise_strides": [1, 2, 2, 2],
            "block_type": block_type,
        },
    )


_MOBILE_SMALL = Network(
    "MobileNetV3Backbone",
    {
        "stackwise_expansion": [1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        "stackwise_kernel_size": [3] * 3 + [5] * 8,
        "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [0.25, None, None] + [0.25] * 8,
        "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
    },
)
_MOBILE_LARGE = Network(
    "MobileNetV3Backbone",
    {
        "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 80, 80, 80, 80, 112, 112, 160, 160, 160],
        "stackwise_kernel_size": [3] * 3 + [5] * 3 + [3] * 6 + [5] * 3,
        "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
        "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
    },
)

#: Name of the preset, without `_imagenet` -> network.
NETWORKS: dict[str, Network] = {
    "efficientnetlite_b0": _lite(1.0, 1.0),
    "efficientnetlite_b1": _lite(1.0, 1.1),
    "efficientnetlite_b2": _lite(1.1, 1.2),
    "efficientnetlite_b3": _lite(1.2, 1.4),
    "efficientnetlite_b4": _lite(1.4, 1.8),
    "efficientnetv2_b0": _v2_b(1.0, 1.0),
    "efficientnetv2_b1": _v2_b(1.0, 1.1),
    "efficientnetv2_b2": _v2_b(1.1, 1.2),
    "efficientnetv2_b3": _v2_b(1.2, 1.4),
    "efficientnetv2_s": _v2(1.0, 1.0, [2, 4, 4, 6, 9, 15], [24, 24, 48, 64, 128, 160], [24, 48, 64, 128, 160, 256]),
    "mobilenet_v3_small": _MOBILE_SMALL,
    "mobilenet_v3_large": _MOBILE_LARGE,
    "resnet18_v2": _resnet([2, 2, 2, 2], "basic_block"),
    "resnet34_v2": _resnet([3, 4, 6, 3], "basic_block"),
    "resnet50_v2": _resnet([3, 4, 6, 3], "block"),
    "resnet101_v2": _resnet([3, 4, 23, 3], "block"),
    "resnet152_v2": _resnet([3, 8, 36, 3], "block"),
}
