"""Photos in other formats than JPEG and PNG, which a server does not read. It needs Pillow: the extra `photos`.

>>> as_png(b"no photo")
b'no photo'
"""

import io
from typing import TYPE_CHECKING

from serving.client.contract import MAX_PIXELS

if TYPE_CHECKING:
    from PIL.Image import Image

#: The formats that are read here, in Pillow's words.
FORMATS = ("WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000")
_JPEG, _PNG = b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"


class PhotoFormatError(ValueError):
    """Pillow does not read a photo as one picture; the message is the reason."""


def as_png(photo: bytes) -> bytes:
    """Turns a photo that a server does not read into a PNG: upright, with its transparency, and without loss.

    Args:
        photo: the bytes of a file.

    Returns:
        The same bytes for JPEG and PNG files, and for what cannot be read as one picture (or where there is no Pillow):
        a server gives them a status.
    """
    if photo.startswith((_JPEG, _PNG)):
        return photo
    try:
        image = upright(photo)
    except (PhotoFormatError, ImportError):
        return photo
    png = io.BytesIO()
    image.save(png, "PNG", compress_level=1)
    return png.getvalue()


def upright(photo: bytes, most_pixels: int = MAX_PIXELS) -> "Image":
    """Reads a photo of one of `FORMATS`, which its bytes tell, not its name.

    Args:
        photo: the bytes of a file.
        most_pixels: a larger photo is refused before it is decoded.

    Returns:
        The picture, turned as its EXIF orientation says. Its mode is RGBA where it may be transparent, else RGB.

    Raises:
        PhotoFormatError: it has another format, several frames, too many pixels, or is broken.
        ImportError: there is no Pillow.
    """
    from PIL import Image, UnidentifiedImageError

    Image.init()
    formats = [name for name in FORMATS if name in Image.OPEN]
    try:
        with Image.open(io.BytesIO(photo), formats=formats) as image:  # This reads the header only.
            _require_one_picture(image, most_pixels)
            return _turned(image)
    except PhotoFormatError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # Pillow has limits of its own.
        raise PhotoFormatError(f"it has more than {most_pixels} pixels") from error
    except UnidentifiedImageError as error:
        raise PhotoFormatError("this format is not read") from error
    except Exception as error:  # For hostile bytes, Pillow raises many kinds.
        raise PhotoFormatError(f"it is broken ({error})") from error


def _require_one_picture(image: "Image", most_pixels: int) -> None:
    if image.width * image.height > most_pixels:
        raise PhotoFormatError(f"it has {image.width} x {image.height} pixels, more than {most_pixels}")
    try:
        image.seek(1)
    except EOFError:
        image.seek(0)
    else:
        raise PhotoFormatError("it is animated or has several pages")
    if image.mode in ("I", "F"):
        raise PhotoFormatError("its pixels have 32 bits, and the file does not say which of them are white")


def _turned(image: "Image") -> "Image":
    import numpy as np
    from PIL import Image, ImageOps

    for name in ("xmp", "XML:com.adobe.xmp"):  # Else Pillow takes an orientation from there, which browsers do not.
        image.info.pop(name, None)
    turned = ImageOps.exif_transpose(image)
    if turned.mode.startswith("I;16"):  # Of 16 bits the upper 8 are kept, as decoders of PNG do.
        return Image.fromarray((np.asarray(turned) >> 8).astype(np.uint8)).convert("RGB")
    return turned.convert("RGBA" if turned.has_transparency_data else "RGB")
