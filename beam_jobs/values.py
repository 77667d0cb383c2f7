"""What stands in a field: no value, an identifier, a label. Which texts mean the same identifier."""

import re
import unicodedata
from collections.abc import Iterable

from courier_tf import schema
from courier_tf.escaping import printable

#: Blanks without a width, which `str.strip` leaves: of web pages, and byte order marks of files that were joined.
_WIDTHLESS = "\u200b\u200e\u200f\u2060\ufeff\u180e\u00ad"
_BLANKS = "".join(filter(str.isspace, map(chr, range(0x3001)))) + _WIDTHLESS
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
#: What a spreadsheet or a double makes of a long number: 1.23457E+12, 1,23457E+12, 4E+12, 9007199254740992.0.
_ROUNDED = re.compile(r"\d([.,]\d*[eE]\+?|[eE]\+)\d+|\d{16,}[.,]0*")
#: What a spreadsheet writes where it has no value, in several languages: #REF!, #NAME?, #N/A, #BEZUG!, and ###.
_SPREADSHEET_ERROR = re.compile(r"#[^\W\d_/]+(/0)?[!?]|#N/?[AV]|#{3,}")

_LABELS = {"0": 0, "1": 1, "0.0": 0, "1.0": 1}
_LABEL_NUMBER = re.compile(r"([01])([.,]0+)?|(0)[eE]-?\d+")  # 1.00, 0,0, and 0E-10 of a decimal.
_LABEL_WORDS = {"false": 0, "true": 1, "f": 0, "t": 1, "no": 0, "yes": 1, "n": 0, "y": 1}


class NoValue(ValueError):
    """A text is not acceptable. The message is the reason."""


def stripped(text: str) -> str:
    """A text without blanks at its ends, of any kind and width.

    >>> stripped(" item0\\u00a0\\u200b")
    'item0'
    """
    return text.strip() if text.isascii() else text.strip(_BLANKS)


def null_words(words: Iterable[str]) -> frozenset[str]:
    """The words for no value, as `is_null` looks them up."""
    return frozenset({"", *(stripped(word).casefold() for word in words)})


def is_null(text: str, nulls: frozenset[str]) -> bool:
    """Whether a text without blanks at its ends means no value.

    >>> [is_null(text, null_words(["null"])) for text in ("NULL", "", "nullable")]
    [True, True, False]
    """
    return len(text) < 32 and text.casefold() in nulls


def identifier(text: str, nulls: frozenset[str]) -> str:
    """An id without blanks at its ends.

    Raises:
        NoValue: there is none, or it cannot be one.
    """
    name = text.strip() if text.isascii() else text.strip(_BLANKS)
    if len(name) < 32 and name.casefold() in nulls:
        raise NoValue("is empty" if not name else f"{printable(name)} means no value (null_words)")
    if not name.isprintable() and (control := _CONTROL.search(name)):
        raise NoValue(f"{printable(name)} holds the control character {printable(control.group())}")
    if 4 * len(name) > schema.MAX_ID_BYTES and len(name.encode(errors="replace")) > schema.MAX_ID_BYTES:
        raise NoValue(f"{printable(name)} is longer than {schema.MAX_ID_BYTES} bytes")
    if ("." in name or "+" in name or "," in name) and _ROUNDED.fullmatch(name):
        raise NoValue(f"{printable(name)} is a rounded number, which may stand for several ids: export ids as text")
    if name[0] == "#" and _SPREADSHEET_ERROR.fullmatch(name):
        raise NoValue(f"{printable(name)} is an error of a spreadsheet, and no id")
    return name


def label(text: str) -> int:
    """0 or 1.

    Raises:
        NoValue: the text is no 0 or 1, also written with zeros behind it (1.0, 0,00), and none of true, false, t, f,
            yes, no, y and n, in any case.
    """
    known = _LABELS.get(text)
    if known is None:
        word = stripped(text)
        known = _LABEL_WORDS.get(word.casefold())
        if number := _LABEL_NUMBER.fullmatch(word):
            known = int(number[1] or number[3])
    if known is None:
        raise NoValue(f"{printable(text)!r} is neither 0 nor 1")
    return known


def canonical(identifier: str) -> str:
    """What the spellings of an id share that tools confuse: leading zeros, `.0`, case, quotes and blanks.

    >>> [canonical(text) for text in ("0012", "12.0", "SKU-7 ", "0")]
    ['12', '12', 'sku-7', '0']
    """
    text = unicodedata.normalize("NFKC", stripped(identifier)).strip("\"'").casefold()
    text = re.sub(r"(?<=\d)\.0+$", "", text)
    return text.lstrip("0") or text[-1:]


def spellings(names: Iterable[str]) -> list[tuple[str, ...]]:
    """Groups of ids that may be one: texts that differ, and are the same to `canonical`.

    >>> spellings(["1000", "1001", "1000.0"])
    [('1000', '1000.0')]
    """
    groups: dict[str, dict[str, None]] = {}
    for name in names:
        groups.setdefault(canonical(name), {})[name] = None
    return [tuple(group) for group in groups.values() if len(group) > 1]


def form_of_ids(names: Iterable[str]) -> str:
    """How the numbers among some ids are written: "float" (1000.0), "padded" (0012), "plain" (12), or "" for no number.

    >>> [form_of_ids(names) for names in (["1.0", "2.0"], ["001", "112"], ["1", "112"], ["a"])]
    ['float', 'padded', 'plain', '']
    """
    numbers = [name for name in names if re.fullmatch(r"\d+(\.0+)?", name)]
    if not numbers:
        return ""
    if 2 * sum("." in name for name in numbers) > len(numbers):
        return "float"
    return "padded" if any(name.startswith("0") and len(name) > 1 for name in numbers) else "plain"
