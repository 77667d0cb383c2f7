"""The extractor: a SavedModel that turns photos into the vectors of one or several feature sources."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow import keras

from courier_tf import images
from courier_tf.features.feature_source import FeatureSource, require_vectors
from courier_tf.features.signatures import PHOTOS, PIXELS, output_of
from courier_tf.features.sources import source

#: The fixed augmentations: mirrored, shift down and right in units of the margin, contrast, brightness of 255.
_VIEWS = ((True, 0, 1, 1.1, 8.0), (False, 1, -1, 0.9, -8.0), (True, -1, -1, 0.85, 12.0), (False, -1, 1, 1.15, -12.0))
VIEWS = len(_VIEWS)


class Extractor(tf.Module):
    """Photos to vectors by several sources, in float32.

    Args:
        sources: names, each once.
        image_size: side S of the photos in pixels. Photos of any other size are resized.
        views: number of further views of each photo, at most `VIEWS`.

    Raises:
        FeatureError: a source does not exist, or does not give vectors.
    """

    def __init__(self, sources: Sequence[str], image_size: int, views: int = 0) -> None:
        super().__init__()
        policy = keras.mixed_precision.global_policy()
        keras.mixed_precision.set_global_policy("float32")
        try:
            self.sources: list[FeatureSource] = [source(name) for name in sources]
        finally:
            keras.mixed_precision.set_global_policy(policy)
        for made in self.sources:
            if made.of_others:
                require_vectors(made, image_size)
        self.image_size, self.views = image_size, views
        self._of_pixels = tf.function(
            self._vectors,
            input_signature=[tf.TensorSpec([None, image_size, image_size, 3], tf.uint8, name="pixels")],
            autograph=False,
        )

    def fingerprints(self) -> dict[str, str]:
        """Source -> 16 hex digits over all that decides its vectors, the code left out."""
        return {source.source: source.fingerprint() for source in self.sources}

    def _vectors(self, pixels: tf.Tensor) -> dict[str, tf.Tensor]:
        views = [pixels, *(fixed_view(pixels, number) for number in range(1, self.views + 1))]
        return {
            output_of(place, number): source.vectors(view)
            for place, source in enumerate(self.sources)
            for number, view in enumerate(views)
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, name="photos")], autograph=False)
    def of_photos(self, photos: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B] JPEG or PNG files to {output: [B, W] float32}. A photo that cannot be decoded raises an error."""
        return self._vectors(images.decode_all(photos, self.image_size))

    def save(self, directory: Path) -> None:
        """Writes it as a SavedModel with the signatures `serving_default` (photos) and `pixels`."""
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        signatures: Mapping[str, Any] = {PHOTOS: self.of_photos, PIXELS: self._of_pixels}
        tf.saved_model.save(self, str(directory), signatures=signatures, options=options)


def fixed_view(pixels: tf.Tensor, number: int) -> tf.Tensor:
    """One of the fixed augmentations, the same for every photo, so that neither batch nor order decides it.

    They are mild versions of those that `courier_tf.pretrain.augment` draws: mirrored or not, shifted, with another
    contrast and brightness. The hue of colours stays, because users choose by it.

    Args:
        pixels: [B, S, S, 3] uint8.
        number: 1 to `VIEWS`.

    Returns:
        [B, S, S, 3] uint8.
    """
    mirrored, down, right, gain, offset = _VIEWS[number - 1]
    size = pixels.shape[1]
    margin = size // 16
    pixels = pixels[:, :, ::-1] if mirrored else pixels
    padded = images.with_margin(pixels, margin)
    top, left = margin + down * margin, margin + right * margin
    return images.with_contrast(padded[:, top : top + size, left : left + size], gain, offset)


def load_extractor(directory: Path) -> Any:
    """The SavedModel that `Extractor.save` wrote: `signatures["pixels"]` takes [B, S, S, 3] uint8."""
    return tf.saved_model.load(str(directory))


def joined(outputs: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """The vectors of all sources side by side, in the order of the sources: [B, sum of W]."""
    return tf.concat([outputs[output_of(place)] for place in range(len(outputs))], axis=1)
