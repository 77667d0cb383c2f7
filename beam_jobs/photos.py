"""Reads, checks and resizes photos. They are re-encoded without loss, so that the server sees the same pixels."""

import io
import os

import tensorflow as tf
from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems
from PIL import Image, UnidentifiedImageError

from courier_tf import images

FORMATS = ("JPEG", "PNG", "WEBP")


def resolve(raw: str, image: str) -> str:
    """The address of a photo: a URI as it is, and any other path inside the raw folder.

    Raises:
        PhotoError: the path leaves the folder, or is not a path.
    """
    if "\0" in image:
        raise images.PhotoError("the path holds a NUL byte")
    if FileSystems.get_scheme(image):
        return image
    if FileSystems.get_scheme(raw):
        if ".." in image.split("/") or image.startswith("/"):
            raise images.PhotoError(f"the path {image!r} leaves the raw folder")
        return FileSystems.join(raw, image)
    root = os.path.realpath(raw)
    path = os.path.realpath(os.path.join(root, image))
    if os.path.commonpath([root, path]) != root:
        raise images.PhotoError(f"the path {image!r} leaves the raw folder")
    return path


def read_photo(path: str) -> bytes | None:
    """The bytes of a photo; None where there is no such file.

    Raises:
        PhotoError: the file cannot be read, or no file system here knows such an address.
    """
    try:
        if not FileSystems.exists(path):
            return None
        # A photo is never unpacked, whatever its file extension.
        with FileSystems.open(path, compression_type=CompressionTypes.UNCOMPRESSED) as stream:
            return stream.read()
    except (ValueError, OSError) as error:  # An unknown scheme, a missing extra, or the system's reason.
        raise images.PhotoError(f"it cannot be read: {error}") from error


def normalise(encoded: bytes, size: int) -> bytes:
    """Turns a JPEG, PNG or WebP file into a PNG of size x size x 3 pixels.

    Raises:
        PhotoError: it is none of these, is broken or animated, or has more than `images.MAX_PIXELS` pixels.
    """
    if not encoded:
        raise images.PhotoError("the file is empty")
    try:
        with Image.open(io.BytesIO(encoded), formats=FORMATS) as header:  # This reads the header only.
            (width, height), kind = header.size, header.format
            # Some cameras put several pictures into one JPEG file (MPO). Decoders show the first.
            frames = 1 if kind == "MPO" else getattr(header, "n_frames", 1)
    except Image.DecompressionBombError as error:  # Pillow checks its own limit first.
        raise images.PhotoError(f"it has more than {images.MAX_PIXELS} pixels: {error}") from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise images.PhotoError(f"it is no JPEG, PNG or WebP photo ({type(error).__name__})") from error
    if width * height > images.MAX_PIXELS:
        raise images.PhotoError(f"it has {width} x {height} pixels, more than {images.MAX_PIXELS}")
    if frames > 1:
        raise images.PhotoError(f"it is animated ({frames} frames)")
    try:
        pixels = images.resize(images.decode_webp(encoded), size) if kind == "WEBP" else images.decode(encoded, size)
    except tf.errors.InvalidArgumentError as error:
        raise images.PhotoError(f"it is a broken {kind} file") from error
    return tf.io.encode_png(pixels).numpy()
