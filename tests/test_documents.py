"""What the documents name is there: options, commands, targets, files, imports."""

import argparse
import ast
import configparser
import functools
import importlib
import json
import re
import shlex
from pathlib import Path

import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from courier_tf.commands import program
from courier_tf.commands.registry import COMMANDS
from courier_tf.settings.parsing import options_of

ROOT = Path(__file__).parent.parent
SUBFOLDERS = [file for folder in ("beam_jobs", "serving", "notebooks") for file in ROOT.glob(f"{folder}/README.md")]
PAGES = sorted(str(file.relative_to(ROOT)) for file in [*ROOT.glob("docs/*.md"), *ROOT.glob("docs/results/*.md")])
LOG = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("docs/log/*.md"))
NOTEBOOKS = sorted(str(file.relative_to(ROOT)) for file in ROOT.glob("notebooks/*.ipynb"))
DOCUMENTS = ["README.md", "CONTRIBUTING.md", *sorted(str(file.relative_to(ROOT)) for file in SUBFOLDERS), *PAGES]
#: Names in a workdir that the code puts together -> the parts.
COMPOSED = {"ingest_rejects": "ingest/rejects", ".promoted.previous": "promoted"}
#: Options that every command takes.
PROGRAM_OPTIONS = {"--help", "--help-all", "--version", "--log-level", "--log-json", "--verbose"}
#: Documents that name options of Beam, which knows them itself.
WITH_BEAM = ("beam_jobs/README.md", "docs/beam.md", "README.md")
#: Options of pytest, Docker and the job servers of Beam.
FOREIGN_OPTIONS = {"--pdb", "--net", "--flink-master", "--spark-master-url", "--artifacts-dir"}


@pytest.mark.parametrize("document", [*DOCUMENTS, "Makefile", "tests/benchmarks/hm_fashion/options.mk"])
def test_options_are_those_of_the_program(document):
    flags = {option.flag for command in COMMANDS.values() for option in options_of(command)}
    known = flags | {flag.replace("--", "--no-") for flag in flags} | PROGRAM_OPTIONS | FOREIGN_OPTIONS
    text = (ROOT / document).read_text()
    if document == "Makefile":  # The recipes call other programs, too.
        text = "\n".join(re.findall(r"courier .*", text))
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*\b(?!-)", text))
    assert named - known - (options_of_beam() if document in WITH_BEAM else set()) == set()


@functools.cache
def options_of_beam() -> set[str]:
    parser = argparse.ArgumentParser(conflict_handler="resolve")  # Two of its classes declare the same.
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    return set(parser._option_string_actions)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_those_of_the_program(document):
    named = re.findall(r"(?:^ *|`|\$ )courier ([a-z][a-z-]*)", (ROOT / document).read_text(), re.MULTILINE)
    assert set(named) - set(COMMANDS) == set()


def commands_in(document: str) -> list[str]:
    """The command lines of `courier` that stand in the indented and fenced blocks of a document."""
    text = re.sub(r"\\\n\s*", "", (ROOT / document).read_text())
    blocks = re.findall(r"^    .*$", text, re.MULTILINE) + "\n".join(
        re.findall(r"```sh\n(.*?)```", text, re.DOTALL)
    ).split("\n")
    parts = [part.strip() for line in blocks for part in re.split(r"&&|&|;", line.split("#")[0])]
    return [part.removeprefix("$ ") for part in parts if re.match(r"(\$ )?courier [a-z]", part)]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_understood(document):
    for words in commands_in(document):
        local = words.replace("gs://", "")  # The settings of a workdir are read, and no test asks Google.
        command = program.read(shlex.split(local)[1:])
        assert command is not None, words


def test_the_readme_is_short():
    text = (ROOT / "README.md").read_text()
    assert len(text.splitlines()) <= 150 and len(text.split()) <= 1200


