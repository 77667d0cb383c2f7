"""A 2-D Swin Transformer as a KerasCV backbone (arXiv 2103.14030). KerasCV 0.9 has only one for videos."""

from collections.abc import Sequence
from typing import Any, Literal

import keras_cv
import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone import windows
from courier_tf.backbone.attention import WindowAttention
from courier_tf.backbone.survival import Survival
from courier_tf.backbone.tokens import Norm, NormDense, TokenDense, gelu, on_tokens

Padding = Literal["masked", "torchvision"]

#: Presets: patch, dim, depths, heads and window of each size. `nano` is for CPUs and small photos (64 px).
SIZES: dict[str, dict[str, Any]] = {
    "nano": {"patch": 4, "dim": 48, "depths": (1, 1, 2), "heads": (2, 4, 8), "window": 4, "mlp_ratio": 2},
    "tiny": {"patch": 4, "dim": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24), "window": 7},
    "small": {"patch": 4, "dim": 96, "depths": (2, 2, 18, 2), "heads": (3, 6, 12, 24), "window": 7},
    "base": {"patch": 4, "dim": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32), "window": 7},
}


class SwinBlock(keras.layers.Layer):
    """Window attention and a two-layer MLP, each after a layer norm and with a residual path.

    Args:
        dim, heads, window: as in `WindowAttention`.
        shifted: whether the windows are shifted by half their side.
        mlp_ratio: width of the MLP's hidden layer, in units of `dim`.
        recompute: keep only the block's input for the gradient, and compute the block again in the backward pass.
        padding: as in `SwinBackbone`.

    Call: [B, H, W, dim] float32, any H and W, and [B] the factors of the residuals, or None -> [B, H, W, dim] float32.
    A map that is no larger than a window is not shifted. The residual path stays in float32 under every policy: the
    difference of two photos is small beside what they share, and bfloat16 would lose it.
    """

    def __init__(
        self,
        dim: int,
        heads: int,
        window: int,
        shifted: bool,
        mlp_ratio: int = 4,
        recompute: bool = False,
        padding: Padding = "masked",
        **kwargs: Any,
    ) -> None:
        super().__init__(**{**kwargs, "autocast": False})
        self.dim, self.heads, self.window, self.shifted = dim, heads, window, shifted
        self.mlp_ratio, self.recompute, self.padding = mlp_ratio, recompute, padding
        self.attention = WindowAttention(dim, heads, window, name="attention")
        self.expand = NormDense(mlp_ratio * dim, name="expand")
        self.contract = TokenDense(dim, name="contract")

    def build(self, input_shape: Any) -> None:
        # AutoGraph would convert the creation of weights inside `call`.
        widths = (self.dim, self.dim, self.mlp_ratio * self.dim)
        layers: tuple[keras.layers.Layer, ...] = (self.attention, self.expand, self.contract)
        for layer, width in zip(layers, widths, strict=True):
            with tf.name_scope(layer.name):
                layer.build([None, None, None, width])
        super().build(input_shape)

    def _attend(self, tokens: tf.Tensor) -> tf.Tensor:
        fit = windows.Fit.of(tokens, self.window, self.shifted)
        if self.padding == "masked":
            return fit.leave(self.attention(fit.enter(tokens), fit.mask()))
        # Padded after the norm: there a token of zeros still has the query, key and value of the biases.
        qkv = fit.enter(self.attention.qkv(tokens), self.attention.of_padding())
        return fit.leave(self.attention.mix(qkv, fit.mask(seen=True)))

    def _forward(self, tokens: tf.Tensor, survival: tf.Tensor | None) -> tf.Tensor:
        def surviving(residual: tf.Tensor) -> tf.Tensor:
            residual = tf.cast(residual, tokens.dtype)
            return residual if survival is None else residual * survival[:, None, None, None]

        tokens = tokens + surviving(self._attend(tokens))
        return tokens + surviving(self.contract(gelu(self.expand(tokens))))

    def call(self, tokens: tf.Tensor, survival: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        survival = survival if training else None
        if not (self.recompute and training):
            return self._forward(tokens, survival)
        return tf.recompute_grad(lambda kept: self._forward(kept, survival))(tokens)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dim": self.dim,
            "heads": self.heads,
            "window": self.window,
            "shifted": self.shifted,
            "mlp_ratio": self.mlp_ratio,
            "recompute": self.recompute,
            "padding": self.padding,
        }


