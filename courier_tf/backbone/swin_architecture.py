"""Our Swin as a backbone."""

import dataclasses
from pathlib import Path

import tensorflow as tf
from tensorflow import keras

from courier_tf.backbone.architecture import Architecture
from courier_tf.backbone.checkpoints import load_checkpoint
from courier_tf.backbone.swin import SIZES, Padding, SwinBackbone


@dataclasses.dataclass(frozen=True)
class SwinArchitecture(Architecture):
    """Our Swin in one of its sizes."""

    drops_residuals = True

    # Channel statistics of natural photos, as used by the published Swin weights.
    MEAN = (0.485 * 255, 0.456 * 255, 0.406 * 255)
    DEVIATION = (0.229 * 255, 0.224 * 255, 0.225 * 255)

    def build(self, drop_path: float = 0.0, recompute: bool = False, padding: Padding = "masked") -> SwinBackbone:
        size = SIZES[self.plain_name]
        return SwinBackbone(**size, drop_path=drop_path, recompute=recompute, padding=padding, name="backbone")

    def _scale(self, pixels: tf.Tensor) -> tf.Tensor:
        return (pixels - self.MEAN) / self.DEVIATION

    def apply(
        self, backbone: keras.Model, pixels: tf.Tensor, training: bool | None = None, survival: tf.Tensor | None = None
    ) -> tf.Tensor:
        return backbone(pixels, training=training, survival=survival)

    def maps(self, model: keras.Model, pixels: tf.Tensor) -> list[tf.Tensor]:
        return [tf.cast(of_stage, tf.float32) for of_stage in model(pixels, training=False)]

    def _stage_outputs(self, backbone: keras.Model) -> list[tf.Tensor]:
        ends = list(backbone.pyramid_level_inputs.values())[:-1]
        return [*(backbone.get_layer(end).output for end in ends), backbone.output]

    def draw_survival(self, backbone: keras.Model, photos: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        return backbone.survival.draw(photos, seed)

    def stages(self, backbone: keras.Model) -> tuple[tuple[str, ...], ...]:
        last = len(backbone.depths) - 1
        groups: list[list[str]] = [[] for _ in backbone.depths]
        for layer in backbone.layers:
            if layer.weights:
                ends = {"patch_embedding": 0, "patch_norm": 0, "final_norm": last}
                stage = ends.get(layer.name)
                groups[int(layer.name[len("stage") :].partition("_")[0]) if stage is None else stage].append(layer.name)
        return tuple(tuple(group) for group in groups)

    def padding_of_others(self) -> Padding:
        return "torchvision"

    @property
    def stage_count(self) -> int:
        return len(SIZES[self.plain_name]["depths"])

    def load_file(self, backbone: keras.Model, file: Path) -> None:
        load_checkpoint(backbone, file)

    def require_pretrained(self) -> None:
        """There is no package with weights of Swin."""

    def load_pretrained(self, backbone: keras.Model) -> None:
        """There is no package with weights of Swin."""