@pytest.mark.parametrize("document", [*DOCUMENTS, "CHANGELOG.md"])
def test_links_lead_somewhere(document):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", (ROOT / document).read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, heading = target.partition("#")
        if name.startswith("http"):
            continue
        file = (ROOT / document).parent / name if name else ROOT / document
        assert file.exists(), target
        if heading:
            titles = re.findall(r"^#+ (.+)$", file.read_text(), re.MULTILINE)
            assert heading in {re.sub(r"[^\w\- ]", "", title).strip().lower().replace(" ", "-") for title in titles}, (
                target
            )


@pytest.mark.parametrize("page", PAGES)
def test_every_page_is_linked_from_the_readme_or_the_index(page):
    index = (ROOT / "README.md").read_text() + (ROOT / "docs/README.md").read_text()
    assert page == "docs/README.md" or f"({page})" in index or f"({page.removeprefix('docs/')})" in index


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", *PAGES, *LOG])
def test_sentences_have_at_most_30_words(document):
    text = (ROOT / document).read_text()
    assert long_sentences(text) == []


def long_sentences(text: str) -> list[str]:
    """The sentences of a Markdown text that have more than 30 words; tables, code and links' targets do not count."""
    text = re.sub(r"```.*?```|<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^( *\||    |#|:::).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", "x", text)
    paragraphs = re.split(r"\n\s*\n|\n\s*(?:[-*]|\d+\.) ", text)
    sentences = [sentence for part in paragraphs for sentence in re.split(r"(?<=[.:;?!])[*)\]\"]*\s+", part)]
    return [" ".join(sentence.split()) for sentence in sentences if len(sentence.split()) > 30]


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_are_those_of_the_makefile(document):
    known = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = set(re.findall(r"(?:^ *|`)make ([a-z][a-z-]*)", (ROOT / document).read_text(), re.MULTILINE))
    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_are_those_of_the_repository(document):
    """Each `name.py` has a file of that name, and each path below a folder of the repository exists."""
    text = (ROOT / document).read_text()
    folders = ("beam_jobs", "courier_tf", "serving", "tests", "notebooks")
    names = {file.name for folder in folders for file in (ROOT / folder).rglob("*.py")} | {"setup.py"}
    assert set(re.findall(r"(?<![\w/{}<])\w+\.py\b", text)) - names == set()
    paths = re.findall(rf"(?<![\w/])(?:{'|'.join(folders)})/[\w/.-]*\w/?", text)
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_files_of_a_workdir_are_named_in_the_code(document):
    code = "\n".join(
        file.read_text() for folder in ("beam_jobs", "courier_tf", "serving") for file in (ROOT / folder).rglob("*.py")
    )
    paths = re.findall(r"(?<![\w/])W/([\w/.-]*\w)", (ROOT / document).read_text())
    paths = [COMPOSED.get(path, path) for path in paths]
    missing = [
        path for path in paths for part in path.split("/") if not re.search(rf"[\"/']{re.escape(part)}[\"/'.]", code)
    ]
    assert missing == []


def test_layers_are_those_of_the_import_contract():
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:layers"]["layers"].split("\n")
    rows = re.findall(r"^\| \d+ \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    packages = [{package.replace("/", ".") for package in re.findall(r"`([\w/]+?)(?:\.py|/)`", row)} for row in rows]
    assert packages == [set(layer.split(" | ")) for layer in layers if layer]


def _python_in(document: str) -> str:
    text = (ROOT / document).read_text()
    if document.endswith(".ipynb"):
        return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("document", [*DOCUMENTS, *NOTEBOOKS])
def test_python_in_documents_imports_what_is_there(document):
    for statement in ast.walk(ast.parse(_python_in(document))):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            for name in statement.names:
                module = importlib.import_module(statement.module)
                if not hasattr(module, name.name):
                    importlib.import_module(f"{statement.module}.{name.name}")
        elif isinstance(statement, ast.Import):
            for name in statement.names:
                importlib.import_module(name.name)