class PatchEmbedding(keras.layers.Layer):
    """Cuts photos into patches, each of which becomes a token: [B, H, W, C] -> [B, H / p, W / p, dim].

    It does what a convolution with stride p does, as one matrix product, because oneDNN's convolution gives an empty
    batch the wrong shape. It runs in float32 under every policy: it costs little, and its gradients are sums over all
    patches.

    Args:
        dim: width of a token.
        patch: side of a patch, in pixels.
        padding: as in `SwinBackbone`. A photo that the patch does not divide gets zeros at the bottom and the right
            (masked), or loses pixels there (torchvision).
    """

    def __init__(self, dim: int, patch: int, padding: Padding = "masked", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "dtype": "float32"})
        self.dim, self.patch, self.padding = dim, patch, padding

    def build(self, input_shape: Any) -> None:
        self.kernel = self.add_weight("kernel", [self.patch, self.patch, input_shape[-1], self.dim])
        self.bias = self.add_weight("bias", [self.dim], initializer="zeros")
        super().build(input_shape)

    def call(self, photos: tf.Tensor) -> tf.Tensor:
        side, channels = self.patch, photos.shape[3]
        if self.padding == "masked":
            height, width = (-(-size // side) for size in windows.size_of(photos))
            photos = windows.pad(photos, height * side, width * side)
        else:
            height, width = (size // side for size in windows.size_of(photos))
            photos = photos[:, : height * side, : width * side]
        patches = tf.transpose(tf.reshape(photos, [-1, height, side, width, side, channels]), [0, 1, 3, 2, 4, 5])
        patches = tf.reshape(patches, [-1, height, width, side * side * channels])
        return on_tokens(patches, tf.reshape(self.kernel, [side * side * channels, self.dim]), self.bias)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim, "patch": self.patch, "padding": self.padding}


class PatchMerging(keras.layers.Layer):
    """Joins 2 x 2 neighbours, halves their joint width: [B, H, W, C] -> [B, ceil(H / 2), ceil(W / 2), 2 C] float32."""

    def __init__(self, dim: int, **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "autocast": False})
        self.dim = dim
        self.reduction = NormDense(2 * dim, use_bias=False, name="reduction")

    def build(self, input_shape: Any) -> None:
        with tf.name_scope(self.reduction.name):
            self.reduction.build([None, None, None, 4 * self.dim])
        super().build(input_shape)

    def call(self, tokens: tf.Tensor) -> tf.Tensor:
        height, width = windows.size_of(tokens)
        tokens = windows.pad(tokens, height + height % 2, width + width % 2)
        height, width = (height + 1) // 2, (width + 1) // 2
        quarters = tf.reshape(tokens, [-1, height, 2, width, 2, self.dim])
        # In the published order: down before right.
        quarters = tf.reshape(tf.transpose(quarters, [0, 1, 3, 4, 2, 5]), [-1, height, width, 4 * self.dim])
        return tf.cast(self.reduction(quarters), tf.float32)

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "dim": self.dim}


class SwinBackbone(keras_cv.models.Backbone):
    """Swin Transformer: photos to a feature map, 2-D.

    Args:
        patch: side of a patch, in pixels.
        dim: width of the first stage; each stage doubles it.
        depths: blocks of each stage.
        heads: attention heads of each stage.
        window: side of the attention windows, in tokens.
        mlp_ratio: width of each MLP's hidden layer, in units of its stage's width.
        drop_path: stochastic depth of the last block; grows linearly from 0 at the first.
        recompute: compute each block again on the way back (gradient checkpointing): less memory, more time.
        padding: how the network sees what a map lacks for whole windows. masked: not at all, so that small maps lose
            nothing. torchvision: as zeros after the first norm of a block, which take part in the attention; published
            weights have learned with it. On maps of whole windows both are the same.
        input_shape: (height, width, 3); None where any size may come.

    Input [B, H, W, 3], floats, normalised by the caller; output [B, h, w, dim * 2^(stages - 1)] float32, the map after
    the last layer norm. `pyramid_level_inputs` names the end of each stage. In training, `survival` ([B, blocks], drawn
    by `self.survival.draw`) fixes which residuals are dropped.

    Example:
    >>> SwinBackbone(**SIZES["nano"])(tf.zeros([1, 64, 64, 3])).shape
    TensorShape([1, 4, 4, 192])
    """

    # Nothing here has Python control flow on tensors, and converting the code takes longer than running it once.
    @tf.autograph.experimental.do_not_convert
    def __init__(
        self,
        *,
        patch: int = 4,
        dim: int = 96,
        depths: Sequence[int] = (2, 2, 6, 2),
        heads: Sequence[int] = (3, 6, 12, 24),
        window: int = 7,
        mlp_ratio: int = 4,
        drop_path: float = 0.0,
        recompute: bool = False,
        padding: Padding = "masked",
        input_shape: tuple[int | None, int | None, int] = (None, None, 3),
        **kwargs: Any,
    ) -> None:
        if len(depths) != len(heads):
            raise ValueError(f"depths and heads must have one entry per stage, but depths={depths} and heads={heads}")
        blocks = sum(depths)
        rates = [drop_path * block / max(blocks - 1, 1) for block in range(blocks)]
        survival = Survival(rates, name="survival")
        image = keras.Input(input_shape)
        survives = survival(image)
        tokens = PatchEmbedding(dim, patch, padding, name="patch_embedding")(image)
        tokens = Norm(name="patch_norm")(tokens)
        pyramid: dict[str, str] = {}
        block = 0
        for stage, (depth, stage_heads) in enumerate(zip(depths, heads, strict=True)):
            width = dim * 2**stage
            if stage:
                tokens = PatchMerging(width // 2, name=f"stage{stage}_merging")(tokens)
            for place in range(depth):
                name = f"stage{stage}_block{place}"
                layer = SwinBlock(width, stage_heads, window, bool(place % 2), mlp_ratio, recompute, padding, name=name)
                tokens = layer(tokens, survives[:, block] if rates[block] else None)
                block += 1
            pyramid[f"P{stage + 2}"] = name
        tokens = Norm(name="final_norm")(tokens)
        super().__init__(inputs=image, outputs=tokens, **kwargs)
        self.pyramid_level_inputs = pyramid
        self.patch, self.dim, self.depths, self.heads = patch, dim, tuple(depths), tuple(heads)
        self.window, self.mlp_ratio, self.drop_path, self.recompute = window, mlp_ratio, drop_path, recompute
        self.image_shape, self.padding = tuple(input_shape), padding
        self.survival = survival

    @tf.autograph.experimental.do_not_convert
    def call(
        self, inputs: tf.Tensor, training: bool | None = None, mask: Any = None, survival: Any = None
    ) -> tf.Tensor:
        with self.survival.given(survival):
            return super().call(inputs, training=training, mask=mask)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "patch": self.patch,
            "dim": self.dim,
            "depths": self.depths,
            "heads": self.heads,
            "window": self.window,
            "mlp_ratio": self.mlp_ratio,
            "drop_path": self.drop_path,
            "recompute": self.recompute,
            "padding": self.padding,
            "input_shape": self.image_shape,
        }
