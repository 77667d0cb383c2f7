"""Dead-letter files: whole, in order, of a bounded size, and the same however the rejects come."""

import dataclasses
import json
import random
from collections import Counter

import apache_beam as beam
import pytest
from apache_beam.testing.util import assert_that, equal_to

from beam_jobs import rejects as module
from beam_jobs.formats import RawDataError
from beam_jobs.items import BuildItems
from beam_jobs.options import pipeline_options
from courier_tf import schema

from .conftest import impression_log, reject_rows


def some_rejects(number, seed):
    rng = random.Random(seed)
    kinds = ["event", "anonymous", "photo"]
    rows = [
        (rng.choice("fgh"), rng.randrange(60), "timestamp", f"reason {n}", rng.choice(kinds)) for n in range(number)
    ]
    return [schema.Reject(*row) for row in rows]


def place(reject):
    return reject.file, reject.row, reject.field, reject.reason


def written(folder, rejects, parts):
    """The kinds, and the content of each file, of rejects that come in parts."""
    with beam.Pipeline(options=pipeline_options([])) as pipeline:
        packed = [
            module.pack_rejects(pipeline | f"Create {n}" >> beam.Create(rejects[n::parts]), str(n))
            for n in range(parts)
        ]
        _ = [part.main for part in packed] | "Blocks" >> beam.Flatten() | module.WriteRejects(str(folder))
        kinds = [part[module.KINDS] for part in packed] | beam.Flatten() | beam.CombineGlobally(module.AddKinds())
        first = {}
        for kind in {reject.kind for reject in rejects}:
            of_kind = sorted((r for r in rejects if r.kind == kind), key=place)
            first[kind] = len(of_kind), [dataclasses.astuple(reject) for reject in of_kind[:3]]
        assert_that(kinds, equal_to([first]))
    return {file.name: file.read_text() for file in sorted((folder / "rejects").iterdir())}


def test_all_are_written_in_files_of_a_size(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "FILE_ROWS", 60)
    monkeypatch.setattr(module, "_BLOCK", 7)
    rejects = some_rejects(200, seed=0)
    files = written(tmp_path / "one", rejects, parts=1)
    assert list(files) == [f"rejects-{n:05d}-of-00004.jsonl" for n in range(4)]
    of_files = [[json.loads(line) for line in content.splitlines()] for content in files.values()]
    wanted = Counter(json.dumps(dataclasses.asdict(reject)) for reject in rejects)
    assert Counter(json.dumps(reject) for rows in of_files for reject in rows) == wanted
    assert all(0 < len(rows) < 100 for rows in of_files)
    for rows in of_files:
        assert rows == sorted(rows, key=lambda row: (row["file"], row["row"], row["field"], row["reason"]))
    assert written(tmp_path / "three", random.Random(1).sample(rejects, 200), parts=3) == files


def test_a_hostile_reject_is_one_short_line(tmp_path):
    long = schema.Reject("f", 1, "x" * 10**5, "\x1b[2J\u202e" + "y" * 10**5, "item")
    cut = dataclasses.replace(long, field=long.field[:500], reason=long.reason[:500])
    line = module.line_of(dataclasses.astuple(cut))
    assert len(line) < 3 * module.MOST_SHOWN and line.isascii() and line.isprintable()
    with beam.Pipeline(options=pipeline_options([])) as pipeline:
        _ = module.pack_rejects(pipeline | beam.Create([long]), "long").main | module.WriteRejects(str(tmp_path))
    assert (tmp_path / "rejects" / "rejects-00000-of-00001.jsonl").read_text() == line + "\n"


def test_too_many_lost_rows_end_the_job_before_a_photo_is_opened(raw, tmp_path, monkeypatch):
    opened = []
    reader = BuildItems.read
    monkeypatch.setattr(BuildItems, "read", lambda self, item: opened.append(self.image_size) or reader(self, item))
    raw.write("items", raw.items())
    log = impression_log()
    raw.write("events", [{**row, "timestamp": "soon"} if n % 10 == 3 else row for n, row in enumerate(log)])
    with pytest.raises(RawDataError, match=r"^36 of 360 events were rejected, more than --max-reject-fraction 0.09\."):
        raw.ingest(tmp_path / "out", image_size=24, max_reject_fraction=0.09)
    assert opened and 24 not in opened  # The sample of the first look has another size.
    rejects = reject_rows(tmp_path / "out_rejects")
    assert len(rejects) == 36 and {row["kind"] for row in rejects} == {"event"}
    raw.ingest(tmp_path / "out", image_size=24, max_reject_fraction=0.1)
    assert opened.count(24) == 8
