"""Reads a raw folder without a pipeline: what the workers would make of each row."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam

from beam_jobs.checks import CheckEvents, CheckItems, Event, Item
from beam_jobs.read_rows import ReadRows
from beam_jobs.sources import RawFolder
from courier_tf.settings.raw import RawSettings


class Read(NamedTuple):
    folder: RawFolder
    items: list[Item]
    events: list[Event]
    rejects: Counter  # (kind, field, reason) -> number.
    broken: list[str]

    def plain(self) -> set[tuple]:
        """The events without their places."""
        return {event[:5] for event in self.events}


def read(folder: Path, **settings) -> Read:
    raw = RawFolder.inspect(str(folder), RawSettings(**settings))
    rows, rejects, broken = {"item": [], "event": []}, Counter(), []

    def sort(outputs, wanted):
        for output in outputs:
            if not isinstance(output, beam.pvalue.TaggedOutput):
                wanted.append(output)
            elif output.tag == "rejects":
                rejects[output.value.kind, output.value.field, output.value.reason] += 1
            elif output.tag == "broken_files":
                broken.append(output.value)

    for kind, files, check in (
        ("item", raw.item_files, CheckItems(raw)),
        ("event", raw.event_files, CheckEvents(raw)),
    ):
        check.setup()
        for file in files:
            found: list = []
            sort(ReadRows(kind).process(file), found)
            for row in found:
                sort(check.process(row), rows[kind])
    return Read(raw, rows["item"], rows["event"], rejects, broken)


def csv_text(rows: list[dict], delimiter: str = ",") -> str:
    """Rows as CSV, without any quoting."""
    lines = [list(rows[0]), *([str(value) for value in row.values()] for row in rows)]
    return "".join(delimiter.join(line) + "\n" for line in lines)
