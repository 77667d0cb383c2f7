"""Names the format of a file by its first bytes, so that a refusal says what was found."""

import re

#: What stands at the start of a file, as a regular expression, and what the file is.
_STARTS = (
    (b"\xff\xd8\xff", "a JPEG file"),
    (b"\x89PNG\r\n\x1a\n", "a PNG file"),
    (rb"RIFF.{4}WEBP", "a WebP file"),
    (rb"GIF8[79]a", "a GIF file"),
    (rb"BM.{4}\0\0\0\0", "a BMP file"),
    (rb"II(\*\0|\+\0)|MM(\0\*|\0\+)", "a TIFF file"),
    (rb".{4}ftyp(avi[fs]|(mif1|msf1).{0,40}?avi[fs])", "an AVIF file"),
    (rb".{4}ftyp(hei[cmsx]|hev[cmsx]|mif1|msf1)", "a HEIC file (HEIF)"),
    (rb".{4}ftyp", "a video file (MP4 or QuickTime)"),
    (rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51", "a JPEG 2000 file"),
    (rb"\xff\x0a|\0\0\0\x0cJXL \r\n\x87\n", "a JPEG XL file"),
    (rb"\0\0\x01\0", "an ICO file"),
    (b"8BPS", "a Photoshop file"),
    (b"%PDF-", "a PDF file"),
    (b"%!PS", "a PostScript file"),
    (b"\x1f\x8b", "a gzip file"),
    (rb"PK\x03\x04|PK\x05\x06", "a ZIP file"),
    (b"\x1aE\xdf\xa3", "a video file (Matroska or WebM)"),
)
#: The formats that are read.
PHOTOS = frozenset(
    ["a JPEG file", "a PNG file", "a WebP file", "a GIF file", "a BMP file", "a TIFF file", "an AVIF file"]
    + ["a JPEG 2000 file"]
)
_SVG = rb"<svg[\s>]|<!DOCTYPE\s+svg"
_HTML = rb"<(!DOCTYPE\s+html|html|head|body|title|script|div|p|h1)[\s>]"
_LOOKED_AT = 1024


def format_of(content: bytes) -> str:
    r"""What a file is, by its content, with an article.

    >>> format_of(b"<!doctype html><p>404</p>")
    'an HTML page'
    >>> format_of(b"\n\xff\xd8\xff\xe0")
    "of an unknown format (it begins with b'\\n\\xff\\xd8\\xff\\xe0')"
    """
    head = content[:_LOOKED_AT]
    for start, name in _STARTS:
        if re.match(start, head, re.DOTALL):
            return name
    if not head.strip(b"\0"):
        return "empty" if not head else "a file of zero bytes alone"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith(b"<"):
        if re.search(_SVG, text, re.IGNORECASE):
            return "an SVG drawing"
        return "an HTML page" if re.search(_HTML, text, re.IGNORECASE) else "an XML file"
    if text.startswith((b"{", b"[")) and _is_text(head):
        return "a JSON file"
    return "a text file" if _is_text(head) else f"of an unknown format (it begins with {head[:8]!r})"


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode("utf-8", errors="ignore" if len(head) == _LOOKED_AT else "strict")
    except UnicodeDecodeError:
        return False
    return all(character.isprintable() or character in "\t\r\n\f" for character in text)
