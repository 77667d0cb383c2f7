"""Photos of every format at ingest: what a person sees, or a reason that is true."""

import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from beam_jobs.photo_formats import format_of
from beam_jobs.photos import normalise_all
from courier_tf import images
from tests.beam_jobs.conftest import normalise
from tests.photo_cases import encoded, exif_block, on_white, random_image, seen

SIZE = 16
#: Format -> modes that Pillow writes of it.
MODES = {
    "GIF": ["L", "P", "RGB", "RGBA"],
    "BMP": ["1", "L", "P", "RGB", "RGBA"],
    "TIFF": ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"],
    "AVIF": ["RGB", "RGBA"],
    "JPEG2000": ["L", "LA", "RGB", "RGBA"],
}
REFUSED = {
    "an HTML page": b"\xef\xbb\xbf\n <!DOCTYPE html><html><body>404</body></html>",
    "an SVG drawing": b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>",
    "an XML file": b"<?xml version='1.0'?><Error><Code>AccessDenied</Code></Error>",
    "a HEIC file (HEIF)": b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40),
    "a JPEG XL file": b"\xff\x0a" + bytes(40),
    "a PDF file": b"%PDF-1.4\n%\xe2\xe3",
    "an ICO file": b"\0\0\1\0\1\0" + bytes(30),
    "a ZIP file": b"PK\x03\x04" + bytes(30),
    "a gzip file": b"\x1f\x8b\x08" + bytes(30),
    "a video file (MP4 or QuickTime)": b"\0\0\0\x18ftypmp42" + bytes(30),
    "a Photoshop file": b"8BPS\0\1" + bytes(30),
    "a JSON file": b'{"error": "not found"}',
    "a text file": "kein Foto für Sie".encode(),
    "a file of zero bytes alone": bytes(500),
    "of an unknown format": b"\n\xff\xd8\xff\xe0\0\x10JFIF",
}


def stored(photo):
    return tf.io.decode_png(normalise(photo, SIZE)).numpy().astype(int)


def resized(pixels):
    return images.resize(tf.constant(pixels.astype(np.uint8)), SIZE).numpy().astype(int)


def with_orientation(image, kind, orientation):
    """TIFF has its orientation in its own directory, which Pillow writes from its own object."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = io.BytesIO()
    image.save(content, kind, exif=exif, **({"lossless": True} if kind == "WEBP" else {}))
    return content.getvalue()


@pytest.mark.parametrize("kind, mode", [(kind, mode) for kind, modes in MODES.items() for mode in modes])
def test_other_formats_agree_with_pillow(kind, mode):
    rng = np.random.default_rng(len(kind + mode))
    if mode == "I;16":
        photo = encoded(Image.fromarray(rng.integers(0, 1 << 16, [20, 30], np.uint16)), kind)
    else:
        image = random_image(rng)
        photo = encoded(image.convert("RGB").quantize(20) if mode == "P" else image.convert(mode), kind)
    np.testing.assert_array_equal(stored(photo), resized(seen(photo)))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["TIFF", "AVIF"])
def test_other_formats_are_turned(kind, orientation):
    """By NumPy from the picture that the file holds, as Pillow turns some by itself when it reads them."""
    rng = np.random.default_rng(orientation)
    image = random_image(rng, "RGBA", smooth=True)
    pixels = on_white(np.asarray(image))
    turned = [pixels, pixels[:, ::-1], pixels[::-1, ::-1], pixels[::-1]]
    other = pixels.swapaxes(0, 1)
    turned += [other, other[:, ::-1], other[::-1, ::-1], other[::-1]]
    difference = np.abs(stored(with_orientation(image, kind, orientation)) - resized(turned[orientation - 1]))
    assert difference.max() <= (0 if kind == "TIFF" else 16)


@pytest.mark.parametrize("reason", REFUSED)
def test_the_reason_names_the_format(reason):
    with pytest.raises(images.PhotoError, match="this format is not read") as error:
        normalise(REFUSED[reason], SIZE)
    assert str(error.value).startswith(f"it is {reason}")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", *MODES])
def test_a_photo_that_is_cut_off_is_called_broken(kind):
    """And never another format than it has."""
    photo = encoded(random_image(np.random.default_rng(1), "RGB"), kind)
    name = format_of(photo)
    assert {"JPEG2000": "JPEG 2000", "WEBP": "WebP"}.get(kind, kind) in name
    for cut in (len(photo) // 2, 40, 25):
        with pytest.raises(images.PhotoError, match=f"it is {name}"):
            normalise(photo[:cut], SIZE)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", *MODES])
def test_a_photo_of_too_many_pixels(kind, monkeypatch):
    monkeypatch.setattr(images, "MAX_PIXELS", 100)
    photo = encoded(Image.new("RGB", (11, 10)), kind, exif_block(6) if kind == "WEBP" else None)
    with pytest.raises(images.PhotoError, match="11 x 10 pixels, more than 100"):
        normalise(photo, SIZE)


@pytest.mark.parametrize("seed", range(3))
def test_photos_of_one_call_are_what_each_is_alone(seed):
    """Whole, broken, empty and foreign ones side by side, none of which costs another."""
    rng = np.random.default_rng(seed)
    whole = [encoded(random_image(rng, "RGB"), kind) for kind in ("JPEG", "PNG", "WEBP", "BMP")]
    broken = [file[: len(file) // 2] for file in whole]
    files = [*whole, *broken, b"", b"no photo", *REFUSED.values()]
    rng.shuffle(files)
    for file, made in zip(files, normalise_all(files, SIZE), strict=True):
        if isinstance(made, images.PhotoError):
            with pytest.raises(images.PhotoError) as error:
                normalise(file, SIZE)
            assert str(error.value) == str(made)
        else:
            assert made == normalise(file, SIZE)
    assert sum(isinstance(made, bytes) for made in normalise_all(files, SIZE)) == 4
    assert normalise_all([], SIZE) == []


def test_bombs_of_other_formats_are_not_unpacked():
    """Headers that promise 400 and 121 megapixels: Pillow refuses the one by itself, and warns of the other."""
    photo = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    for side in (20_000, 11_000):
        photo[18:26] = side.to_bytes(4, "little") * 2
        with pytest.raises(images.PhotoError, match="more than 50000000"):
            normalise(bytes(photo), SIZE)


def test_hostile_bytes_of_every_format():
    """Changed anywhere: a photo or a reason, but no other error."""
    rng = np.random.default_rng(2)
    whole = [encoded(random_image(rng, "RGB"), kind) for kind in ("JPEG", "PNG", "WEBP", *MODES)]
    for _ in range(150):
        photo = bytearray(whole[rng.integers(len(whole))])
        for place in rng.integers(0, min(len(photo), 300), 3):
            photo[place] = rng.integers(256)
        try:
            assert stored(bytes(photo)).shape == (SIZE, SIZE, 3)
        except images.PhotoError as error:
            assert str(error).startswith(("it is ", "it has "))
