"""The log of experiments: each file says in line 1 what came out and whether it is valid; the index repeats that."""

import re
from pathlib import Path

import pytest

LOG = Path(__file__).parent.parent / "docs/log"
QUESTIONS = sorted(file for file in LOG.glob("*.md") if file.name != "README.md")
STATUS = r"[Vv]alid|[Ss]uperseded by \[[\w-]+\]\([\w-]+\.md\)"


def _first_line(file: Path) -> tuple[str, str, str]:
    """Question, status, verdict."""
    line = file.read_text().split("\n")[0]
    parts = re.fullmatch(rf"# (.+?)\. ({STATUS}): (.+)", line)
    assert parts, f"{file.name}: {line}"
    return parts[1], parts[2].lower(), parts[3]


@pytest.mark.parametrize("file", QUESTIONS, ids=lambda file: file.stem)
def test_entries_have_a_date_and_a_status_newest_first(file):
    text = file.read_text()
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d): .+$", text, re.MULTILINE)
    assert dates and dates == sorted(dates, reverse=True)
    entries = re.split(r"^## .*\n", text, flags=re.MULTILINE)[1:]
    assert len(entries) == len(dates)
    assert [entry[:60] for entry in entries if not re.match(r"\n\*(Valid|Superseded|Of the).*\.\*\n", entry)] == []


def test_the_index_repeats_the_first_lines():
    index = (LOG / "README.md").read_text()
    rows = re.findall(r"^\| \[(.+)\]\(([\w-]+\.md)\) \| (.+) \| (.+) \|$", index, re.MULTILINE)
    found = {name: (question, status.lower(), verdict) for question, name, verdict, status in rows}
    assert found == {file.name: _first_line(file) for file in QUESTIONS}


@pytest.mark.parametrize("file", [*QUESTIONS, LOG / "README.md"], ids=lambda file: file.stem)
def test_links_of_the_log_lead_somewhere(file):
    targets = re.findall(r"\]\(([^)#\s]+)", file.read_text())
    assert [name for name in targets if not name.startswith("http") and not (file.parent / name).exists()] == []
