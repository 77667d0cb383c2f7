"""`courier import` on small files in the forms of their publishers, against what they were made from."""

import re
import shlex

import pandas as pd
import pyarrow.parquet as pq
import pytest

from beam_jobs.importers import write
from beam_jobs.importers.publications import PUBLICATIONS
from beam_jobs.importers.registry import IMPORTERS
from beam_jobs.inspection import inspect
from courier_tf.commands import program
from courier_tf.settings.raw import RawSettings

from ..conftest import Raw
from .published_files import DAY, FIRST, amazon_reviews, hm_kaggle, microlens, movielens, pixelrec

CASES = {
    "hm-kaggle": ("hm-kaggle", hm_kaggle, {}, ()),
    "movielens-csv": ("movielens-posters", movielens, {}, ()),
    "movielens-dat": ("movielens-posters", movielens, {"dat": True, "min_rating": 3}, ("--min-rating", "3")),
    "amazon": ("amazon-reviews-2023", amazon_reviews, {}, ()),
    "pixelrec": ("pixelrec", pixelrec, {}, ()),
    "microlens-50k": ("microlens", microlens, {}, ()),
    "microlens-100k": ("microlens", microlens, {"size": "100k"}, ()),
}


def run(*words: object) -> None:
    program.main(["import", *map(str, words)])


def failure(*words: object) -> str:
    with pytest.raises(program.ProgramExit) as ended:
        run(*words)
    assert ended.value.code == 1 and "\n" not in str(ended.value)
    return str(ended.value)


def in_target(target) -> tuple[dict[str, dict[str, str]], list[tuple[str, str, int]]]:
    """Items and events of a raw folder, as Pandas reads them."""
    items = pd.read_parquet(target / "items.parquet").set_index("item_id").to_dict("index")
    events = pd.read_parquet(target / "events.parquet")
    seconds = events["timestamp"].map(lambda time: int(time.timestamp()))
    return items, list(zip(events["user_id"], events["item_id"], seconds, strict=True))


def test_every_importer_is_tried():
    assert {case[0] for case in CASES.values()} == set(IMPORTERS) == set(PUBLICATIONS)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("seed", [1, 2])
