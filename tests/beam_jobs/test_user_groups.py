"""Users in groups: into how many they are divided is of no consequence."""

import gc
import random

import apache_beam as beam
import pytest

from beam_jobs import day_pieces, user_days, user_groups
from beam_jobs.day_pieces import rows_of, users_of_day
from beam_jobs.packing import pack
from beam_jobs.running import run
from beam_jobs.user_groups import group_of
from courier_tf.workdir import artefacts
from courier_tf.workdir.stages import INGEST

from .conftest import impression_log


def test_a_user_is_in_one_group_and_groups_are_alike_in_size():
    users = [f"user {n}" for n in range(10_000)]
    groups = [group_of(user, 7) for user in users]
    assert groups[:8] == [6, 4, 0, 1, 3, 5, 1, 1], "every worker has to find the same group"
    assert all(1_250 < groups.count(group) < 1_650 for group in range(7))
    assert group_of("é", 1) == 0 and group_of("é", 1000) == 326


def fingerprint_of(made):
    return artefacts.read(made.target, INGEST).fingerprint


@pytest.mark.parametrize("settings", [pytest.param({}, marks=pytest.mark.slow), {"history_ties": "log_order"}])
def test_the_number_of_groups_changes_no_file(raw, tmp_path, monkeypatch, settings):
    raw.write("items", raw.items())
    raw.write("events", impression_log())
    few = raw.ingest(tmp_path / "few", **settings)
    monkeypatch.setattr(user_groups, "GROUP_BYTES", 400)
    monkeypatch.setattr(day_pieces, "TOGETHER_BYTES", 100)
    monkeypatch.setattr(user_days, "MOST_TOGETHER", 3)
    asked = set()
    spy = lambda user, groups: asked.add(groups) or group_of(user, groups)  # noqa: E731
    monkeypatch.setattr("beam_jobs.catalogue.group_of", spy)
    many = raw.ingest(tmp_path / "many", **settings)
    assert min(asked) > 5
    assert fingerprint_of(many) == fingerprint_of(few)


@pytest.mark.parametrize("together", [1, 1 << 30])
def test_each_user_of_a_day_has_all_its_rows(together, monkeypatch):
    monkeypatch.setattr(day_pieces, "TOGETHER_BYTES", together)
    rng = random.Random(0)
    row = lambda number: (f"i{rng.randrange(9)}", rng.randrange(10**6), "r", 0, ("f", number))  # noqa: E731
    rows = {f"u{n}": [row(k) for k in range(n)] for n in range(1, 30)}
    blocks = [pack({user: some[part::3] for user, some in rows.items() if some[part::3]}) for part in range(3)]
    made = {
        user: sorted(row for piece in pieces for row in rows_of(piece)) for user, pieces in users_of_day(blocks, 60)
    }
    assert made == {user: sorted(some) for user, some in rows.items()}


def test_a_job_gives_old_objects_back_to_the_garbage_collector(tmp_path):
    def build(pipeline):
        seen.append(gc.get_freeze_count())
        _ = pipeline | beam.Create([1])

    seen, before = [], gc.get_freeze_count()
    run(build, [], tmp_path, "Testing")
    assert seen[0] > before + 10_000 and gc.get_freeze_count() == 0

    def broken(pipeline):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(broken, [], tmp_path, "Testing")
    assert gc.get_freeze_count() == 0
