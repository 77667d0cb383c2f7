"""User intention reconstruction: page-view items are rebuilt from the history by cross-attention (paper, 3.2)."""

from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf.schema import ATTENTION_HEADS


def attend(logits: tf.Tensor, values: tf.Tensor, mask: tf.Tensor) -> tf.Tensor:
    """Softmax over the unmasked places, in float32, and the weighted sum of the values.

    Args:
        logits: [..., P, H].
        values: [..., H, D].
        mask: bool, broadcastable to the logits; False where there is no history item.

    Returns:
        [..., P, D] float32. A row that is masked wholly gives zeros and zero gradients, never NaN.
    """
    mask = tf.broadcast_to(mask, tf.shape(logits))
    weights = tf.nn.softmax(tf.where(mask, tf.cast(logits, tf.float32), -1e9)) * tf.cast(mask, tf.float32)
    return tf.matmul(weights, tf.cast(values, tf.float32))


class WeightedSum(keras.layers.Layer):
    """The paper's text: r_j = sum_k softmax_k(scale * cos(e_j, h_k)) h_k, values not projected.

    >>> items = tf.eye(2)[None]  # A page view and a history of the same two items.
    >>> WeightedSum()(items, items, tf.constant([[True, True]])).numpy().round(3).tolist()
    [[[1.0, 0.0], [0.0, 1.0]]]

    Args:
        initial_scale: value at which the learned scale starts.

    Call: page_view [B, P, D] and history [B, H, D], unit vectors; history_mask [B, H] bool -> [B, P, D] float32.
    """

    def __init__(self, initial_scale: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.initial_scale = initial_scale

    def build(self, input_shape: Any) -> None:
        self.scale = self.add_weight("scale", [], initializer=keras.initializers.Constant(self.initial_scale))
        super().build(input_shape)

    def call(self, page_view: tf.Tensor, history: tf.Tensor, history_mask: tf.Tensor) -> tf.Tensor:
        cosine = tf.matmul(page_view, history, transpose_b=True)
        return attend(self.scale * cosine, history, history_mask[:, None, :])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_scale": self.initial_scale}


class MultiHead(keras.layers.Layer):
    """The authors' code: multi-head attention with learned query, key, value and output projections.

    The projections start as the identity, on inputs scaled to unit variance. So at first each head attends by the
    cosine of its part of the embeddings. Random projections would wreck a good encoder in the first hundred steps.

    Args:
        heads: attention heads; must divide the embedding width.

    Call: as `WeightedSum`.
    """

    def __init__(self, heads: int = ATTENTION_HEADS, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.heads = heads

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        if width % self.heads:
            raise ValueError(f"the embedding width {width} is not a multiple of heads={self.heads}")
        self.projections = {
            name: keras.layers.Dense(width, kernel_initializer="identity", name=name, dtype="float32")
            for name in ("query", "key", "value", "output")
        }
        for layer in self.projections.values():
            with tf.name_scope(layer.name):
                layer.build([None, width])
        super().build(input_shape)

    def call(self, page_view: tf.Tensor, history: tf.Tensor, history_mask: tf.Tensor) -> tf.Tensor:
        width, head_width = page_view.shape[-1], page_view.shape[-1] // self.heads

        def split(name: str, items: tf.Tensor) -> tf.Tensor:  # [B, L, D] to [B, heads, L, D / heads]
            projected = self.projections[name](tf.reshape(items * width**0.5, [-1, width]))
            return tf.transpose(tf.reshape(projected, [-1, tf.shape(items)[1], self.heads, head_width]), [0, 2, 1, 3])

        logits = tf.matmul(split("query", page_view), split("key", history), transpose_b=True) * head_width**-0.5
        mixed = attend(logits, split("value", history), history_mask[:, None, None, :])
        joined = tf.reshape(tf.transpose(mixed, [0, 2, 1, 3]), [-1, width])
        rebuilt = tf.reshape(self.projections["output"](joined), tf.shape(page_view))
        # Without this the output's bias would give an empty history a reconstruction.
        return rebuilt * tf.cast(tf.reduce_any(history_mask, axis=1), tf.float32)[:, None, None]

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "heads": self.heads}


class SelfAttention(keras.layers.Layer):
    """Ablation: attention with one learned query, which does not depend on the target.

    Call: as `WeightedSum`; the same vector for every item of a page view.
    """

    def __init__(self, initial_scale: float = 10.0, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.initial_scale = initial_scale

    def build(self, input_shape: Any) -> None:
        width = input_shape[-1]
        self.query = self.add_weight("query", [width], initializer=keras.initializers.RandomNormal(stddev=width**-0.5))
        self.scale = self.add_weight("scale", [], initializer=keras.initializers.Constant(self.initial_scale))
        super().build(input_shape)

    def call(self, page_view: tf.Tensor, history: tf.Tensor, history_mask: tf.Tensor) -> tf.Tensor:
        logits = self.scale * tf.linalg.matvec(history, tf.math.l2_normalize(self.query))
        return tf.broadcast_to(attend(logits[:, None], history, history_mask[:, None, :]), tf.shape(page_view))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "initial_scale": self.initial_scale}


class Mean(keras.layers.Layer):
    """Ablation: the mean of the history, which does not depend on the target.

    Call: as `WeightedSum`; the same vector for every item of a page view.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def call(self, page_view: tf.Tensor, history: tf.Tensor, history_mask: tf.Tensor) -> tf.Tensor:
        logits = tf.zeros(tf.shape(history_mask))[:, None]
        return tf.broadcast_to(attend(logits, history, history_mask[:, None, :]), tf.shape(page_view))


RECONSTRUCTIONS = {
    "weighted_sum": WeightedSum,
    "multi_head": MultiHead,
    "self_attention": SelfAttention,
    "mean": Mean,
}


def new_reconstruction(name: str, attention_scale: float) -> keras.layers.Layer:
    """A reconstruction by its name. Those with one learned scale of their logits start it at `attention_scale`."""
    kind = RECONSTRUCTIONS[name]
    scaled = {"initial_scale": attention_scale} if kind in (WeightedSum, SelfAttention) else {}
    return kind(name="reconstruction", **scaled)
