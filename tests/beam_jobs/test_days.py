"""Days that an ingest has made are taken over by the next one, and the result is that of a full run, byte for byte."""

import dataclasses
import random
import time

import pytest

from beam_jobs import log_table
from beam_jobs.ingest import ingest
from beam_jobs.known_log import KnownLog, LogFile
from beam_jobs.raw_errors import RawDataError
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

from ..object_stores import store
from .conftest import DAY, FIRST
from .test_running import PORTABLE

DAYS, USERS, ITEMS = 30, 7, 12
SETTINGS = IngestSettings(
    image_size=16, shards=2, history_kept=3, negatives_pool_events=30, max_reject_fraction=0.5,
    max_unknown_item_fraction=0.6, max_anonymous_fraction=0.5, max_missing_photo_fraction=1.0, max_merged_fraction=0.9,
)  # fmt: skip
COLUMNS = {
    "impressions": ("user_id", "item_id", "timestamp", "request_id", "clicked", "device"),
    "positives": ("user_id", "item_id", "timestamp"),
}


def rows_of_day(rng, day):
    """Page views of a day, some with rows of the day after, with rows that cannot be used, and of unknown items."""
    rows = []
    for view in range(rng.randint(1, 2 * USERS)):
        user, second = f"u{rng.randrange(USERS)}", FIRST + day * DAY + rng.choice([0, 5, DAY - 1, rng.randrange(DAY)])
        # "s" is the request of a session: it goes on, also on other days.
        request = rng.choice([f"r{day}-{view}", f"s{user}"])
        for item in rng.sample(range(ITEMS), rng.randint(1, 4)):
            row = [
                user,
                f"item{item}",
                second + rng.choice([0, 0, 1, 40]),
                request,
                int(rng.random() < 0.5),
                rng.choice(["phone", ""]),
            ]
            if rng.random() < 0.05:
                row[rng.randrange(3)] = rng.choice(["", "soon", " u1 ", FIRST + 400 * DAY])
            rows += [row] * rng.choice([1, 1, 1, 2])
    return rows


class Shop:
    """A raw folder whose log grows, in files by chance."""

    def __init__(self, raw, rng, kind):
        self.raw, self.rng, self.kind = raw, rng, kind
        self.files: dict[str, list] = {}
        self.items = raw.items(ITEMS)
        self.hidden = {"item3", "item7"}  # Not in the catalogue.

    def add_days(self, days):
        """Rows of some days, cut into new files and old ones; a file has rows of several days."""
        names = [f"events-{self.rng.randrange(100):02d}-{n}" for n in range(self.rng.randint(1, 3))]
        if self.files and self.rng.random() < 0.5:
            names.append(self.rng.choice(sorted(self.files)))
        for day in days:
            for row in rows_of_day(self.rng, day):
                self.files.setdefault(self.rng.choice(names), []).append(row)

    def change(self, last):
        """Late rows, a corrected row, a row that is gone, or a file that is moved into another one, before `last`."""
        rows = self.files[self.rng.choice(sorted(self.files))]
        kind = self.rng.choice(["late", "corrected", "gone", "moved"])
        if kind == "late":
            rows += rows_of_day(self.rng, self.rng.randrange(max(1, last - 6), last))
        elif kind == "corrected":
            place = self.rng.randrange(len(rows))
            rows[place] = [*rows[place][:4], 1 - rows[place][4], rows[place][5]]
            rows[place][1] = f"item{self.rng.randrange(ITEMS)}"
        elif kind == "gone":
            del rows[self.rng.randrange(len(rows))]
        else:
            self.files[f"events-0{self.rng.randrange(10)}-moved"] = self.files.pop(self.rng.choice(sorted(self.files)))

    def write(self):
        for file in self.raw.folder.glob("events-*.csv"):
            file.unlink()
        columns = COLUMNS[self.kind]
        for name, rows in self.files.items():
            if rows:
                self.raw.write(name, [dict(zip(columns, row, strict=False)) for row in rows])
        self.raw.write("items", [row for row in self.items if row["item_id"] not in self.hidden])

    def made(self, target, known=(), beam_options=(), **settings):
        chosen = dataclasses.replace(SETTINGS, **settings)
        ingest(str(self.raw.folder), target, chosen, MadeBy("ingest", {}, {}), beam_options, known)
        return artefacts.read(target, INGEST)


