"""Size, orientation and frames from the bytes of photo files, as Pillow reads them, and whatever the bytes are."""

import struct

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from courier_tf import photo_files
from tests.photo_cases import encoded, exif_block, jpeg_with, png_of, random_image

XMP = b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta/>"
ICC = b"ICC_PROFILE\0\1\1" + bytes(500)
TINY = np.zeros([2, 3, 3], np.uint8)


@pytest.fixture(scope="module")
def read():
    @tf.function(input_signature=[tf.TensorSpec([], tf.string)], autograph=False)
    def found(photo):
        return photo_files.facts(photo)[:2]

    return lambda photo: tuple(int(value) for value in found(photo))


def photos_of(orientation, exif, image):
    """(name, file) with one EXIF block at every place where files have it."""
    jpeg = encoded(image, "JPEG")
    marked = (0xE1, b"Exif\0\0" + exif)
    late = jpeg.index(b"\xff\xda")  # Before the scan, after all tables.
    yield "jpeg", jpeg_with(jpeg, [marked])
    yield "after others", jpeg_with(jpeg, [(0xE0, b"JFIF\0" + bytes(9)), (0xE1, XMP), (0xE2, ICC), (0xFE, b""), marked])
    yield "twice", jpeg_with(jpeg, [(0xE1, XMP), marked, (0xE1, b"Exif\0\0" + exif_block(9 - orientation))])
    yield "before the scan", jpeg[:late] + jpeg_with(b"  ", [marked])[2:] + jpeg[late:]
    yield "fill bytes", jpeg[:2] + b"\xff\xff" + jpeg_with(b"  ", [marked])[2:] + jpeg[2:]
    yield "progressive", encoded(image, "JPEG", exif, progressive=True)
    yield "png", encoded(image, "PNG", exif)
    yield "png, at the end", png_of(TINY, 2, late_chunks=[(b"tEXt", b"a\0b"), (b"eXIf", exif)], idat=5)
    yield "png, with a prefix", png_of(TINY, 2, [(b"eXIf", b"Exif\0\0" + exif)])
    yield "webp", encoded(image, "WEBP", exif)
    yield "webp, lossless", encoded(image, "WEBP", exif, lossless=True)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("kind", [1, 3, 4])
def test_every_orientation_at_every_place(read, order, kind):
    image = Image.new("RGB", (7, 5))
    for orientation in range(1, 9):
        block = exif_block(orientation, order, kind, before=orientation)
        for name, photo in photos_of(orientation, block, image):
            assert read(photo) == (orientation, 1), name


@pytest.mark.parametrize("order", "<>")
def test_what_is_no_orientation(read, order):
    jpeg, good = encoded(Image.new("RGB", (7, 5)), "JPEG"), exif_block(6, order)
    blocks = [exif_block(value, order) for value in (0, 9, 262, 0xFFFF)] + [good[:cut] for cut in range(14 + 2 + 48)]
    blocks += [b"", b"xx" + good[2:], good[:4] + b"\xff" * 4 + good[8:], good[:4] + bytes(4) + good[8:]]
    for block in blocks:
        assert read(jpeg_with(jpeg, [(0xE1, b"Exif\0\0" + block)]))[0] == 1, block
    assert read(jpeg_with(jpeg, [(0xE2, b"Exif\0\0" + good)]))[0] == 1  # Another segment.
    assert read(jpeg + jpeg_with(jpeg, [(0xE1, b"Exif\0\0" + good)]))[0] == 1  # A second picture in the file.
    assert read(jpeg_with(jpeg, [(0xED, jpeg_with(jpeg, [(0xE1, b"Exif\0\0" + good)]))]))[0] == 1  # A thumbnail.


def test_frames(read):
    frames = [Image.new("RGB", (7, 5), colour) for colour in ("red", "green", "blue")]
    animated = {"save_all": True, "append_images": frames[1:]}
    assert read(encoded(frames[0], "PNG", **animated))[1] == 3
    assert read(encoded(frames[0], "WEBP", **animated))[1] > 1
    assert read(encoded(frames[0], "MPO", **animated))[1] == 1  # Viewers show the first picture alone.
    for kind in ("JPEG", "PNG", "WEBP"):
        assert read(encoded(frames[0], kind))[1] == 1
    assert read(encoded(frames[0], "WEBP", exif_block(2), lossless=True)) == (2, 1)


