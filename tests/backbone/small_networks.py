"""Networks of KerasCV that build and trace in a second, under names of their own."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from courier_tf.backbone.keras_cv_networks import NETWORKS, Network

LITE, MOBILE = "micro_lite", "micro_mobile"
SMALL = {
    LITE: Network(
        "EfficientNetLiteBackbone",
        {
            "width_coefficient": 1.0,
            "depth_coefficient": 1.0,
            "stackwise_kernel_sizes": [3, 5],
            "stackwise_num_repeats": [1, 2],
            "stackwise_input_filters": [32, 8],
            "stackwise_output_filters": [8, 8],
            "stackwise_expansion_ratios": [1, 2],
            "stackwise_strides": [1, 2],
        },
    ),
    MOBILE: Network(
        "MobileNetV3Backbone",
        {
            "stackwise_expansion": [1, 2],
            "stackwise_filters": [8, 16],
            "stackwise_kernel_size": [3, 5],
            "stackwise_stride": [2, 1],
            "stackwise_se_ratio": [0.25, None],
            "stackwise_activation": ["relu", "hard_swish"],
        },
    ),
}


@contextmanager
def small_networks() -> Iterator[None]:
    """Inside, `--backbone` can name them."""
    with pytest.MonkeyPatch.context() as patch:
        for name, network in SMALL.items():
            patch.setitem(NETWORKS, name, network)
        yield