def plain_shop(raw, days):
    """A shop with a page view of one user on each day."""
    shop = Shop(raw, random.Random(4), "impressions")
    shop.files["events-1"] = [
        ["u1", f"item{n}", FIRST + day * DAY, f"r{day}", n % 2, ""] for day in range(days) for n in range(4)
    ]
    shop.hidden = set()
    shop.write()
    return shop


def bytes_of(artefact):
    return {name: state.sha256 for name, state in artefact.files.items()}


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "seed"), [("impressions", 0), ("positives", 1), ("impressions", 2)])
def test_thirty_days_in_random_chops_give_what_a_full_run_gives(raw, tmp_path, kind, seed):
    rng = random.Random(seed)
    shop = Shop(raw, rng, kind)
    cuts = [0, *sorted(rng.sample(range(8, DAYS), 3)), DAYS]
    chosen = {"history_ties": rng.choice(["strict", "log_order"])}
    chosen["context_columns"] = ("device",) if kind == "impressions" else ()
    before, taken = [], []
    for step, (first, last) in enumerate(zip(cuts, cuts[1:], strict=False)):
        if step == 2:
            shop.change(first - 1)
        if step == 3:  # An item comes into the catalogue after its events, and one leaves it.
            shop.hidden = {"item7", "item9"} if rng.random() < 0.5 else {"item7"}
        shop.add_days(range(first, last))
        shop.write()
        made = shop.made(tmp_path / f"day{step}", before, **chosen)
        taken.append(made.facts.days_taken_over)
        before = [tmp_path / f"day{step}"]
        if step == 0:  # Itself a full run.
            continue
        full = shop.made(tmp_path / f"full{step}", **chosen)
        assert bytes_of(made) == bytes_of(full)
        assert made.facts.counts == full.facts.counts
        same = {"photos_decoded", "photos_taken_over", "days_made", "days_taken_over"}
        ours, theirs = ({k: v for k, v in a.facts.to_json().items() if k not in same} for a in (made, full))
        assert ours == theirs
        assert full.facts.days_taken_over == 0
    assert taken[0] == 0 < taken[1], taken
    assert full.facts.counts["events_of_unknown_items"] and full.facts.counts["rejected_events"]


@pytest.mark.slow
@pytest.mark.parametrize(
    "options", [PORTABLE, ("--direct_running_mode", "multi_processing", "--direct_num_workers", "2")]
)
def test_another_engine_takes_over_what_this_one_has_made(options, raw, tmp_path):
    shop = plain_shop(raw, days=8)
    shop.made(tmp_path / "first")
    shop.add_days([8, 9])
    shop.write()
    made = shop.made(tmp_path / "second", [tmp_path / "first"], beam_options=options)
    assert bytes_of(made) == bytes_of(shop.made(tmp_path / "full"))
    assert made.facts.days_taken_over >= 7


@pytest.mark.slow
def test_days_are_taken_over_on_a_store(raw, tmp_path):
    shop = plain_shop(raw, days=8)
    with store("s3") as root:
        address, places = f"{root}/shop", [place_of(f"{root}/w{number}/ingest") for number in range(2)]
        taken = []
        for number, place in enumerate(places):
            if number:
                shop.add_days([8, 9])
                shop.write()
            transfer.upload(shop.raw.folder, place_of(address))
            ingest(address, place, SETTINGS, MadeBy("ingest", {}, {}), known=places[:number])
            made = artefacts.read(place, INGEST)
            taken.append(made.facts.days_taken_over)
    full = shop.made(tmp_path / "full")
    assert taken[0] == 0 and taken[1] >= 7
    assert made.facts.counts == full.facts.counts
    # Rejects name the file, whose address is another one.
    assert {name: state for name, state in bytes_of(made).items() if not name.startswith("rejects/")} == {
        name: state for name, state in bytes_of(full).items() if not name.startswith("rejects/")
    }


