"""Photos of every mode, orientation and format, and what a person sees of them by Pillow and NumPy."""

import io
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

PNG_MODES = ["1", "L", "LA", "P", "P with opacities", "P with a hole", "RGB", "RGBA"]
PNG_MODES += ["L with a hole", "RGB with a hole"]
PNG_MODES += ["I;16", "LA of 16 bits", "RGB of 16 bits", "RGBA of 16 bits"]
_CHANNELS = {0: 1, 2: 3, 4: 2, 6: 4}  # By colour type.


def random_image(rng, mode="RGBA", smooth=False):
    """An image of random sides, not square; smooth for formats with loss."""
    height, width = rng.integers(5, 40), rng.integers(41, 60)
    if rng.random() < 0.5:
        height, width = width, height
    if smooth:
        pixels = np.asarray(Image.fromarray(random_bytes(rng, 2, 2, 4), "RGBA").resize((width, height), Image.BILINEAR))
    else:
        pixels = random_bytes(rng, height, width, 4)
        pixels[..., 3] *= rng.random([height, width]) < 0.7  # Some are wholly transparent.
    return Image.fromarray(np.ascontiguousarray(pixels), "RGBA").convert(mode)


def random_bytes(rng, *shape):
    return rng.integers(0, 256, shape, np.uint8)


def exif_block(orientation, order="<", kind=3, before=3):
    """An EXIF block: `before` other entries, then the orientation as a number of type `kind`, and one more."""
    number = {1: "Bxxx", 3: "Hxx", 4: "I"}[kind]
    entries = [struct.pack(order + "HHIHxx", 0x0100 + tag, 3, 1, 6) for tag in range(before)]
    entries.append(struct.pack(order + "HHI" + number, 0x0112, kind, 1, orientation))
    entries.append(struct.pack(order + "HHIHxx", 0x0128, 3, 1, 2))
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(order + "I", 14) + b"filler"
    return head + struct.pack(order + "H", len(entries)) + b"".join(entries) + bytes(4)


def encoded(image, kind, exif=None, **options):
    """The bytes of an image file."""
    content = io.BytesIO()
    if exif is not None:
        options["exif"] = b"Exif\0\0" + exif
    image.save(content, kind, **options)
    return content.getvalue()


def png_chunk(kind, body):
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png_of(pixels, colour_type, chunks=(), late_chunks=(), idat=1 << 20):
    """A PNG file of [H, W, C] uint8 or uint16 pixels, with chunks before and after those of the pixels."""
    depth, (height, width) = pixels.dtype.itemsize * 8, pixels.shape[:2]
    rows = pixels.astype(pixels.dtype.newbyteorder(">")).reshape(height, -1)
    packed = zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))
    header = struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks]
    parts += [(b"IDAT", packed[start : start + idat]) for start in range(0, len(packed), idat)]
    return b"\x89PNG\r\n\x1a\n" + b"".join(png_chunk(*part) for part in [*parts, *late_chunks, (b"IEND", b"")])


def random_png(rng, mode, exif=None):
    """A PNG file of one of PNG_MODES."""
    if mode.endswith("16 bits") or mode == "I;16":
        colour_type = {"I": 0, "L": 4, "R": 6 if "A" in mode else 2}[mode[0]]
        pixels = rng.integers(0, 1 << 16, [*rng.integers(5, 60, 2), _CHANNELS[colour_type]]).astype(np.uint16)
        return png_of(pixels, colour_type, [(b"eXIf", exif)] if exif else [])
    image = random_image(rng)
    if mode[0] == "P":
        image = image.convert("RGB").quantize(int(rng.integers(2, 257)))
    else:
        image = image.convert(mode.split()[0])
    options = {}
    if mode == "P with opacities":
        options["transparency"] = rng.bytes(int(rng.integers(1, len(image.getpalette()) // 3 + 1)))
    elif mode.endswith("a hole"):
        options["transparency"] = image.getpixel((0, 0))
    return encoded(image, "PNG", exif, **options)


def jpeg_with(jpeg, segments):
    """A JPEG file with further segments, (marker, body) each, before all others."""
    inserted = b"".join(bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body for marker, body in segments)
    return jpeg[:2] + inserted + jpeg[2:]


def on_white(pixels):
    """[H, W, 3] integers of [H, W, 4] pixels on white, each rounded to the nearest."""
    colour, opacity = np.split(pixels.astype(int), [3], axis=2)
    return np.floor((colour * opacity + 255 * (255 - opacity)) / 255 + 0.5).astype(int)


def seen(content):
    """[H, W, 3] integers: the picture that a viewer shows of a photo file."""
    with Image.open(io.BytesIO(content)) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode.startswith("I;16"):
            return np.repeat(np.asarray(upright)[..., None].astype(int) >> 8, 3, axis=2)
        return on_white(np.asarray(upright.convert("RGBA")))
