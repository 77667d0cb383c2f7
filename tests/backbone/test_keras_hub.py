"""With the same weights our Swin-T gives the features of keras-hub's, which needs a newer Keras: `make test-newest`."""

import re

import numpy as np
import pytest
import tensorflow as tf

from courier_tf.backbone.checkpoints import weights_of
from courier_tf.backbone.swin import SIZES, SwinBackbone

#: Parts of keras-hub's names and the official ones.
NAMES = {
    "patch_embedding/conv_projection": "patch_embed.proj",
    "patch_embedding/norm": "patch_embed.norm",
    "attn/attention_": "attn.",
    "attn.projection": "attn.proj",
    "kernel": "weight",
    "gamma": "weight",
    "beta": "bias",
}


def official_name(path: str) -> str:
    for theirs, official in NAMES.items():
        path = path.replace(theirs, official)
    return (
        re.sub(r"stage_(\d)/blocks_(\d)", r"layers.\1.blocks.\2", path).replace("stage_", "layers.").replace("/", ".")
    )


@pytest.mark.parity
@pytest.mark.parametrize("size", [224, 448])
def test_pooled_features_equal_keras_hubs(size):
    import keras_hub

    preset = SIZES["tiny"]
    theirs = keras_hub.models.SwinTransformerBackbone(
        image_shape=(size, size, 3),
        embed_dim=preset["dim"],
        depths=preset["depths"],
        num_heads=preset["heads"],
        window_size=preset["window"],
    )
    ours = SwinBackbone(**preset)
    rng = np.random.default_rng(0)
    wanted, seen = weights_of(ours), set()
    for weight in theirs.weights:
        name = official_name(weight.path)
        if name in wanted:
            mean = 1.0 if weight.path.endswith("gamma") else 0.0
            value = rng.normal(mean, 0.1, weight.shape).astype(np.float32)
            weight.assign(value)
            wanted[name].assign(value)
            seen.add(name)
        else:
            assert name.endswith("relative_position_index"), f"{weight.path} has no counterpart"
    assert seen == set(wanted)
    photos = rng.normal(size=[2, size, size, 3]).astype(np.float32)
    expected = np.asarray(theirs(photos)).mean(axis=1)  # Theirs are tokens, ours a map.
    pooled = tf.reduce_mean(ours(photos), axis=[1, 2]).numpy()
    assert expected.shape == (2, 768) and expected.std() > 0.1
    np.testing.assert_allclose(pooled, expected, atol=1e-4)
