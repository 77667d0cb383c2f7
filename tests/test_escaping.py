"""Nothing that a terminal, a log or a Markdown page would obey comes out of the functions of `escaping`."""

import random
import re
import unicodedata

import pytest

from courier_tf.escaping import KEPT, SHOWN, markdown, printable, printable_message

HOSTILE = "\x1b[2J\x9b\x00\r\n\t\x7f\x85\u2028\u2029\u202a\u202e\u2066\u2069\u200b\ufeff\udcff\xa0"


def raw(text, allowed=""):
    """The characters of a text that have no shape of their own, by their Unicode category."""
    categories = {"Cc", "Cf", "Cs", "Zl", "Zp"}
    return [letter for letter in text if unicodedata.category(letter) in categories and letter not in allowed + KEPT]


def test_every_character_is_shown_and_none_is_obeyed():
    draw = random.Random(0)
    for _ in range(300):
        text = "".join(draw.choice([*HOSTILE, chr(draw.randrange(0x110000)), "a", " "]) for _ in range(20))
        shown = printable(text)
        assert not raw(shown) and "\n" not in shown
        shown.encode()  # No half of a surrogate pair.
        # Nothing is lost: read as a Python string, it is the same text.
        assert re.sub(r"\\(x..|u....|U........|[nrt])", lambda match: unescaped(match.group()), shown) == text


def unescaped(escape):
    """The character of an escape."""
    return {"\\n": "\n", "\\r": "\r", "\\t": "\t"}.get(escape) or chr(int(escape[2:], 16))


@pytest.mark.parametrize("text", ["Zoë's crème – 30 %", "革靴\u3000黒", "👩\u200d💻", "می\u200cخواهم", "שלום"])
def test_words_of_every_script_stay(text):
    assert printable(text) == text


def test_a_long_text_is_cut_before_it_is_escaped():
    shown = printable("\x00" * 10_000_000)
    assert shown == "\\x00" * SHOWN + "... (10,000,000 characters)"


def test_a_message_keeps_its_lines_alone():
    shown = printable_message(f"first\n\tsecond {HOSTILE}")
    assert shown.startswith("first\n\tsecond ") and not raw(shown, allowed="\n\t")


def test_markdown_keeps_to_its_cell():
    draw = random.Random(1)
    for _ in range(300):
        text = "".join(draw.choice("a_1<>&|`*[]$#~\\\n\x1b ") for _ in range(12))
        shown = markdown(text)
        assert not raw(shown) and not set(shown) & set("<>\n")
        # Each of Markdown's characters has a backslash before it, which is none of the text's.
        rest = re.sub(r"&(lt|gt|amp);", "", re.sub(r"\\[\\`*\[\]#~|$_]", "", shown))
        assert not set(rest) & set("|`*[]$#~\\&")
    assert markdown("<img src=x>") == "&lt;img src=x&gt;"
