"""What the bytes of a photo file say beside its pixels: format, size, orientation, and whether it is animated.

Stock TensorFlow ops read it, so a served graph reads it as the record job does. The bytes may be hostile: whatever they
are, no function here fails or loops for long. Only `jpeg_shape` fails where a JPEG has no frame header.
"""

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

#: Parts of a file (segments of a JPEG, chunks of a PNG or WebP file) that are read in search of its orientation.
MOST_PARTS = 10_000
_BIG = (1 << 24, 1 << 16, 1 << 8, 1)
#: Weights of the four bytes of an orientation, by its type, BYTE (1), SHORT (3) or LONG (4), in each byte order.
_LITTLE_WEIGHTS = ((0,) * 4, (1, 0, 0, 0), (0,) * 4, (1, 1 << 8, 0, 0), _BIG[::-1])
_BIG_WEIGHTS = ((0,) * 4, (1, 0, 0, 0), (0,) * 4, (1 << 8, 1, 0, 0), _BIG)


class Facts(NamedTuple):
    """What a file says of its photo. All are scalars, int64.

    Attributes:
        orientation: EXIF orientation, 1 to 8; 1 where the file names none.
        frames: number of frames, 1 where it is not animated. An animated WebP file counts as one of two.
        transparent: of a PNG file, 1 where it has opacities or transparent colours. 0 for other files.
    """

    orientation: tf.Tensor
    frames: tf.Tensor
    transparent: tf.Tensor


class Part(NamedTuple):
    """One part of a file. All are scalars.

    Attributes:
        length: bytes from the start of this part to the start of the next.
        exif_at: where its EXIF block starts, counted from the start of the part; 0 where it has none.
        exif_length: bytes of that block.
        frames: how many frames it says that the photo has; 0 where it says nothing of them.
        transparent: 1 where it says that the photo is transparent, else 0.
        last: whether no part after it counts.
    """

    length: tf.Tensor
    exif_at: tf.Tensor
    exif_length: tf.Tensor
    frames: tf.Tensor
    transparent: tf.Tensor
    last: tf.Tensor


def is_jpeg(photo: tf.Tensor) -> tf.Tensor:
    """Whether a scalar string begins as a JPEG file does."""
    return tf.strings.substr(photo, 0, 3) == b"\xff\xd8\xff"


def is_png(photo: tf.Tensor) -> tf.Tensor:
    """Whether a scalar string begins as a PNG file does."""
    return tf.strings.substr(photo, 0, 8) == b"\x89PNG\r\n\x1a\n"


def is_webp(photo: tf.Tensor) -> tf.Tensor:
    """Whether a scalar string begins as a WebP file does."""
    marks = [tf.strings.substr(photo, 0, 4), _text(photo, 8, 4)]
    return (marks[0] == b"RIFF") & (marks[1] == b"WEBP")


def jpeg_shape(photo: tf.Tensor) -> tf.Tensor:
    """[2] int64 height and width of a JPEG file. The op fails where the file has no frame header."""
    return tf.cast(tf.image.extract_jpeg_shape(photo)[:2], tf.int64)


def png_shape(photo: tf.Tensor) -> tf.Tensor:
    """[2] int64 height and width of a PNG file (RFC 2083, 11.2.1)."""
    head = _bytes(photo, 16, 8)
    return tf.stack([_number(head[4:]), _number(head[:4])])


