"""`courier check`: what a raw folder holds, and what is wrong with it, before anything is computed."""

import shutil
import sys
import textwrap

from beam_jobs.inspection import Problem, Report, inspect
from courier_tf.escaping import printable_message
from courier_tf.settings.raw import RawSettings

WIDTH = 100  # Columns, or those of the terminal where it has fewer.


def check(raw: str, settings: RawSettings, full: bool) -> None:
    """Prints the report, and ends the program with 1 where the ingest job would fail.

    Args:
        raw: folder or URI of the raw data.
        settings: how it is read.
        full: read every row and open every photo.
    """
    report = inspect(raw, settings, full)
    for line in lines_of(report, min(WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)):
        print(printable_message(line))
    if report.stops:
        sys.exit(1)


def lines_of(report: Report, width: int = WIDTH) -> list[str]:
    """The report as lines of text: what was recognised, the problems by number, and the outcome."""
    lines = [part for fact in report.facts for part in textwrap.wrap(fact, width, subsequent_indent="    ")]
    for number, problem in enumerate(report.problems, start=1):
        lines += ["", *_lines_of_problem(number, problem, width)]
    errors = sum(problem.stops for problem in report.problems)
    warnings = len(report.problems) - errors
    outcome = "courier ingest would stop here" if errors else "courier ingest can read this folder"
    return [*lines, "", f"{_counted(errors, 'error')}, {_counted(warnings, 'warning')}: {outcome}."]


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'s' * (number != 1)}"


def _lines_of_problem(number: int, problem: Problem, width: int) -> list[str]:
    text = f"{number}. {'error' if problem.stops else 'warning'}: {problem.text}"
    lines = [part for line in text.split("\n") for part in textwrap.wrap(line, width, subsequent_indent="    ")]
    return [*lines, *(f"    {example}" for example in problem.examples)]
