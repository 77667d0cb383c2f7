"""What the image field of a catalogue names: one photo or several, files or web addresses."""

import contextlib
import json

EXTENSIONS = frozenset(
    ["jpg", "jpeg", "jpe", "jfif", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "heic", "heif", "jp2"]
)
SCHEMES = ("http", "https")
_SEPARATORS = ("|", ",", ";", " ", "\n")  # Of several photos in a field.


def is_web_address(image: str) -> bool:
    """Whether the image of an item is to be downloaded.

    >>> is_web_address("HTTPS://shop.example/a.jpg"), is_web_address("images/a.jpg")
    (True, False)
    """
    return image.partition(":")[0].lower() in SCHEMES and "://" in image


def first_of(image: str) -> str:
    """The first photo where a field names several: a list of JSON, or names with commas, semicolons, bars or blanks.

    >>> first_of("a.jpg, b.jpg"), first_of("https://shop.example/a|https://shop.example/b"), first_of('["a", "b"]')
    ('a.jpg', 'https://shop.example/a', 'a')
    >>> first_of("shirt, blue.jpg"), first_of("https://shop.example/w_9,q_9/a.jpg")
    ('shirt, blue.jpg', 'https://shop.example/w_9,q_9/a.jpg')
    """
    if image[:1] == "[" and image[-1:] == "]":
        with contextlib.suppress(ValueError, RecursionError):
            listed = json.loads(image)
            first = listed[0] if listed else ""
            if isinstance(first, dict):
                first = next((first[key] for key in ("src", "url", "href", "path") if key in first), image)
            return str(first) if isinstance(first, str) else image
    for separator in _SEPARATORS:
        parts = [part.strip() for part in image.split(separator)] if separator in image else []
        parts = [part for part in parts if part]
        are_names = all(map(is_web_address, parts)) or (
            not any(map(is_web_address, parts)) and all(map(_has_extension, parts))
        )
        if len(parts) > 1 and are_names:
            return parts[0]
    return image


def _has_extension(path: str) -> bool:
    return path.partition("?")[0].rpartition(".")[2].casefold() in EXTENSIONS
