"""Photos to pixels. The record job, tf.data and the SavedModels share this code, so all three see the same pixels.

A photo is what a person sees: turned as its EXIF orientation says, and on white where it is transparent.
"""

import functools

import tensorflow as tf

from courier_tf import photo_files
from serving.client import contract
from serving.client.contract import RowStatus

MAX_PIXELS = contract.MAX_PIXELS  # Larger photos are refused before they are decoded: a small file can hold gigabytes.
#: How many photos of a batch are decoded at a time, and how large they may be: together as large as a few of the most.
AT_ONCE, AT_ONCE_PIXELS = 8, 8_000_000
JPEG_SCALES = (1, 2, 4, 8)  # By which a JPEG decoder can divide the sides of a photo.
MOST_MOVED = 1 / 8  # Pixels of the result by which it may move what is at the far side.
#: Whether this TensorFlow has an op for WebP, and with it the graphs that it exports.
SERVES_WEBP = hasattr(tf.io, "decode_webp")
#: For branches that few photos take: in line, the operations of a branch cost time even where it is not taken.
_APART = functools.partial(tf.function, autograph=False, experimental_attributes={"_noinline": True})


class PhotoError(ValueError):
    """A photo cannot be used; the message is the reason."""


def resize(pixels: tf.Tensor, size: int) -> tf.Tensor:
    """Resizes a photo by area averaging, so that small motifs do not alias, and rounds once.

    Args:
        pixels: [H, W, 3] uint8.
        size: side S of the result.

    Returns:
        [S, S, 3] uint8.
    """
    # The operation takes integers as they are. For a large photo, floats would need most of a gigabyte.
    resized = tf.cast(tf.image.resize(pixels, [size, size], method="area"), tf.float32)
    return tf.cast(tf.round(tf.clip_by_value(resized, 0.0, 255.0)), tf.uint8)


def with_contrast(pixels: tf.Tensor, gain: tf.Tensor | float, offset: tf.Tensor | float) -> tf.Tensor:
    """Photos with another contrast and brightness: a value v becomes 127.5 + gain * (v - 127.5) + offset.

    Args:
        pixels: [N, H, W, 3] of any dtype, values from 0 to 255.
        gain: factor of the contrast, a scalar or [N, 1, 1, 1].
        offset: what is added, a scalar or [N, 1, 1, 1].

    Returns:
        [N, H, W, 3] uint8, rounded.
    """
    changed = (tf.cast(pixels, tf.float32) - 127.5) * gain + 127.5 + offset
    return tf.cast(tf.round(tf.clip_by_value(changed, 0.0, 255.0)), tf.uint8)


def with_margin(pixels: tf.Tensor, margin: tf.Tensor | int) -> tf.Tensor:
    """Photos with mirrored borders, from which a shifted photo can be cut.

    Args:
        pixels: [N, H, W, C] of any dtype.
        margin: pixels M at each border.

    Returns:
        [N, H + 2 M, W + 2 M, C].
    """
    return tf.pad(pixels, [[0, 0], [margin, margin], [margin, margin], [0, 0]], mode="SYMMETRIC")


