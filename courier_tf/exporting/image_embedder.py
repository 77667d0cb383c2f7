"""`image_embedder`: photos in; embedding, cluster ID and residual codes out."""

import numpy as np
import tensorflow as tf

from courier_tf import images, schema
from courier_tf.clusters.files import NO_CLUSTER
from courier_tf.pretrain.frozen_encoder import FrozenEncoder


class ServedEmbedder(tf.Module):
    """An encoder and its codebook as a server calls them. Every output has the rows of the request as its first axis.

    Args:
        encoder: trained.
        codebook: [L, K, D], which belongs to this encoder.
        version: that the answers name.
    """

    def __init__(self, encoder: FrozenEncoder, codebook: np.ndarray, version: int) -> None:
        super().__init__()
        self.encoder, self.version = encoder, version
        self.codebook = tf.Variable(codebook, trainable=False, name="codebook")
        size = encoder.image_size
        self._of_pixels = tf.function(
            lambda pixels: self._answer(pixels, tf.zeros(tf.shape(pixels)[:1], tf.int32)),
            # Of one size: a server that joins requests into batches cannot join photos of several.
            input_signature=[tf.TensorSpec([None, size, size, 3], tf.uint8, name="pixels")],
            autograph=False,
        )

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """By name: encoded photos, and [B, S, S, 3] uint8 pixels, S the encoder's image size; both answer alike."""
        return {schema.DEFAULT_SIGNATURE: self.of_photos, schema.PIXELS: self._of_pixels}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def of_photos(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files of any size.

        Returns:
            {"status": [B] int32 `schema.RowStatus`, "embedding": [B, D] float32 of length 1, "cluster_id": [B] and
            "codes": [B, L] int32, "model_version": [B] int64}. Where the status is not OK the embedding is 0 and the
            cluster ID and codes are NO_CLUSTER.
        """
        return self._answer(*images.decode_rows(photos, self.encoder.image_size))

    def _answer(self, pixels: tf.Tensor, status: tf.Tensor) -> dict[str, tf.Tensor]:
        embedding, usable = self.encoder.encode(pixels), (status == schema.RowStatus.OK)[:, None]
        left, codes = embedding, []
        for centroids in tf.unstack(self.codebook):
            score = tf.matmul(left, centroids, transpose_b=True) - 0.5 * tf.reduce_sum(tf.square(centroids), axis=1)
            codes.append(tf.argmax(score, axis=1, output_type=tf.int32))
            left -= tf.gather(centroids, codes[-1])
        found = tf.where(usable, tf.stack(codes, axis=1), NO_CLUSTER)
        return {
            "status": status,
            "embedding": tf.where(usable, embedding, 0.0),
            "cluster_id": found[:, 0],
            "codes": found,
            "model_version": tf.fill(tf.shape(status), tf.constant(self.version, tf.int64)),
        }
