"""Photos for a server: in other formats as PNG, and all else as it is."""

import io
import sys

import numpy as np
import pytest
from PIL import Image

from serving.client.contract import MAX_PIXELS
from serving.client.photos import PhotoFormatError, as_png, upright
from tests.photo_cases import encoded, exif_block, on_white, random_image, seen


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "BMP", "TIFF"])
def test_other_formats_become_png_of_the_same_picture(kind):
    rng = np.random.default_rng(1)
    for mode in ("RGB", "RGBA", "L"):
        options = {"lossless": True, "exif": b"Exif\0\0" + exif_block(6)} if kind == "WEBP" else {}
        photo = encoded(random_image(rng, mode), kind, **options)
        png = Image.open(io.BytesIO(as_png(photo)))
        assert png.format == "PNG" and not png.getexif()
        np.testing.assert_array_equal(on_white(np.asarray(png.convert("RGBA"))), seen(photo))


def test_what_stays_as_it_is(monkeypatch):
    image = random_image(np.random.default_rng(2), "RGB")
    for photo in (encoded(image, "JPEG", exif_block(6)), encoded(image, "PNG"), b"", b"<html>", b"RIFF1234WEBPVP8 "):
        assert as_png(photo) == photo
    animated = encoded(image, "WEBP", save_all=True, append_images=[image.rotate(90)])
    assert as_png(animated) == animated
    webp = encoded(image, "WEBP")
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert as_png(webp) == webp, "there is no Pillow"


def test_reasons():
    bitmap = bytearray(encoded(Image.new("RGB", (4, 4)), "BMP"))
    bitmap[18:26] = (9000).to_bytes(4, "little") * 2
    floats = encoded(Image.new("F", (4, 4)), "TIFF")
    for photo, reason in (
        (b"junk", "this format is not read"),
        (bytes(bitmap), f"9000 x 9000 pixels, more than {MAX_PIXELS}"),
        (floats, "32 bits"),
        (encoded(Image.new("RGB", (40, 40)), "GIF")[:60], "it is broken"),
    ):
        with pytest.raises(PhotoFormatError, match=reason):
            upright(photo)
