"""One word per idea: the words that were given up are not used again.

docs/log and CHANGELOG.md are history and keep the words of their day. This file names them all.
"""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PRODUCT = ("beam_jobs", "courier_tf", "serving")
DOCUMENTS = ("README.md", "serving/README.md", "CONTRIBUTING.md", "Makefile", "setup.py", "pyproject.toml")

#: Pattern of a word that was given up -> what is said instead.
ABANDONED = {
    r"warmup_(steps|batch_size|learning_rate)|--warmup-": "supervised_steps, --supervised-steps, ...",
    r"\brank[-_]init\b": "previous",
    r"\brank[-_]gate\b": "rank_category_gate",
    r"repeats[-_ ]left[-_ ]out|_without_repeats": "new_to_user",
    r"\bheadline\b": "new to user",
    r"\b(class|import) .*Looks\b|\b(the|its|of|same|their|with|without|sees?|true|know) looks\b": "visual features",
    r"\bformers?\b": "previous, earlier",
    r"\b(Cell|Spec)\b": "run, variant",
}
#: File -> the words that mean something else there.
ALLOWED = {
    "courier_tf/pretrain/fit.py": {"warmup_steps"},  # Steps in which the learning rate rises: Keras calls them so.
}


def _texts() -> dict[str, str]:
    """File below the root -> its text: code and its tests, documents, notebooks."""
    folders = [*PRODUCT, "tests", "notebooks"]
    files = [
        file for folder in folders for kind in ("py", "json", "ipynb") for file in (ROOT / folder).rglob(f"*.{kind}")
    ]
    files = [file for file in files if not file.name.endswith("_pb2.py") and file != Path(__file__)]
    return {str(file.relative_to(ROOT)): file.read_text() for file in [*files, *(ROOT / name for name in DOCUMENTS)]}


@pytest.mark.parametrize("pattern", ABANDONED)
def test_words_that_were_given_up_are_not_used(pattern):
    places = [
        f"{name}:{text.count(chr(10), 0, match.start()) + 1}: {match.group()}"
        for name, text in _texts().items()
        for match in re.finditer(pattern, text)
        if match.group() not in ALLOWED.get(name, ())
    ]
    assert not places, "\n".join([f"say instead: {ABANDONED[pattern]}", *places])


@pytest.mark.parametrize("package", PRODUCT)
def test_variables_say_what_they_hold(package):
    nameless = {"found", "one", "own"}
    places = []
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            name = node.id if isinstance(node, ast.Name) else node.arg if isinstance(node, ast.arg) else None
            if name in nameless:
                places.append(f"{file.relative_to(ROOT)}:{node.lineno}: {name}")
    assert not places, "\n".join(places)


@pytest.mark.parametrize("package", PRODUCT)
def test_docstrings_are_whole_sentences_of_at_most_30_words(package):
    """A few words that begin with "Of" or "As of" are no sentence."""
    places = []
    for file in (ROOT / package).rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
                continue
            if isinstance(node.value.value, str):
                text = re.sub(r".*->.*|\|.*\|", "", node.value.value)  # Drawings, tables.
                for sentence in re.split(r"(?<=[.:;?!])\s+|\n\s*\n", text):
                    words = sentence.split()
                    if len(words) > 30 or (len(words) < 7 and re.match(r"(Of|As of)\b", sentence.strip())):
                        places.append(f"{file.relative_to(ROOT)}:{node.lineno}: {' '.join(sentence.split())[:60]}")
    assert not places, "\n".join(places)