def on_white(pixels: tf.Tensor) -> tf.Tensor:
    """Puts a photo on a white background, and gives it three channels.

    A value c of opacity a becomes c * a / 255 + 255 - a, rounded to the nearest integer.

    Args:
        pixels: [H, W, 4] uint8: RGB and opacity.

    Returns:
        [H, W, 3] uint8.
    """
    opacity = tf.cast(pixels[..., 3:], tf.uint16)  # c * a + 255 * (255 - a) + 127 is at most 65,152.
    seen = tf.cast(pixels[..., :3], tf.uint16) * opacity + (255 - opacity) * 255 + 127
    return tf.cast(seen // 255, tf.uint8)


def decode(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a scalar string with a JPEG or PNG photo to [size, size, 3] uint8, with stock ops alone."""
    return _decode(encoded, size, SERVES_WEBP)[0]


def decode_all(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes [B] strings as `decode` does, one after the other: [B, size, size, 3] uint8."""
    spec = tf.TensorSpec([size, size, 3], tf.uint8)
    return tf.map_fn(lambda photo: decode(photo, size), encoded, fn_output_signature=spec)


def _decode(encoded: tf.Tensor, size: int, webp: bool) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes a photo of a known format: ([S, S, 3] uint8 pixels, whether it is animated, which is a scalar)."""
    jpeg = photo_files.is_jpeg(encoded)

    @_APART
    def any_photo() -> tuple[tf.Tensor, tf.Tensor]:
        facts = photo_files.facts(encoded)
        black = tf.zeros([1, 1, 3], tf.uint8)
        pixels = tf.cond(facts.frames > 1, lambda: black, lambda: _upright(encoded, facts, size, webp))
        return pixels, facts.frames > 1

    is_simple = tf.cond(jpeg, lambda: photo_files.has_no_exif(encoded), lambda: tf.constant(False))
    pixels, is_animated = tf.cond(is_simple, lambda: (_jpeg(encoded, size), tf.constant(False)), any_photo)
    return resize(pixels, size), is_animated


def _jpeg(encoded: tf.Tensor, size: int) -> tf.Tensor:
    """Decodes a JPEG photo to [H, W, 3] uint8, at the smallest scale that `resize` to `size` needs.

    A JPEG decoder gives a half, a quarter or an eighth of the sides for a part of the time and the memory. It fills up
    the last block, where a side is no multiple of the scale: that moves what `resize` sees by a part of a pixel.
    """
    shape = photo_files.jpeg_shape(encoded)
    scales = tf.constant(JPEG_SCALES, tf.int64)[:, None]
    moved = tf.cast(-shape % scales * size, tf.float64) / tf.cast(shape, tf.float64)
    fits = tf.reduce_all((shape >= 2 * size * scales) & (moved <= MOST_MOVED), axis=1)
    largest = tf.reduce_max(tf.where(fits, tf.range(len(JPEG_SCALES)), 0))

    def at(scale: int) -> tf.Tensor:
        # The op's own choice is a fast transform, whose photos are up to two values darker than the file says.
        decoded = tf.io.decode_jpeg(encoded, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE")
        return tf.ensure_shape(decoded, [None, None, 3])

    return tf.switch_case(largest, [functools.partial(at, scale) for scale in JPEG_SCALES])


def _upright(encoded: tf.Tensor, facts: photo_files.Facts, size: int, webp: bool) -> tf.Tensor:
    """Decodes a photo of one frame to [H, W, 3] uint8. A JPEG photo may be scaled, as `_jpeg` does for `size`."""

    def plain() -> tf.Tensor:
        return tf.ensure_shape(tf.io.decode_image(encoded, channels=3, expand_animations=False), [None, None, 3])

    def opaque() -> tf.Tensor:
        return tf.cond(photo_files.is_jpeg(encoded), lambda: _jpeg(encoded, size), plain)

    def transparent() -> tf.Tensor:
        # Asked for four channels of a photo without opacities, the op leaves those of small depths wrong.
        return on_white(tf.ensure_shape(tf.io.decode_png(encoded, channels=4), [None, None, 4]))

    def opaque_or_webp() -> tf.Tensor:
        return tf.cond(photo_files.is_webp(encoded), lambda: on_white(decode_webp(encoded)), opaque)

    pixels = tf.cond(facts.transparent > 0, transparent, opaque_or_webp if webp else opaque)
    return photo_files.upright(pixels, facts.orientation)


def decode_checked(
    photo: tf.Tensor, size: int, webp: bool = SERVES_WEBP, most_pixels: int = MAX_PIXELS
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Decodes a photo of unknown quality. The operation fails where the photo is broken.

    Args:
        photo: scalar string, JPEG or PNG.
        size: side S of the result.
        webp: whether it may be WebP, too.
        most_pixels: a larger photo is not decoded.

    Returns:
        (status, scalar int32 `RowStatus`; shape [2] int64, the height and width in the file, 0 where its format is
        unknown; pixels [S, S, 3] uint8, black where the status is not OK).
    """
    jpeg, png = photo_files.is_jpeg(photo), photo_files.is_png(photo)
    known = jpeg | png
    if webp:
        known |= photo_files.is_webp(photo)

    @_APART
    def other_shape() -> tf.Tensor:
        of_webp = photo_files.webp_shape(photo) if webp else tf.zeros([2], tf.int64)
        return tf.where(png, photo_files.png_shape(photo), tf.where(known, of_webp, tf.zeros_like(of_webp)))

    shape = tf.cond(jpeg, lambda: photo_files.jpeg_shape(photo), other_shape)
    # Each side fits into 32 bits, but the product of two such may not fit into 64.
    number = tf.reduce_prod(tf.cast(shape, tf.float64))
    status = tf.where(number > most_pixels, int(RowStatus.TOO_LARGE), int(RowStatus.OK))
    # A PNG may claim a side of 2 ** 31 or more, which none can have.
    status = tf.where(tf.reduce_all((shape > 0) & (shape < 2**31)), status, int(RowStatus.BROKEN))
    status = tf.where(known, status, int(RowStatus.UNKNOWN_FORMAT))
    status = tf.where(tf.strings.length(photo) == 0, int(RowStatus.EMPTY), status)
    black = tf.zeros([size, size, 3], tf.uint8)
    pixels, is_animated = tf.cond(
        status == RowStatus.OK, lambda: _decode(photo, size, webp), lambda: (black, tf.constant(False))
    )
    return tf.where(is_animated, int(RowStatus.ANIMATED), status), shape, pixels


def decode_rows(encoded: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Decodes photos of unknown quality, for a server. A photo that cannot be decoded costs its own row, not the batch.

    Photos of up to `AT_ONCE_PIXELS` are decoded in parallel, larger ones one after the other: so the memory is about
    that of one photo of the most pixels.

    Args:
        encoded: [B] strings, JPEG or PNG, or WebP where `SERVES_WEBP`.
        size: side S of the result.

    Returns:
        (pixels [B, S, S, 3] uint8, black where there is no photo; status [B] int32, a `RowStatus`).
    """
    pixels, status = _decode_rows(encoded, size, AT_ONCE_PIXELS, AT_ONCE)
    large = tf.where(status == RowStatus.TOO_LARGE)

    @_APART
    def with_large() -> tuple[tf.Tensor, tf.Tensor]:
        decoded = _decode_rows(tf.gather_nd(encoded, large), size, MAX_PIXELS, 1)
        return (
            tf.tensor_scatter_nd_update(pixels, large, decoded[0]),
            tf.tensor_scatter_nd_update(status, large, decoded[1]),
        )

    return tf.cond(tf.size(large) > 0, with_large, lambda: (pixels, status))


def _decode_rows(encoded: tf.Tensor, size: int, most_pixels: int, at_once: int) -> tuple[tf.Tensor, tf.Tensor]:
    """As `decode_rows`: at most `at_once` photos at a time, and none that has more than `most_pixels`."""
    rows = tf.size(encoded, out_type=tf.int64)
    black = tf.zeros([size, size, 3], tf.uint8)

    def row_of(row: tf.Tensor, photo: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        status, _, pixels = decode_checked(photo, size, most_pixels=most_pixels)
        return row, status, pixels

    # An operation that fails ends its whole graph, except inside a data set that ignores errors.
    photos = tf.data.Dataset.from_tensor_slices(encoded).enumerate()
    decoded = photos.map(row_of, num_parallel_calls=at_once).ignore_errors()
    # One row more, so that there is a batch even if no photo can be decoded.
    decoded = decoded.concatenate(tf.data.Dataset.from_tensors((rows, tf.constant(RowStatus.BROKEN, tf.int32), black)))
    row, status, pixels = decoded.batch(rows + 1).get_single_element()
    # Missing rows point to that last row.
    last = tf.size(row) - 1
    place = tf.tensor_scatter_nd_update(tf.fill([rows + 1], last), row[:, None], tf.range(last + 1))[:-1]
    return tf.gather(pixels, place), tf.gather(status, place)


def decode_webp(encoded: tf.Tensor) -> tf.Tensor:
    """Decodes a WebP photo to [H, W, 4] uint8, RGB and opacity. TensorFlow has its own decoder from 2.20 on."""
    if SERVES_WEBP:
        pixels = tf.io.decode_webp(encoded)[0]  # A photo has one frame. The op refuses other channels than the photo's.
        height, width, channels = tf.unstack(tf.shape(pixels))
        opacity = tf.fill([height, width, 4 - channels], tf.constant(255, tf.uint8))
        return tf.ensure_shape(tf.concat([pixels, opacity], axis=2), [None, None, 4])
    import tensorflow_io  # Imported here: its native ops load on TensorFlow 2.16 and 2.17 alone.

    return tf.ensure_shape(tensorflow_io.image.decode_webp(encoded), [None, None, 4])
