"""The encoder as a SavedModel of TensorFlow's own ops: encoded photos in, embeddings out."""

import functools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf import images
from courier_tf.features.extractor import joined, load_extractor
from courier_tf.features.files import EXTRACTOR_FOLDER
from courier_tf.features.signatures import PIXELS, VECTORS
from courier_tf.pretrain.encoder_files import load_encoder
from courier_tf.pretrain.head_encoder import HeadEncoder
from serving.client.contract import DEFAULT_SIGNATURE


class FrozenEncoder(tf.Module):
    """A trained encoder in float32, as part of a SavedModel.

    Args:
        directory: what `save_encoder` wrote, and `save_extractor` where the encoder takes features.
        image_size: side S in pixels at which the encoder was trained; photos of any other size are resized.

    Attributes:
        encode: [B, S, S, 3] uint8 -> [B, D] float32 of length 1.
        vectors_width: W where the encoder takes features, else None.
        encode_vectors: [B, W] float32 -> [B, D], where the encoder takes features.
    """

    def __init__(self, directory: Path, image_size: int) -> None:
        super().__init__()
        policy = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("float32")
        encoder = load_encoder(directory)
        keras.mixed_precision.set_global_policy(policy)
        # Only the weights become part of the SavedModel. With a Keras model it would also keep every layer's calls.
        self.weights = encoder.variables
        self.image_size = image_size
        self.encode_vectors: Callable[[tf.Tensor], tf.Tensor] = functools.partial(encoder.__call__, training=False)
        self.encode: Callable[[tf.Tensor], tf.Tensor] = self.encode_vectors
        self.vectors_width: int | None = None
        if isinstance(encoder, HeadEncoder):
            self.vectors_width = sum(encoder.widths)
            self.extractor = load_extractor(directory / EXTRACTOR_FOLDER)
            extract = self.extractor.signatures[PIXELS]
            self.encode = lambda pixels: self.encode_vectors(joined(extract(pixels=pixels)))


class Embedder(FrozenEncoder):
    """Encoded photos to embeddings. A photo that cannot be decoded raises an error."""

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def embed(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files to {"embedding": [B, D] float32 of length 1}."""
        return {"embedding": self.encode(images.decode_all(photos, self.image_size))}


def export_embedder(encoder_directory: Path, image_size: int, target: Path) -> None:
    """Writes the embedder as a SavedModel. Where the encoder takes features, it has a signature for them, too."""
    embedder = Embedder(encoder_directory, image_size)
    signatures = {DEFAULT_SIGNATURE: embedder.embed}
    if embedder.vectors_width:
        signatures[VECTORS] = tf.function(
            lambda vectors: {"embedding": embedder.encode_vectors(vectors)},
            input_signature=[tf.TensorSpec([None, embedder.vectors_width], tf.float32, name="vectors")],
            autograph=False,
        )
    save_module(embedder, signatures, target)


def save_module(module: tf.Module, signatures: Mapping[str, Any], target: Path) -> None:
    """Writes a module as a SavedModel with these signatures. It is for serving and has no gradients."""
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, str(target), signatures=signatures, options=options)
