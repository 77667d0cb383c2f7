"""Reports as files: JSON for programs, Markdown for people."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from courier_tf.workdir.atomic import write_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def write_report(folder: Path, name: str, report: "DataclassInstance", lines: Sequence[str]) -> None:
    """Writes NAME.json, with all fields of a report, and NAME.md, with its lines.

    Args:
        folder: to write in.
        name: of the files.
        report: a dataclass. A number that is infinite or none becomes null, which JSON has.
        lines: in Markdown.
    """
    folder.mkdir(parents=True, exist_ok=True)
    write_file(
        folder / f"{name}.json", json.dumps(_plain(dataclasses.asdict(report)), indent=2, allow_nan=False) + "\n"
    )
    write_file(folder / f"{name}.md", "\n".join(lines) + "\n")


def markdown_table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """The lines of a table.

    >>> markdown_table(["a", "b"], [["1", "2"]])
    ['| a | b |', '|---|---|', '| 1 | 2 |']
    """
    head, *body = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return [head, "|" + "---|" * len(columns), *body]


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