def test_items_and_events_are_those_of_the_publisher(case, seed, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(write, "ROWS_OF_A_GROUP", 7)
    name, publish, arguments, options = CASES[case]
    expected = publish(tmp_path / "source", seed, **arguments)
    target = tmp_path / "target"
    run(name, tmp_path / "source", target, *options)
    items, events = in_target(target)
    groups = pq.ParquetFile(target / "events.parquet")
    assert {groups.metadata.row_group(n).num_rows for n in range(groups.num_row_groups - 1)} == {7}
    assert items == expected.items
    assert events == expected.events
    for item in items.values():
        assert item["image"].startswith(("https://", "images/")) or not item["image"]
        assert "://" in item["image"] or not item["image"] or (target / item["image"]).is_file()
    printed = capsys.readouterr().out
    assert f"{len(items):,} items, of which {expected.without_photo} have no photo, and {len(events):,} ev" in printed
    told = re.findall(r"Left out: (\d+) (items|events) (.*)", printed)
    assert len(told) == len(expected.left_out)
    for (table, reason), number in expected.left_out.items():
        assert [int(n) for n, of, why in told if of == table and reason in why] == [number]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


@pytest.mark.parametrize("case", CASES)
def test_the_commands_that_are_proposed_are_understood_and_the_folder_is_sound(case, tmp_path, capsys):
    name, publish, arguments, options = CASES[case]
    publish(tmp_path / "source", **arguments)
    target = tmp_path / "the target"
    run(name, tmp_path / "source", target, *options)
    printed = capsys.readouterr().out
    commands = [shlex.split(line) for line in printed.splitlines() if line.startswith("  courier ")]
    check = program.read(commands[-2][1:])
    chain = program.read(commands[-1][1:])
    assert check.raw == chain.raw == str(target)
    report = inspect(check.raw, RawSettings(follow_links=check.settings.follow_links), full=True)
    stops = [problem.text for problem in report.problems if problem.stops]
    if name == "amazon-reviews-2023":
        assert commands[0][1:] == ["download", str(target)]
        assert all("photo" in text for text in stops)
    else:
        assert not stops, stops
        assert check.settings.follow_links
    facts = "\n".join(report.facts)
    assert "a positives-only log" in facts and "16 items" in facts
    settings = chain.settings.ingest
    assert settings.follow_links == (name != "amazon-reviews-2023")
    assert settings.repeat_columns == (("product_code",) if name == "hm-kaggle" else ())
    assert settings.valid_from < settings.test_from


@pytest.mark.slow
def test_hm_kaggle_is_ingested(tmp_path, capsys):
    """What Kaggle publishes, through the job itself: with the link to the photos, and the weeks that are proposed."""
    expected = hm_kaggle(tmp_path / "source")
    run("hm-kaggle", tmp_path / "source", tmp_path / "target")
    command = [line for line in capsys.readouterr().out.splitlines() if "courier run" in line][0]
    settings = program.read(shlex.split(command)[1:]).settings.ingest
    raw = Raw.__new__(Raw)
    raw.folder = tmp_path / "target"
    chosen = {name: getattr(settings, name) for name in ("valid_from", "test_from", "follow_links", "repeat_columns")}
    facts = raw.ingest(tmp_path / "out", **chosen).facts
    days = sorted({seconds // DAY for _, _, seconds in expected.events})
    assert facts.counts["items_items"] == len(expected.items)
    assert facts.counts["events_used"] == len(expected.events)
    assert facts.test_from_seconds == (days[-1] - 6) * DAY and facts.valid_from_seconds == (days[-1] - 13) * DAY
    assert facts.repeat_columns == ("product_code",)
    assert not facts.counts.get("items_without_photo", 0) > expected.without_photo


@pytest.mark.slow
@pytest.mark.parametrize("case", set(CASES) - {"hm-kaggle"})
def test_others_are_ingested(case, tmp_path):
    name, publish, arguments, options = CASES[case]
    expected = publish(tmp_path / "source", **arguments)
    run(name, tmp_path / "source", tmp_path / "target", *options)
    raw = Raw.__new__(Raw)
    raw.folder = tmp_path / "target"
    facts = raw.ingest(tmp_path / "out", follow_links=True, max_missing_photo_fraction=1.0).facts
    assert facts.counts["items_items"] == len(expected.items)
    assert facts.counts["events_used"] == len(expected.events)


def test_events_from_a_day_on(tmp_path, capsys):
    expected = pixelrec(tmp_path / "source")
    start = FIRST + 4 * DAY
    day = str(pd.Timestamp(start, unit="s").date())
    run("pixelrec", tmp_path / "source", tmp_path / "target", "--since", day)
    assert in_target(tmp_path / "target")[1] == [event for event in expected.events if event[2] >= start]
    before = sum(event[2] < start for event in expected.events)
    assert f"Left out: {before} events before {day}." in capsys.readouterr().out
    text = failure("pixelrec", tmp_path / "source", tmp_path / "late", "--since", "2040-01-01")
    assert "has no event that can be used: left out are" in text and "before 2040-01-01" in text
    assert not (tmp_path / "late").exists() and not list(tmp_path.glob(".late*"))
    assert "'soon' is not a date" in failure("pixelrec", tmp_path / "source", tmp_path / "late", "--since", "soon")


MISSING = {
    "hm-kaggle": ["articles.csv", "transactions_train.csv", "the folder images"],
    "movielens-posters": ["movies.csv", "ratings.csv", "a folder posters"],
    "amazon-reviews-2023": ["meta_CATEGORY.jsonl"],
    "pixelrec": ["a file of interactions", "a file of item information", "the folder cover"],
    "microlens": ["_pairs.csv", "_titles.csv", "_covers"],
}


@pytest.mark.parametrize("name", MISSING)
def test_all_that_is_missing_is_named_in_one_line(name, tmp_path):
    source = tmp_path / "source"
    assert "is no folder" in failure(name, source, tmp_path / "target")
    source.mkdir()
    text = failure(name, source, tmp_path / "target")
    assert all(part in text for part in [f"{source} lacks", *MISSING[name], PUBLICATIONS[name].address])
    (source / "download.zip").write_bytes(b"PK\x03\x04")
    assert "unpack download.zip there" in failure(name, source, tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_a_single_missing_file_is_named(tmp_path):
    hm_kaggle(tmp_path / "hm")
    (tmp_path / "hm" / "articles.csv").unlink()
    text = failure("hm-kaggle", tmp_path / "hm", tmp_path / "target")
    assert "lacks articles.csv:" in text and "transactions" not in text
    amazon_reviews(tmp_path / "amazon")
    (tmp_path / "amazon" / "Gift_Cards.csv.gz").unlink()
    text = failure("amazon-reviews-2023", tmp_path / "amazon", tmp_path / "target")
    assert "lacks Gift_Cards.jsonl (or Gift_Cards.csv) for meta_Gift_Cards.jsonl" in text


def test_what_is_ambiguous_or_wrong_is_refused(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    movielens(source)
    name = "movielens-posters"
    assert "--photos" in failure(name, source, target, "--photos", tmp_path / "none")
    empty = tmp_path / "empty"
    empty.mkdir()
    assert f"none of 16 items has a photo, such as 1, 10, 11, in {empty}" in failure(
        name, source, target, "--photos", empty
    )
    assert "--min-rating must lie between 0 and 5" in failure(name, source, target, "--min-rating", "11")
    (source / "ratings.dat").write_text("1::1::5::1\n")
    assert "ratings.dat: keep one of them" in failure(name, source, target)
    (source / "ratings.dat").unlink()
    (source / "movies.csv").write_text("id,title,genres\n1,A (1999),Drama\n")
    assert "movies.csv has no column 'movieId'; its columns are id, title, genres" in failure(name, source, target)
    target.mkdir()
    (target / "mine.txt").write_text("mine")
    assert "is there, and is not empty" in failure(name, source, target)
    assert (target / "mine.txt").read_text() == "mine"
    microlens(tmp_path / "microlens")
    assert "has no ratings" in failure("microlens", tmp_path / "microlens", target, "--min-rating", "3")
    assert "leave out --photos" in failure("amazon-reviews-2023", source, target, "--photos", empty)
    pixelrec(tmp_path / "pixels")
    (tmp_path / "pixels" / "more.csv").write_text("item_id,user_id,timestamp\ni1,u1,1500000000\n")
    assert "keep one of them" in failure("pixelrec", tmp_path / "pixels", tmp_path / "out")


@pytest.mark.parametrize("name", PUBLICATIONS)
def test_help_tells_what_to_download_and_the_terms(name, capsys):
    program.main(["import", name, "--help"])
    printed = " ".join(capsys.readouterr().out.split())
    for part in (PUBLICATIONS[name].address, *PUBLICATIONS[name].files, PUBLICATIONS[name].terms):
        assert " ".join(part.split()) in printed