def test_shapes():
    rng = np.random.default_rng(3)
    for options in ({}, {"lossless": True}, {"exif": exif_block(1)}, {"exif": exif_block(1), "lossless": True}):
        for mode in ("RGB", "RGBA"):
            image = random_image(rng, mode)
            shape = photo_files.webp_shape(tf.constant(encoded(image, "WEBP", **options)))
            assert tuple(shape.numpy()[::-1]) == image.size, options
    image = random_image(rng, "RGB")
    assert tuple(photo_files.png_shape(tf.constant(encoded(image, "PNG"))).numpy()[::-1]) == image.size
    assert tuple(photo_files.jpeg_shape(tf.constant(encoded(image, "JPEG"))).numpy()[::-1]) == image.size


def test_hostile_bytes_neither_fail_nor_loop(read):
    """Files that are cut off anywhere, or whose bytes are changed, and lengths that lie."""
    rng = np.random.default_rng(4)
    whole = [photo for _, photo in photos_of(6, exif_block(6, ">"), Image.new("RGB", (7, 5)))]
    for _ in range(300):
        photo = bytearray(whole[rng.integers(len(whole))])
        for place in rng.integers(0, len(photo), rng.integers(0, 4)):
            photo[place] = rng.integers(256)
        orientation, frames = read(bytes(photo[: rng.integers(len(photo) + 1)]))
        assert 1 <= orientation <= 8 and frames >= 1
    huge = struct.pack(">I", 0xFFFFFFFF)
    assert read(b"\x89PNG\r\n\x1a\n" + huge + b"eXIf" + exif_block(6))[0] == 6
    assert read(b"\x89PNG\r\n\x1a\n" + huge + b"IDAT") == (1, 1)
    assert read(b"\xff\xd8\xff\xe1\xff\xffExif\0\0" + exif_block(3))[0] == 3
    many = b"\0\0\0\0IDATcrc " * 3 * photo_files.MOST_PARTS
    assert read(b"\x89PNG\r\n\x1a\n" + many + b"\0\0\0\x40eXIf" + exif_block(6)) == (1, 1)


def test_upright_pixels():
    rng = np.random.default_rng(5)
    pixels = rng.integers(0, 256, [3, 5, 3], np.uint8)
    # By the standard: where the row 0 and the column 0 of the file lie in what is seen.
    expected = {
        1: pixels,
        2: pixels[:, ::-1],
        3: pixels[::-1, ::-1],
        4: pixels[::-1],
        5: pixels.swapaxes(0, 1),
        6: np.rot90(pixels, -1),
        7: pixels.swapaxes(0, 1)[::-1, ::-1],
        8: np.rot90(pixels),
    }
    for orientation, turned in expected.items():
        found = photo_files.upright(tf.constant(pixels), tf.constant(orientation, tf.int64))
        np.testing.assert_array_equal(found, turned)


def test_files_that_surely_have_no_exif():
    rng = np.random.default_rng(6)
    for number in range(40):
        image = random_image(rng, ["RGB", "L", "CMYK"][number % 3])
        jpeg = encoded(image, "JPEG", quality=int(rng.integers(5, 95)), progressive=number % 2 == 0)
        assert photo_files.has_no_exif(tf.constant(jpeg)), "an ordinary file is not gone through"
        assert photo_files.has_no_exif(tf.constant(jpeg_with(jpeg, [(0xE1, XMP), (0xE2, ICC)])))
        false_scan = (0xE2, b"ICC_PROFILE\0\1\1\xff\xda" + rng.bytes(20) + b"\0")
        for segments in ([], [false_scan], [(0xE1, XMP), false_scan]):
            assert not photo_files.has_no_exif(tf.constant(jpeg_with(jpeg, [*segments, (0xE1, b"Exif\0\0")])))
    for name, photo in photos_of(6, exif_block(6), Image.new("RGB", (7, 5))):
        assert not photo_files.has_no_exif(tf.constant(photo)), name
    assert not photo_files.has_no_exif(tf.constant(b""))
