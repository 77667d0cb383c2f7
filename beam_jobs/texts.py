"""The encoding of a text file, and its lines, in bounded memory."""

import codecs
import io
from collections.abc import Iterator
from typing import BinaryIO

from charset_normalizer import from_bytes

HEAD_BYTES = 1 << 18  # Unpacked bytes that a dialect is recognised by.
MAX_LINE = 1 << 22  # Characters of a line. A longer one is no row, and no more of it is held in memory.

_BOMS = ((codecs.BOM_UTF32_LE, "utf-32-le"), (codecs.BOM_UTF32_BE, "utf-32-be"), (codecs.BOM_UTF8, "utf-8"),
         (codecs.BOM_UTF16_LE, "utf-16-le"), (codecs.BOM_UTF16_BE, "utf-16-be"))  # fmt: skip

#: The encodings that an export may have beside Unicode's. Old and rare ones would only win by chance.
_ENCODINGS = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257", "cp932", "euc_jp",
              "gb18030", "big5", "cp949", "koi8_r"]  # fmt: skip

_LATIN = ("cp1252", "cp1250", "cp1254", "cp1257")


def encoding_of(head: bytes, expected: str = "") -> str:
    """The encoding of a text, by its first bytes.

    A byte order mark decides. Without one it is UTF-8 where the text is that, but for a few broken lines. Otherwise
    charset-normalizer guesses from the lines that are not ASCII, if there are at least two: one may be a broken line.

    Args:
        head: the first bytes.
        expected: encoding of other files of the table, which then takes the place of a guess.
    """
    for bom, encoding in _BOMS:
        if head.startswith(bom):
            return encoding
    size = len(head) // 4 * 4
    if size and b"\0" in head[:1024]:
        zeros = [head[offset:size:4].count(0) / (size // 4) for offset in range(4)]
        for encoding, pattern in (("utf-32-le", "0111"), ("utf-32-be", "1110"), ("utf-16-le", "0101"),
                                  ("utf-16-be", "1010")):  # fmt: skip
            if all((share > 0.7) == (wanted == "1") for share, wanted in zip(zeros, pattern, strict=True)):
                return encoding
    lines = head.splitlines()
    if len(lines) > 1 and len(head) >= HEAD_BYTES:
        lines.pop()  # It may break off inside a character.
    lines = [line for line in lines if not line.isascii()]
    broken = [line for line in lines if not _is_utf8(line)]
    if len(broken) < (1 if expected else 2) or 2 * len(broken) < len(lines):
        return "utf-8"
    return expected or _guess(b"\n".join(dict.fromkeys(broken)))


def _guess(text: bytes) -> str:
    """The likeliest encoding of lines that are not UTF-8.

    Between Latin encodings charset-normalizer often finds no difference. There the one counts that makes letters of
    the bytes, and then the most common one.
    """
    coherence: dict[str, float] = {}
    for match in from_bytes(text, cp_isolation=_ENCODINGS, threshold=0.5):
        for encoding in match.could_be_from_charset:  # Those that give the same text.
            coherence.setdefault(encoding, match.coherence)
    best = next(iter(coherence), "cp1252")
    if best not in _LATIN:
        return best

    def score(encoding: str) -> tuple[float, float, bool]:
        other = [character for character in text.decode(encoding, "replace") if character > "\x7f"]
        letters = sum(map(str.isalpha, other)) / len(other)
        return round(letters, 2), round(coherence.get(encoding, 0.0), 2), encoding == "cp1252"

    return max(_LATIN, key=score)


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode()
    except UnicodeDecodeError:
        return False
    return True


def errors_of(encoding: str) -> str:
    """How bytes that are no text are decoded: to surrogates, which `formats.is_unicode` finds."""
    return "surrogatepass" if encoding.startswith(("utf-16", "utf-32")) else "surrogateescape"


def decoded(head: bytes, encoding: str) -> str:
    """The text of first bytes, which may break off inside a character."""
    return codecs.getincrementaldecoder(encoding)(errors_of(encoding)).decode(head)


def lines_of(stream: BinaryIO, encoding: str) -> Iterator[str]:
    """The lines of a text, each with its end, in bounded memory.

    A line of more than `MAX_LINE` characters comes as its first `MAX_LINE` + 1 ones.
    """
    decoder = codecs.getincrementaldecoder(encoding)(errors_of(encoding))
    pieces: list[str] = []  # Of a line whose end has not been read; only the newest is searched for one.
    size, skipping, data = 0, False, b"start"
    while data:
        data = stream.read(HEAD_BYTES)
        text = decoder.decode(data, final=not data)
        if pieces and pieces[-1].endswith("\r"):  # It may be the half of a line end.
            text = _split_last(pieces) + text
        lines = list(io.StringIO(text, newline=""))
        rest = lines.pop() if data and lines and not lines[-1].endswith("\n") else ""
        if lines:
            if skipping:  # What is left of a line that was too long.
                del lines[0]
            elif pieces:
                lines[0] = "".join([*pieces, lines[0]])
            pieces, size, skipping = [], 0, False
        if rest:
            pieces = [rest] if skipping else [*pieces, rest]
            size = sum(map(len, pieces))
            if size > MAX_LINE and not skipping:
                lines.append("".join(pieces)[: MAX_LINE + 1])
                pieces, skipping = [rest], True
        yield from lines
    if pieces and not skipping:
        yield "".join(pieces)


def _split_last(pieces: list[str]) -> str:
    """Takes the last character from the last piece."""
    last = pieces.pop()
    pieces.append(last[:-1])
    return last[-1]
