"""What the documents name is there: options, commands, targets, files, imports."""

import ast
import configparser
import importlib
import json
import re
from pathlib import Path

import pytest

from courier_tf.commands.registry import COMMANDS
from courier_tf.settings.parsing import options_of

ROOT = Path(__file__).parent.parent
DOCUMENTS = ["README.md", "serving/README.md", "CONTRIBUTING.md"]
#: Names in a workdir that the code puts together -> the parts.
COMPOSED = {"ingest_rejects": "ingest/rejects", ".promoted.previous": "promoted"}
#: Options that every command takes.
PROGRAM_OPTIONS = {"--help", "--help-all", "--version", "--log-level", "--log-json"}
#: Options of pytest and Beam.
FOREIGN_OPTIONS = {"--pdb", "--runner", "--direct_num_workers", "--direct_running_mode"}


@pytest.mark.parametrize("document", [*DOCUMENTS, "Makefile", "tests/benchmarks/hm_fashion/options.mk"])
def test_options_are_those_of_the_program(document):
    flags = {option.flag for command in COMMANDS.values() for option in options_of(command)}
    known = flags | {flag.replace("--", "--no-") for flag in flags} | PROGRAM_OPTIONS | FOREIGN_OPTIONS
    text = (ROOT / document).read_text()
    if document == "Makefile":  # The recipes call other programs, too.
        text = "\n".join(re.findall(r"courier .*", text))
    named = set(re.findall(r"(?<![\w-])--[a-z][\w-]*\b(?!-)", text))
    assert named - known == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_commands_are_those_of_the_program(document):
    named = re.findall(r"(?:^ *|`|\$ )courier ([a-z][a-z-]*)", (ROOT / document).read_text(), re.MULTILINE)
    assert set(named) - set(COMMANDS) == set()


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


def test_floors_are_those_of_the_import_contract():
    contract = configparser.ConfigParser()
    contract.read(ROOT / ".importlinter")
    layers = contract["importlinter:contract:floors"]["layers"].split("\n")
    rows = re.findall(r"^\| \d+ \| (.*) \|$", (ROOT / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    rooms = [{room.replace("/", ".") for room in re.findall(r"`([\w/]+?)(?:\.py|/)`", row)} for row in rows]
    assert rooms == [set(layer.split(" | ")) for layer in layers if layer]


def _python_in(document: str) -> str:
    text = (ROOT / document).read_text()
    if document.endswith(".ipynb"):
        return "\n".join("".join(cell["source"]) for cell in json.loads(text)["cells"] if cell["cell_type"] == "code")
    return "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))


@pytest.mark.parametrize("document", [*DOCUMENTS, "notebooks/quickstart.ipynb"])
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
