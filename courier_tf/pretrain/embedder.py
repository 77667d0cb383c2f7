"""The encoder as a SavedModel of stock ops: encoded photos in, embeddings out."""

from pathlib import Path

import tensorflow as tf

from courier_tf import images
from courier_tf.pretrain.encoder import load_encoder


class Embedder(tf.Module):
    """Encoded photos to embeddings, in float32.

    Args:
        encoder_directory: what `save_encoder` wrote.
        image_size: side in pixels at which the encoder was trained; photos of any other size are resized.
    """

    def __init__(self, encoder_directory: Path, image_size: int) -> None:
        super().__init__()
        policy = tf.keras.mixed_precision.global_policy()
        tf.keras.mixed_precision.set_global_policy("float32")
        self.encoder = load_encoder(encoder_directory)
        tf.keras.mixed_precision.set_global_policy(policy)
        self.image_size = image_size

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")])
    def embed(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files to {"embedding": [B, D] float32 of length 1}."""
        pixels = tf.map_fn(
            lambda photo: images.decode(photo, self.image_size),
            photos,
            fn_output_signature=tf.TensorSpec([self.image_size, self.image_size, 3], tf.uint8),
        )
        return {"embedding": self.encoder(pixels, training=False)}


def export_embedder(encoder_directory: Path, image_size: int, target: Path) -> None:
    """Writes the embedder as a SavedModel."""
    embedder = Embedder(encoder_directory, image_size)
    tf.saved_model.save(embedder, str(target), signatures={"serving_default": embedder.embed})