def webp_shape(photo: tf.Tensor) -> tf.Tensor:
    """[2] int64 height and width of a WebP file: of its canvas, else of its frame (RFC 9649, 2.7; RFC 6386, 9.1)."""
    head, kind = _bytes(photo, 16, 14), _text(photo, 12, 4)
    canvas = tf.stack([_number(head[11:14], big=False), _number(head[8:11], big=False)]) + 1
    packed = _number(head[5:9], big=False)
    lossless = tf.stack([packed // (1 << 14) % (1 << 14), packed % (1 << 14)]) + 1
    lossy = tf.stack([_number(head[12:14], big=False), _number(head[10:12], big=False)]) % (1 << 14)
    return tf.where(kind == b"VP8X", canvas, tf.where(kind == b"VP8L", lossless, lossy))


def has_no_exif(jpeg: tf.Tensor) -> tf.Tensor:
    """Whether a JPEG file surely has no EXIF block. It takes a tenth of the time of `facts`.

    All before the first scan header is searched, as `facts` would go through it. What looks like a scan header inside
    of a segment has its first five bytes by chance once in 2 ** 38 places.
    """
    parts = tf.raw_ops.StringSplitV2(input=[jpeg], sep=b"\xff\xda", maxsplit=1).values
    is_scan = tf.reduce_any(tf.strings.substr(parts[-1], 0, 3) == [b"\0\x08\1", b"\0\x0a\2", b"\0\x0c\3", b"\0\x0e\4"])
    return is_scan & ~tf.strings.regex_full_match(parts[0], r"\C*Exif\x00\x00\C*")


def facts(photo: tf.Tensor) -> Facts:
    """Reads what a JPEG, PNG or WebP file says of itself.

    Args:
        photo: scalar string.

    Returns:
        See `Facts`.
    """
    none, upright_photo = tf.constant(0, tf.int64), tf.constant(1, tf.int64)

    def of_jpeg() -> tuple[tf.Tensor, ...]:
        return _walk(photo, 2, _jpeg_part)

    def of_png() -> tuple[tf.Tensor, ...]:
        exif, frames, transparent = _walk(photo, 8, _png_part)
        return exif, frames, tf.maximum(transparent, _bytes(photo, 25, 1)[0] // 4 % 2)  # Colour types 4 and 6.

    def of_webp() -> tuple[tf.Tensor, ...]:
        is_animated = _bytes(photo, 20, 1)[0] // 2 % 2 * tf.cast(_text(photo, 12, 4) == b"VP8X", tf.int64)
        return _walk(photo, 12, _webp_part)[0], 1 + is_animated, none

    exif, frames, transparent = tf.cond(is_jpeg(photo), of_jpeg, lambda: tf.cond(is_png(photo), of_png, of_webp))
    orientation = tf.cond(tf.strings.length(exif) > 0, lambda: exif_orientation(exif), lambda: upright_photo)
    return Facts(orientation, frames, transparent)


def exif_orientation(exif: tf.Tensor) -> tf.Tensor:
    """The orientation that an EXIF block names (CIPA DC-008, 4.6: a TIFF file, whose first directory has tag 0x0112).

    Args:
        exif: scalar string.

    Returns:
        Scalar int64, 1 to 8; 1 where the block names none or is cut off.
    """
    exif = tf.strings.substr(exif, 6 * tf.cast(tf.strings.substr(exif, 0, 6) == b"Exif\0\0", tf.int32), 1 << 30)
    order = _text(exif, 0, 4)
    is_big, is_little = order == b"MM\0*", order == b"II*\0"
    at = _ordered(_bytes(exif, 4, 4), is_big)
    entries = _ordered(_bytes(exif, at, 2), is_big)
    held = _text(exif, at + 2, 12 * entries)
    whole = tf.strings.length(held) // 12
    entry = tf.reshape(tf.io.decode_raw(tf.strings.substr(held, 0, 12 * whole), tf.uint8), [-1, 12])
    tag = tf.where(is_big, entry[:, :2], entry[:, 1::-1])
    is_orientation = tf.reduce_all(tag == tf.constant([0x01, 0x12], tf.uint8), axis=1)
    chosen = tf.cast(tf.boolean_mask(entry, is_orientation), tf.int64)
    kind = tf.where(is_big, chosen[:, 2] * 256 + chosen[:, 3], chosen[:, 3] * 256 + chosen[:, 2])
    weights = tf.where(is_big, tf.constant(_BIG_WEIGHTS, tf.int64), tf.constant(_LITTLE_WEIGHTS, tf.int64))
    values = tf.reduce_sum(chosen[:, 8:] * tf.gather(weights, tf.where(kind > 4, tf.zeros_like(kind), kind)), axis=1)
    last = tf.concat([tf.ones([1], tf.int64), values], axis=0)[-1]
    return tf.where((is_big | is_little) & (last >= 1) & (last <= 8), last, tf.ones_like(last))


def upright(pixels: tf.Tensor, orientation: tf.Tensor) -> tf.Tensor:
    """Turns and mirrors a photo as its EXIF orientation says (CIPA DC-008, 4.6.4).

    Args:
        pixels: [H, W, C].
        orientation: scalar integer, 1 to 8.

    Returns:
        [H, W, C], or [W, H, C] where the orientation is 5 or more.
    """

    def turned() -> tf.Tensor:
        swapped = tf.cond(orientation >= 5, lambda: tf.transpose(pixels, [1, 0, 2]), lambda: pixels)
        # Which of the two axes run backwards, by orientation.
        steps = tf.constant([[1, 1], [1, -1], [-1, -1], [-1, 1], [1, 1], [1, -1], [-1, -1], [-1, 1]])
        down, across = tf.unstack(tf.gather(steps, orientation - 1))
        return swapped[::down, ::across]

    return tf.ensure_shape(tf.cond(orientation == 1, lambda: pixels, turned), [None, None, pixels.shape[2]])


def _walk(photo: tf.Tensor, start: int, read_part: Callable[[tf.Tensor], Part]) -> tuple[tf.Tensor, ...]:
    """Goes from part to part of a file.

    Args:
        photo: scalar string.
        start: where the first part starts.
        read_part: takes the first 12 bytes of a part, [12] int64, 0 after the end of the file.

    Returns:
        (first EXIF block, "" where there is none; most frames that a part names, at least 1; 1 where a part says
        that the photo is transparent).
    """
    end = tf.strings.length(photo, unit="BYTE")

    def step(at: tf.Tensor, *known: tf.Tensor) -> tuple[tf.Tensor, ...]:
        exif_at, exif_length, frames, transparent = known
        part = read_part(_bytes(photo, at, 12))
        is_first = (exif_at == 0) & (part.exif_at > 0)
        return (
            tf.where(part.last, tf.cast(end, tf.int64), at + part.length),
            tf.where(is_first, at + part.exif_at, exif_at),
            tf.where(is_first, part.exif_length, exif_length),
            tf.maximum(frames, part.frames),
            tf.maximum(transparent, part.transparent),
        )

    first = tuple(tf.constant(value, tf.int64) for value in (start, 0, 0, 1, 0))
    _, at, length, frames, transparent = tf.while_loop(
        lambda at, *_: at < tf.cast(end, tf.int64),
        step,
        first,
        parallel_iterations=1,
        maximum_iterations=MOST_PARTS,
    )
    return _text(photo, at, length), frames, transparent


def _jpeg_part(head: tf.Tensor) -> Part:
    """A segment (ITU-T T.81, B.1.1). Scan data or the end of the image end the walk, and so does an EXIF block."""
    marker, length = head[1], head[2] * 256 + head[3]
    no_marker = (head[0] != 0xFF) | (marker == 0xFF)  # Fill bytes, and what decoders skip.
    is_exif = ~no_marker & (marker == 0xE1) & tf.reduce_all(head[4:10] == list(b"Exif\0\0"))
    zero = tf.zeros_like(length)
    last = ~no_marker & ((marker == 0xDA) | (marker == 0xD9) | (length < 2) | is_exif)
    step = tf.where(no_marker, zero + 1, length + 2)
    return Part(step, tf.where(is_exif, zero + 4, zero), tf.where(is_exif, length - 2, zero), zero, zero, last)


def _png_part(head: tf.Tensor) -> Part:
    """A chunk (RFC 2083, 3.2). `eXIf` may stand after the pixels, `acTL` before them says how many frames there are."""
    length, kind = _number(head[:4]), _number(head[4:8])
    zero = tf.zeros_like(length)
    is_exif = kind == int.from_bytes(b"eXIf")
    frames = tf.where(kind == int.from_bytes(b"acTL"), _number(head[8:12]), zero)
    is_hole = tf.where(kind == int.from_bytes(b"tRNS"), zero + 1, zero)
    last = kind == int.from_bytes(b"IEND")
    return Part(length + 12, tf.where(is_exif, zero + 8, zero), length, frames, is_hole, last)


def _webp_part(head: tf.Tensor) -> Part:
    """A chunk (RFC 9649, 2.3)."""
    length = _number(head[4:8], big=False)
    zero = tf.zeros_like(length)
    is_exif = _number(head[:4]) == int.from_bytes(b"EXIF")
    return Part(length + length % 2 + 8, tf.where(is_exif, zero + 8, zero), length, zero, zero, is_exif)


def _text(text: tf.Tensor, at: tf.Tensor, length: tf.Tensor) -> tf.Tensor:
    """The part of a scalar string that lies from `at` on; shorter, or "", where the string ends before."""
    at = tf.minimum(tf.cast(at, tf.int64), tf.cast(tf.strings.length(text), tf.int64))
    return tf.strings.substr(text, at, tf.cast(length, tf.int64))


def _bytes(text: tf.Tensor, at: tf.Tensor, length: int) -> tf.Tensor:
    """[length] int64 bytes of a scalar string from `at` on, 0 after its end."""
    padded = tf.io.decode_raw(_text(text, at, length), tf.uint8, fixed_length=length)
    return tf.cast(tf.ensure_shape(padded, [length]), tf.int64)


def _number(digits: tf.Tensor, big: bool = True) -> tf.Tensor:
    """The number that bytes stand for, the highest of them first where `big`."""
    weights = _BIG[-digits.shape[0] :]
    return tf.reduce_sum(digits * tf.constant(weights if big else weights[::-1], tf.int64))


def _ordered(digits: tf.Tensor, is_big: tf.Tensor) -> tf.Tensor:
    return tf.where(is_big, _number(digits), _number(digits, big=False))
