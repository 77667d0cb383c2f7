"""The examples of docstrings run, and give what they say."""

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def _modules_with_examples() -> list[str]:
    """Only these are imported: some modules load packages that take seconds."""
    files = [file for package in ("beam_jobs", "courier_tf", "serving") for file in (ROOT / package).rglob("*.py")]
    parts = [file.relative_to(ROOT).with_suffix("").parts for file in sorted(files) if ">>> " in file.read_text()]
    return [".".join(part).removesuffix(".__init__") for part in parts]


@pytest.mark.parametrize("module", _modules_with_examples())
def test_examples_run(module):
    results = doctest.testmod(importlib.import_module(module), optionflags=OPTIONS)
    assert results.attempted > 0 and results.failed == 0, "the report is in the captured output"
