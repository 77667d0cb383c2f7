"""The encoder as a SavedModel of TensorFlow's own ops: encoded photos in, embeddings out."""

import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf import images
from courier_tf.pretrain.encoder import load_encoder
from serving.client.contract import DEFAULT_SIGNATURE


class FrozenEncoder(tf.Module):
    """A trained encoder in float32, as part of a SavedModel.

    Args:
        directory: what `save_encoder` wrote.
        image_size: side S in pixels at which the encoder was trained; photos of any other size are resized.
    """

    def __init__(self, directory: Path, image_size: int) -> None:
        super().__init__()
        policy = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("float32")
        encoder = load_encoder(directory)
        keras.mixed_precision.set_global_policy(policy)
        # Only the weights become part of the SavedModel. With a Keras model it would also keep every layer's calls.
        self.weights = encoder.variables
        self.encode = functools.partial(encoder.__call__, training=False)  # [B, S, S, 3] uint8 -> [B, D] of length 1.
        self.image_size = image_size


class Embedder(FrozenEncoder):
    """Encoded photos to embeddings. A photo that cannot be decoded raises an error."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def embed(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files to {"embedding": [B, D] float32 of length 1}."""
        pixels = tf.map_fn(
            lambda photo: images.decode(photo, self.image_size),
            photos,
            fn_output_signature=tf.TensorSpec([self.image_size, self.image_size, 3], tf.uint8),
        )
        return {"embedding": self.encode(pixels)}


def export_embedder(encoder_directory: Path, image_size: int, target: Path) -> None:
    """Writes the embedder as a SavedModel."""
    embedder = Embedder(encoder_directory, image_size)
    save_module(embedder, {DEFAULT_SIGNATURE: embedder.embed}, target)


def save_module(module: tf.Module, signatures: Mapping[str, Any], target: Path) -> None:
    """Writes a module as a SavedModel with these signatures. It is for serving and has no gradients."""
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(target), signatures=signatures, options=options)
