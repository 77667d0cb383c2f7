r"""Text of others, made safe to show: ids, titles, categories and file names come from whoever fills the catalogue.

On a console a control character can clear the screen or colour a line, and a bidirectional override turns words around.
In Markdown a `|` breaks a table, and `<script>` runs where the page is opened. Every place that shows such a text takes
it through a function of this file: `printable` for one line of a console, a log or a figure, `markdown` for a Markdown
file. `printable_message` is for whole messages, whose line breaks are their own.
"""

import re

SHOWN = 200  # Characters of a text that are shown, before it is cut.
LONGEST_PATH = 4096  # Characters, as on Linux: a path that is cut names nothing.
MOST_SHOWN = 20_000  # The same for a whole message.

#: Characters without a shape that scripts need: joiners of Persian, Hindi and emoji, and the wide space of Japanese.
KEPT = "\u200c\u200d\u3000"

#: Markdown's own characters. An underscore inside a word, as in item_id, means nothing there.
_MARKDOWN = re.compile(r"[\\`*\[\]#~|$]|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9])")
_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def printable(text: object, limit: int = SHOWN) -> str:
    r"""One line that a terminal shows as it is: what has no shape is written as in a Python string.

    Escaped are control characters, line breaks, bidirectional and other invisible characters, blanks that are not the
    plain one, and halves of surrogate pairs, which no UTF-8 stream takes.

    Args:
        text: a text, UTF-8 bytes, or anything with a text.
        limit: characters to show. A longer text is cut, and the number of its characters follows.

    >>> print(printable("red\x1b[2J shoe\nof Zoë"))
    red\x1b[2J shoe\nof Zoë
    >>> print(printable("abcdef", limit=3), printable(b"\xff1"))
    abc... (6 characters) \xff1
    """
    whole = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else str(text)
    return _escaped(whole[:limit]) + _cut(whole, limit)


def printable_message(text: object) -> str:
    r"""As `printable`, for a whole message: line breaks and tabs stay, and it may be much longer.

    >>> print(printable_message("first\x07\nsecond"))
    first\x07
    second
    """
    whole = str(text)
    shown = whole[:MOST_SHOWN]
    # Most messages hold nothing to escape, and a log has many.
    if not shown.replace("\n", "").replace("\t", "").isprintable():
        shown = "\n".join("\t".join(map(_escaped, line.split("\t"))) for line in shown.split("\n"))
    return shown + _cut(whole, MOST_SHOWN)


def markdown(text: object, limit: int = SHOWN) -> str:
    r"""As `printable`, for a paragraph or the cell of a table in a Markdown file: it shows the text, and no more.

    >>> print(markdown("<b>|$x$ item_id"))
    &lt;b&gt;\|\$x\$ item_id
    """
    escaped = _MARKDOWN.sub(lambda character: "\\" + character.group(), printable(text, limit))
    return re.sub("[&<>]", lambda character: _ENTITIES[character.group()], escaped)


def _escaped(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(
        character
        if character.isprintable() or character in KEPT
        else character.encode("unicode_escape", "surrogatepass").decode()
        for character in text
    )


def _cut(text: str, limit: int) -> str:
    return f"... ({len(text):,} characters)" if len(text) > limit else ""
