"""The operations of a transformer on single tokens, with their gradients written out to save passes over memory.

On CPUs and small photos these element-wise steps cost more than the matrix products. So normalisation and GELU keep one
tensor each for the backward pass, and the affine part of a layer norm is folded into the dense layer after it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow import keras

EPSILON = 1e-5  # That of the published Swin.


def normalise(tokens: tf.Tensor, dtype: tf.DType = tf.float32) -> tf.Tensor:
    """[..., C] to mean 0 and variance 1 over the last axis. Computed in float32, returned in `dtype`."""

    @tf.custom_gradient
    def in_dtype(tokens: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
        wide = tf.cast(tokens, tf.float32)
        centred = wide - tf.reduce_mean(wide, axis=-1, keepdims=True)
        inverse = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), axis=-1, keepdims=True) + EPSILON)
        normal = tf.cast(centred * inverse, dtype)

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            up, kept = tf.cast(upstream, tf.float32), tf.cast(normal, tf.float32)
            along = tf.reduce_mean(up * kept, axis=-1, keepdims=True)
            return tf.cast(inverse * (up - tf.reduce_mean(up, axis=-1, keepdims=True) - kept * along), tokens.dtype)

        return normal, gradient

    return in_dtype(tokens)


@tf.custom_gradient
def gelu(tokens: tf.Tensor) -> tuple[tf.Tensor, Callable[[tf.Tensor], tf.Tensor]]:
    """The exact GELU, x times the normal distribution function (arXiv 1606.08415)."""

    def distribution() -> tf.Tensor:
        return 0.5 + 0.5 * tf.math.erf(tokens * np.sqrt(0.5).astype(tokens.dtype.as_numpy_dtype))

    def gradient(upstream: tf.Tensor) -> tf.Tensor:
        density = tf.exp(-0.5 * tf.square(tokens)) * float(1 / np.sqrt(2 * np.pi))
        return upstream * (distribution() + tokens * density)

    return tokens * distribution(), gradient


@tf.custom_gradient
def add_bias(
    tokens: tf.Tensor, bias: tf.Tensor
) -> tuple[tf.Tensor, Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]]:
    """[N, C] in any float dtype plus [C] float32. The gradient of the bias is summed in float32.

    On CPUs TensorFlow's own gradient sums in the dtype of the tokens: in bfloat16 ten thousand ones make 256.
    """

    def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        return upstream, tf.raw_ops.BiasAddGrad(out_backprop=tf.cast(upstream, tf.float32))

    return tf.nn.bias_add(tokens, tf.cast(bias, tokens.dtype)), gradient


def on_tokens(tokens: tf.Tensor, kernel: tf.Tensor, bias: tf.Tensor | None) -> tf.Tensor:
    """[..., C] times [C, D] as one product of matrices, because more dimensions are slower."""
    flat = tf.matmul(tf.reshape(tokens, [-1, tokens.shape[-1]]), tf.cast(kernel, tokens.dtype))
    if bias is not None:
        flat = add_bias(flat, bias)
    known = [size if size is not None else tf.shape(tokens)[axis] for axis, size in enumerate(tokens.shape[:-1])]
    return tf.reshape(flat, [*known, kernel.shape[-1]])


class TokenDense(keras.layers.Layer):
    """A dense layer: [..., C] to [..., units].

    Args:
        units: width of the output.
        use_bias: whether a bias is added.
    """

    def __init__(self, units: int, use_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.units, self.use_bias = units, use_bias

    def build(self, input_shape: Any) -> None:
        narrow = keras.initializers.TruncatedNormal(stddev=0.02)
        # Read in float32 under every policy, so that the folding below is exact and the product casts once.
        self.kernel = self.add_weight(
            "kernel", [input_shape[-1], self.units], initializer=narrow, experimental_autocast=False
        )
        self.bias = self.add_weight("bias", [self.units], experimental_autocast=False) if self.use_bias else None
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return on_tokens(tokens, self.kernel, self.bias)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "units": self.units, "use_bias": self.use_bias}


class NormDense(TokenDense):
    """A layer norm and the dense layer after it: [..., C] to [..., units].

    Args:
        units, use_bias: as in `TokenDense`.
        scale: [units] constants by which the output is multiplied, folded in as well.
    """

    def __init__(self, units: int, use_bias: bool = True, scale: np.ndarray | None = None, **kwargs: Any) -> None:
        # The norm takes the tokens as they are, in float32 under every policy.
        super().__init__(units, use_bias, **{**kwargs, "autocast": False})
        self.scale = np.ones([units], np.float32) if scale is None else np.asarray(scale, np.float32)

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight("gamma", [input_shape[-1]], initializer="ones", experimental_autocast=False)
        self.beta = self.add_weight("beta", [input_shape[-1]], initializer="zeros", experimental_autocast=False)
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        kernel = self.gamma[:, None] * self.kernel * self.scale
        shift = tf.linalg.matvec(self.kernel, self.beta, transpose_a=True)
        bias = (shift if self.bias is None else shift + self.bias) * self.scale
        return on_tokens(normalise(tokens, tf.as_dtype(self.compute_dtype)), kernel, bias)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "scale": self.scale.tolist()}


class Norm(keras.layers.Layer):
    """A layer norm without a dense layer: [..., C] to the same shape, float32 under every policy."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})

    def build(self, input_shape: Any) -> None:
        self.gamma = self.add_weight("gamma", [input_shape[-1]], initializer="ones")
        self.beta = self.add_weight("beta", [input_shape[-1]], initializer="zeros")
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        return normalise(tokens) * self.gamma + self.beta
