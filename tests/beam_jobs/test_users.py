"""The table of users: read in every format, checked, one row of each user, and told of by `courier check`."""

import pytest

from beam_jobs.catalogue import first_of_user
from beam_jobs.checks import User
from beam_jobs.inspection import inspect
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_fingerprint import fingerprint_of_raw
from courier_tf.settings import IngestSettings
from courier_tf.settings.raw import RawSettings
from courier_tf.workdir import records

from .conftest import impression_log

USERS = [
    {"user_id": f"u{n}", "country": ["de", "fr", "", "null"][n % 4], "age": "" if n == 3 else 20 + n} for n in range(9)
]
FORMATS = ["csv", *(pytest.param(other, marks=pytest.mark.slow) for other in ("jsonl", "parquet"))]


@pytest.mark.parametrize("ending", FORMATS)
@pytest.mark.slow
def test_users_stand_in_records(raw, tmp_path, ending):
    raw.write("items", raw.items())
    raw.write("events", impression_log(days=4))
    rows = [{**row, "age": str(row["age"])} for row in USERS]
    raw.write("users", [*rows, {**rows[0], "country": "at"}, {**rows[0], "user_id": ""}], ending)
    made = raw.ingest(tmp_path / "out")
    users = records.read_users(made.target, made.facts.user_columns)
    assert made.facts.user_columns == ("country", "age")
    assert users.ids.tolist() == sorted(row["user_id"].encode() for row in rows)
    assert users.columns["country"].tolist() == [b"de", b"fr", b"", b"", b"de", b"fr", b"", b"", b"de"]
    assert users.columns["age"].tolist() == [row["age"].encode() for row in rows]
    reasons = {row["reason"] for row in made.rejects()}
    assert len(reasons) == 2 and any("user 'u0' is already in row 1 of" in reason for reason in reasons)
    assert made.facts.counts["rejected_users"] == 2 and made.facts.counts["users_users"] == 9
    with pytest.raises(RawDataError, match=r"2 of 11 users were rejected, more than --max-reject-fraction 0.1"):
        raw.ingest(tmp_path / "strict", max_reject_fraction=0.1)


def test_the_first_row_of_a_user_counts():
    rows = [User("a", {"age": str(row)}, ("f", row)) for row in (3, 1, 2)]
    kept, *rejects = first_of_user(("a", rows))
    assert kept.columns == {"age": "1"}
    assert [(reject.value.row, reject.value.kind) for reject in rejects] == [(2, "user"), (3, "user")]


def test_users_are_recognised_and_belong_to_the_raw_data(raw):
    raw.write("items", raw.items())
    raw.write("events", impression_log(days=4))
    before = fingerprint_of_raw(str(raw.folder))
    assert not any(line.startswith("users:") for line in inspect(str(raw.folder), RawSettings()).facts)
    raw.write("users", [{"Kunde": row["user_id"], "age": row["age"]} for row in USERS])
    assert fingerprint_of_raw(str(raw.folder)) != before
    report = inspect(str(raw.folder), RawSettings(columns=("users.user_id=Kunde",)))
    assert "users: 9 users (all 9 rows read)" in report.facts and not report.stops
    (problem,) = [problem for problem in inspect(str(raw.folder), RawSettings()).problems if problem.stops]
    assert "users.csv has no column 'user_id'" in problem.text


def test_a_table_may_be_one_of_bigquery():
    settings = IngestSettings(users_table="bigquery://project-1.shop.users")
    assert settings.table("users") == settings.tables()[0] == "bigquery://project-1.shop.users"