@pytest.mark.slow
def test_late_rows_are_refused_where_the_setting_says_so(raw, tmp_path):
    shop = plain_shop(raw, days=10)
    shop.made(tmp_path / "first", late_days="refuse")
    # The last known day may go on.
    shop.files["events-more"] = [
        ["u1", "item1", FIRST + 9 * DAY + 7, "more", 1, ""],
        ["u1", "item1", FIRST + 10 * DAY, "new", 0, ""],
    ]
    shop.write()
    shop.made(tmp_path / "second", [tmp_path / "first"], late_days="refuse")
    shop.files["events-more"].append(["u1", "item2", FIRST + 4 * DAY, "late", 1, ""])
    shop.write()
    with pytest.raises(RawDataError, match=r"events-more\.csv: rows of 2020-09-17 .*--late-days replay"):
        shop.made(tmp_path / "third", [tmp_path / "second"], late_days="refuse")
    assert not (tmp_path / "third").exists()
    made = shop.made(tmp_path / "third", [tmp_path / "second"])
    assert (made.facts.days_taken_over, made.facts.days_made) == (4, 7)


def known(**days):
    """A log with one file `a`, of which these sums of hashes are known."""
    traces = {("a", int(day[1:])): trace for day, trace in days.items()}
    return KnownLog([], place="W", traces=traces, days={int(day[1:]): [] for day in days})


@pytest.mark.parametrize(
    ("now", "others", "first", "late"),
    [
        ({5: 1, 6: 2}, [], schema.NEVER, []),
        ({5: 1, 6: 2, 7: 3}, [], 7, []),
        ({5: 1, 6: 3, 7: 3}, [], 6, []),  # The last known day goes on.
        ({5: 2, 6: 2}, [], 5, [("a", 5)]),
        ({6: 2, 7: 1}, [], 5, [("a", 5)]),
        ({5: 1, 6: 2, 4: 1}, [], 4, [("a", 4)]),
        ({5: 1, 6: 2, 7: 3}, [6], 6, []),
    ],
)
def test_the_first_day_that_is_made_anew(now, others, first, late):
    traces = [(("a", day), trace) for day, trace in now.items()]
    assert known(d5=1, d6=2).first_and_late(traces, others, refuse=False) == (first, late)
    refused = schema.NEVER if late else first
    assert known(d5=1, d6=2).first_and_late(traces, others, refuse=True) == (refused, late)
    assert KnownLog([]).first_and_late(traces, others, refuse=True) == (-schema.NEVER, [])


def test_what_is_remembered_of_a_file():
    file = LogFile("how", 7, {"ids_with_blanks_cut": 2}, {18_000: 5, 9: 2**63 - 1})
    assert LogFile.from_json(file.to_json()) == file


@pytest.mark.slow
def test_a_row_in_the_future_is_looked_at_again(raw, tmp_path, monkeypatch):
    """It is no reject any more some day, though its file stays as it is."""
    shop = plain_shop(raw, days=4)
    now = FIRST + 3 * DAY - log_table.checks.CLOCK_SKEW - 1
    monkeypatch.setattr(time, "time", lambda: now)
    first = shop.made(tmp_path / "first")
    assert first.facts.counts["rejected_events"] == 4
    monkeypatch.undo()
    second = shop.made(tmp_path / "second", [tmp_path / "first"])
    assert second.facts.counts["rejected_events"] == 0
    assert (second.facts.days_taken_over, second.facts.days_made) == (3, 1)
    # Its day is the last known one, and goes on.
    shop.files["events-2"] = [["u1", "item1", FIRST + 3 * DAY + 7, "more", 1, ""]]
    shop.write()
    third = shop.made(tmp_path / "third", [tmp_path / "second"])
    assert (third.facts.days_taken_over, third.facts.days_made) == (3, 1)
    assert bytes_of(third) == bytes_of(shop.made(tmp_path / "full"))
