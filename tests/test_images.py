"""Photos to pixels: what a person sees, at both ends; block means, and no copy of a whole photo in floats."""

import functools
import io
import zlib

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from courier_tf import images
from serving.bundle.graph_model import GraphModel
from serving.bundle.stock_ops import require_stock_ops
from serving.client.contract import RowStatus
from serving.client.photos import as_png
from tests.beam_jobs.conftest import normalise
from tests.photo_cases import (
    PNG_MODES,
    encoded,
    exif_block,
    on_white,
    png_chunk,
    png_of,
    random_bytes,
    random_image,
    random_png,
    seen,
)

SIZE = 16


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    """The decoder as a server runs it: files -> (pixels, status)."""
    folder = tmp_path_factory.mktemp("decoder")
    module = tf.Module()
    module.decoder = tf.function(
        lambda photos: dict(zip(("pixels", "status"), images.decode_rows(photos, SIZE), strict=True)),
        input_signature=[tf.TensorSpec([None], tf.string, name="photos")],
        autograph=False,
    )
    tf.saved_model.save(module, str(folder), signatures=module.decoder)
    require_stock_ops([folder])
    model = GraphModel(folder)

    def decoded(photos):
        array = np.empty(len(photos), object)
        array[:] = photos
        answers = model(photos=array)
        return answers["pixels"], answers["status"].tolist()

    return decoded


def stored(photo):
    return tf.io.decode_png(normalise(photo, SIZE)).numpy()


def resized(pixels):
    return images.resize(tf.constant(pixels.astype(np.uint8)), SIZE).numpy().astype(int)


def both_ends(served, photos):
    """The pixels of photos at ingest, which must be those that are served. Other formats are sent as PNG."""
    at_ingest = [stored(photo) for photo in photos]
    pixels, status = served([as_png(photo) for photo in photos])
    assert status == [RowStatus.OK] * len(photos)
    np.testing.assert_array_equal(pixels, at_ingest)
    return np.array(at_ingest).astype(int)


@pytest.mark.parametrize("mode", PNG_MODES)
def test_png_of_every_mode_and_orientation(served, mode):
    """Random photos are seen at both ends as Pillow shows them, to the last bit."""
    rng = np.random.default_rng(PNG_MODES.index(mode))
    photos = [random_png(rng, mode)]
    photos += [random_png(rng, mode, exif_block(o, "<>"[o % 2], before=o % 4)) for o in range(1, 9)]
    for found, photo in zip(both_ends(served, photos), photos, strict=True):
        np.testing.assert_array_equal(found, resized(seen(photo)))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "progressive"])
def test_jpeg_of_every_mode_and_orientation(served, mode):
    rng = np.random.default_rng(7)
    options = {"progressive": True} if mode == "progressive" else {}
    mode = "RGB" if options else mode
    photos = [
        encoded(random_image(rng, "RGB", smooth=True).convert(mode), "JPEG", exif_block(o, "<>"[o % 2]), **options)
        for o in range(1, 9)
    ]
    for found, photo in zip(both_ends(served, photos), photos, strict=True):
        np.testing.assert_array_equal(found, resized(seen(photo)))


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_of_every_orientation(served, lossless, mode):
    rng = np.random.default_rng(8)
    photos = [
        encoded(random_image(rng, mode, smooth=not lossless), "WEBP", exif_block(o), lossless=lossless)
        for o in range(1, 9)
    ]
    for found, photo in zip(both_ends(served, photos), photos, strict=True):
        np.testing.assert_array_equal(found, resized(seen(photo)))


@pytest.mark.parametrize("orientation", range(2, 9))
def test_turned_photos_are_those_that_are_upright(served, orientation):
    """The same pixels to the last bit as a file that needs no turning, whatever the sides."""
    rng = np.random.default_rng(orientation)
    turned = encoded(random_image(rng, "RGBA"), "PNG", exif_block(orientation))
    upright = encoded(Image.fromarray(seen(turned).astype(np.uint8)), "PNG")
    found = both_ends(served, [turned, upright])
    np.testing.assert_array_equal(found[0], found[1])


