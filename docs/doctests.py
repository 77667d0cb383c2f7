"""For `make docs`: the examples of docstrings are shown as code."""

import re
from typing import Any

import griffe


class Doctests(griffe.Extension):
    """Puts the doctests of each docstring into a fence of their own."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = re.sub(r"(?m)^>>> (?:.+\n?)+", _fenced, obj.docstring.value)


def _fenced(example: re.Match[str]) -> str:
    return f"```pycon\n{example[0].rstrip()}\n```\n"
