"""`similar_items`: the items whose photos look most like an item's, or like a photo. Exact search, stock ops."""

import numpy as np
import tensorflow as tf

from courier_tf import images, schema
from courier_tf.pretrain.frozen_encoder import FrozenEncoder
from courier_tf.schema import RowStatus

NEIGHBOURS = 50  # Of each answer; a client that wants fewer takes the first.


class ServedSimilarItems(tf.Module):
    """All items of the catalogue that have a photo, searched by the cosine of their embeddings.

    Every signature answers {"status": [B] int32 `schema.RowStatus`, "item_ids": [B, K] strings, the most similar first,
    "similarity": [B, K] float32 cosines, "model_version": [B] int64}; K is NEIGHBOURS, or all items there are. Where
    the status is not OK the ids are "" and the similarities 0.

    Args:
        encoder: that made the embeddings.
        ids: [N] bytes, N at least 1.
        embeddings: [N, D] float32 of length 1.
        version: that the answers name.
    """

    def __init__(self, encoder: FrozenEncoder, ids: np.ndarray, embeddings: np.ndarray, version: int) -> None:
        super().__init__()
        self.encoder, self.version = encoder, version
        self.ids = tf.Variable(ids.astype(object), trainable=False, name="ids", dtype=tf.string)
        self.embeddings = tf.Variable(embeddings, trainable=False, name="embeddings")
        rows = np.arange(len(ids), dtype=np.int32)
        self.rows = tf.lookup.StaticHashTable(
            tf.lookup.KeyValueTensorInitializer(ids.astype(object), rows), default_value=-1
        )
        self._by_embedding = tf.function(
            self._of_embedding,
            input_signature=[tf.TensorSpec([None, embeddings.shape[1]], tf.float32, name="embedding")],
            autograph=False,
        )

    @property
    def signatures(self) -> dict[str, tf.types.experimental.GenericFunction]:
        """By name."""
        return {
            schema.DEFAULT_SIGNATURE: self.by_item,
            schema.BY_EMBEDDING: self._by_embedding,
            schema.BY_PHOTO: self.by_photo,
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="item_id")], autograph=False)
    def by_item(self, item_id: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] item ids; an item is not similar to itself."""
        row = self.rows.lookup(item_id)
        status = tf.where(row < 0, int(RowStatus.UNKNOWN_ITEM), int(RowStatus.OK))
        return self._nearest(tf.gather(self.embeddings, tf.maximum(row, 0)), status, without=row)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def by_photo(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files."""
        pixels, status = images.decode_rows(photos, self.encoder.image_size)
        return self._nearest(self.encoder.encode(pixels), status)

    def _of_embedding(self, embedding: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B, D] float32 of any length, as `image_embedder` gives them."""
        length = tf.norm(embedding, axis=1)
        usable = tf.math.is_finite(length) & (length > 0)
        status = tf.where(usable, int(RowStatus.OK), int(RowStatus.NO_DIRECTION))
        direction = tf.math.divide_no_nan(embedding, length[:, None])
        return self._nearest(tf.where(usable[:, None], direction, 0.0), status)

    def _nearest(self, query: tf.Tensor, status: tf.Tensor, without: tf.Tensor | None = None) -> dict[str, tf.Tensor]:
        similarity, place = self._best(query, without)
        found = (status == RowStatus.OK)[:, None] & tf.math.is_finite(similarity)
        return {
            "status": status,
            "item_ids": tf.where(found, tf.gather(self.ids, place), ""),
            "similarity": tf.where(found, similarity, 0.0),
            "model_version": tf.fill(tf.shape(status), tf.constant(self.version, tf.int64)),
        }

    def _best(self, query: tf.Tensor, without: tf.Tensor | None) -> tuple[tf.Tensor, tf.Tensor]:
        """([B, K] cosines, largest first, [B, K] rows of the items), a row of each [B] left out where one is given."""
        scores = tf.matmul(query, self.embeddings, transpose_b=True)
        if without is not None:
            own = tf.stack([tf.range(tf.size(without)), tf.maximum(without, 0)], axis=1)
            scores = tf.tensor_scatter_nd_update(scores, own, tf.fill(tf.shape(without), -np.inf))
        return tf.math.top_k(scores, min(NEIGHBOURS, self.embeddings.shape[0]))