def test_what_is_hidden_does_not_show(served):
    """A cut-out is one and the same, whatever its file keeps under the transparent places."""
    rng = np.random.default_rng(9)
    shape = random_bytes(rng, 30, 40, 4)
    shape[:, :20, 3] = 0
    photos = []
    for hidden in (np.zeros(3), np.full(3, 255), rng.integers(0, 256, [30, 20, 3])):
        shape[:, :20, :3] = hidden
        image = Image.fromarray(shape, "RGBA")
        photos += [encoded(image, "PNG"), encoded(image, "WEBP", lossless=True, exact=True), encoded(image, "TIFF")]
    found = both_ends(served, photos)
    assert (found == found[0]).all() and (found[0][:, : SIZE // 2] == 255).all()


def test_a_shape_in_the_opacity_alone(served):
    pixels = np.zeros([48, 48, 2], np.uint8)
    pixels[12:36, 12:36, 1] = 255
    (found,) = both_ends(served, [encoded(Image.fromarray(pixels, "LA"), "PNG")])
    expected = np.full([SIZE, SIZE, 3], 255)
    expected[4:12, 4:12] = 0
    np.testing.assert_array_equal(found, expected)


def test_holes_of_16_bits(served):
    """The colour that is a hole counts with all its bits, though the upper 8 are kept."""
    rng = np.random.default_rng(10)
    for colour_type, channels in ((0, 1), (2, 3)):
        pixels = rng.integers(0, 4, [SIZE, SIZE, channels]).astype(np.uint16) + 0x1200
        hole = pixels[0, 0]
        photo = png_of(pixels, colour_type, [(b"tRNS", hole.astype(">u2").tobytes())])
        (found,) = both_ends(served, [photo])
        is_hole = (pixels == hole).all(axis=2)
        assert 1 <= is_hole.sum() < SIZE * SIZE and (found[~is_hole] == 0x12).all() and (found[is_hole] == 255).all()


def test_white_by_its_formula():
    values = np.stack(np.meshgrid(np.arange(256), np.arange(256), indexing="ij"), axis=2).astype(np.uint8)
    expected = on_white(values[..., [0, 0, 0, 1]])
    np.testing.assert_array_equal(images.on_white(tf.constant(values[..., [0, 0, 0, 1]])), expected)


@pytest.mark.parametrize("kind, mode", [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("PNG", "RGB"), ("PNG", "P")])
def test_opaque_upright_photos_are_decoded_as_ever(served, kind, mode):
    """Their pixels are those of the plain op, to the last bit: records of opaque photos stay the same."""
    rng = np.random.default_rng(2)
    image = random_image(rng, "RGB", smooth=kind == "JPEG")
    photo = encoded(image.quantize(40) if mode == "P" else image.convert(mode), kind)
    accurate = functools.partial(tf.io.decode_jpeg, channels=3, dct_method="INTEGER_ACCURATE")
    plain = accurate(photo) if kind == "JPEG" else tf.io.decode_image(photo, channels=3, expand_animations=False)
    (found,) = both_ends(served, [photo])
    np.testing.assert_array_equal(found, images.resize(plain, SIZE))
    np.testing.assert_array_equal(found, images.decode(tf.constant(photo), SIZE))


@pytest.mark.parametrize("kind, options", [("PNG", {}), ("WEBP", {}), ("GIF", {}), ("TIFF", {})])
def test_photos_of_several_frames(served, kind, options):
    """Refused at both ends."""
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue")]
    photo = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    with pytest.raises(images.PhotoError, match=r"animated|several pages"):
        stored(photo)
    _, status = served([as_png(photo)])
    assert status[0] in ([RowStatus.ANIMATED] if kind == "PNG" else [RowStatus.UNKNOWN_FORMAT, RowStatus.ANIMATED])


@pytest.mark.parametrize("kind", ["iCCP", "iTXt", "zTXt"])
def test_large_blocks_of_a_png_do_not_matter(served, kind):
    """Pillow itself refuses texts and profiles above 1 MB."""
    rng = np.random.default_rng(6)
    image = random_image(rng, "RGB")
    plain = encoded(image, "PNG")
    head = {"iCCP": b"icc\0\0", "iTXt": b"XML:com.adobe.xmp\0\1\0\0\0", "zTXt": b"Comment\0\0"}[kind]
    large = plain[:33] + png_chunk(kind.encode(), head + zlib.compress(bytes(3_000_000))) + plain[33:]
    with pytest.raises(ValueError, match="too large"):
        Image.open(io.BytesIO(large)).load()
    (found,) = both_ends(served, [large])
    np.testing.assert_array_equal(found, resized(seen(plain)))


def test_broken_photos_cost_their_own_row(served):
    """Files that are cut off or changed anywhere; the photos around them are answered, and ingest agrees."""
    rng = np.random.default_rng(11)
    good = [random_png(rng, mode, exif_block(6)) for mode in ("RGB", "P with opacities", "LA")]
    good.append(encoded(random_image(rng, "RGB"), "JPEG", exif_block(8)))
    rows = []
    for _ in range(60):
        photo = bytearray(good[rng.integers(len(good))])
        for place in rng.integers(0, len(photo), rng.integers(0, 3)):
            photo[place] = rng.integers(256)
        rows.append(bytes(photo[: rng.integers(len(photo) // 2, len(photo) + 1)]))
    pixels, status = served([good[0], *rows, good[3]])
    assert status[0] == status[-1] == RowStatus.OK and len(set(status)) > 1
    np.testing.assert_array_equal(pixels[[0, -1]], [stored(good[0]), stored(good[3])])
    for photo, found, row_status in zip(rows, pixels[1:-1], status[1:-1], strict=True):
        if row_status == RowStatus.OK:
            np.testing.assert_array_equal(found, stored(photo))
        else:
            with pytest.raises(images.PhotoError):
                stored(photo)


@pytest.mark.parametrize("factors", [(1, 1), (4, 4), (3, 7), (20, 1)])
def test_pixels_are_the_means_of_their_blocks(factors):
    photo = np.random.default_rng(0).integers(0, 256, [SIZE * factors[0], SIZE * factors[1], 3], np.uint8)
    means = photo.reshape(SIZE, factors[0], SIZE, factors[1], 3).mean(axis=(1, 3))
    found = images.resize(tf.constant(photo), SIZE).numpy()
    assert found.dtype == np.uint8
    # A mean that lies between two integers, up to rounding, may go to either.
    assert np.abs(found - means).max() <= 0.5 + 1e-4


def test_a_large_photo_is_not_copied_into_floats():
    """A photo of 50 megapixels would need 600 MB: whatever is a float has the size of the result at most."""
    spec = tf.TensorSpec([None, None, 3], tf.uint8)
    graph = tf.function(lambda pixels: images.resize(pixels, SIZE)).get_concrete_function(spec).graph
    floats = [
        tensor.shape.num_elements()
        for op in graph.get_operations()
        for tensor in op.outputs
        if tensor.dtype.is_floating
    ]
    assert floats and None not in floats and max(floats) == SIZE * SIZE * 3


@pytest.mark.parametrize("orientation", [None, 1, 6])
@pytest.mark.parametrize(
    "sides, scale",
    [
        ((31, 48), 1),
        ((64, 64), 2),
        ((62, 300), 1),  # The shorter side decides,
        ((300, 128), 4),
        ((126, 300), 2),
        ((256, 400), 8),
        ((800, 254), 2),  # and a block that would be filled up at the end of a side of a few pixels.
        ((512, 511), 8),
        ((65, 300), 1),
        ((257, 1024), 2),
        ((386, 386), 4),
    ],
)
def test_large_jpegs_are_decoded_at_the_scale_that_is_needed(served, sides, scale, orientation):
    """The largest of 1, 2, 4 and 8 that leaves 2 * SIZE pixels, and fills up at most 1/128 of a side for SIZE 16."""
    image = Image.fromarray(random_bytes(np.random.default_rng(scale), 8, 8, 3)).resize(sides, Image.BICUBIC)
    photo = encoded(image, "JPEG", None if orientation is None else exif_block(orientation), quality=90)
    decoded = tf.io.decode_jpeg(photo, channels=3, ratio=scale, dct_method="INTEGER_ACCURATE").numpy()
    (found,) = both_ends(served, [photo])
    np.testing.assert_array_equal(found, resized(np.rot90(decoded, -1) if orientation == 6 else decoded))


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK", "progressive"])
@pytest.mark.parametrize("side", [64, 150, 512])
def test_a_scaled_jpeg_looks_as_the_whole_one(served, side, mode):
    """As Pillow sees it at full size."""
    rng = np.random.default_rng(side)
    image = Image.fromarray(random_bytes(rng, 4, 4, 3)).resize((side, side + 4), Image.BICUBIC)
    noise = rng.normal(0, 8, [side + 4, side, 1])
    image = Image.fromarray(np.clip(np.asarray(image) + noise, 0, 255).astype(np.uint8))
    options = {"progressive": True} if mode == "progressive" else {}
    photo = encoded(image.convert("RGB" if options else mode), "JPEG", quality=90, **options)
    (found,) = both_ends(served, [photo])
    difference = np.abs(found - resized(seen(photo)))
    assert difference.max() <= 8 and difference.mean() <= 1.5, (difference.max(), difference.mean())


def test_photos_too_large_for_many_at_a_time(served):
    """They are decoded after the others, one by one; those that nobody decodes keep their status."""
    rng = np.random.default_rng(12)
    side = int(images.AT_ONCE_PIXELS**0.5) + 1
    large = Image.fromarray(random_bytes(rng, 6, 6, 3)).resize((side, side), Image.NEAREST)
    small = [random_png(rng, "RGB") for _ in range(3)]
    photos = [
        small[0],
        encoded(large, "PNG"),
        encoded(large, "JPEG"),
        small[1],
        encoded(large, "PNG")[:-5000],
        small[2],
    ]
    photos.append(encoded(Image.new("1", (50_000, 1001)), "PNG"))
    pixels, status = served(photos)
    ok = RowStatus.OK
    assert status == [ok, ok, ok, ok, RowStatus.BROKEN, ok, RowStatus.TOO_LARGE]
    np.testing.assert_array_equal(pixels[[0, 1, 2, 3, 5]], [stored(photos[row]) for row in (0, 1, 2, 3, 5)])
    assert (pixels[[4, 6]] == 0).all()
    np.testing.assert_array_equal(pixels[1], resized(np.asarray(large)))
