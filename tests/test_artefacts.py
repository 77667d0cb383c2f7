"""Artefacts: written aside, sealed, refused where they do not fit."""

import json

import pytest

from courier_tf import artefacts
from courier_tf.artefacts import ArtefactError, MadeBy

MADE_BY = MadeBy("cluster", {"clusters": 3}, {"embed": "aa"})


def write(target, text="content", made_by=MADE_BY, **options):
    with artefacts.write_aside(target, made_by, **options) as (partial, facts):
        (partial / "table").write_text(text)
        facts["rows"] = 7


def test_a_finished_artefact_says_what_made_it(tmp_path):
    write(tmp_path / "a")
    found = artefacts.read(tmp_path / "a", "cluster")
    assert found.made_by == MADE_BY and found.facts == {"rows": 7}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert artefacts.is_current(tmp_path / "a", MADE_BY)


@pytest.mark.parametrize(
    "other",
    [
        MadeBy("cluster", {"clusters": 4}, {"embed": "aa"}),
        MadeBy("cluster", {"clusters": 3}, {"embed": "bb"}),
        MadeBy("cluster", {"clusters": 3}, {"embed": "aa"}, "9.9.9"),
        MadeBy("embed", {"clusters": 3}, {"embed": "aa"}),
    ],
)
def test_anything_that_made_it_otherwise_makes_it_stale(tmp_path, other):
    write(tmp_path / "a")
    assert not artefacts.is_current(tmp_path / "a", other)


def test_after_an_exception_the_former_result_stands(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), artefacts.write_aside(tmp_path / "a", MADE_BY) as (partial, _):
        (partial / "table").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "a" / "table").read_text() == "old"
    write(tmp_path / "a", "newer")
    assert (tmp_path / "a" / "table").read_text() == "newer"


def test_partial_work_is_kept_for_the_same_maker_alone(tmp_path):
    def interrupted(made_by, keep_partial):
        seen = []
        try:
            with artefacts.write_aside(tmp_path / "a", made_by, keep_partial=keep_partial) as (partial, _):
                seen += [p.name for p in partial.iterdir() if p.name.startswith("checkpoint")]
                (partial / "checkpoint-1").write_text("half")
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            return seen

    assert interrupted(MADE_BY, True) == []
    assert interrupted(MADE_BY, True) == ["checkpoint-1"]
    assert interrupted(MadeBy("cluster", {"clusters": 9}, {}), True) == []
    assert interrupted(MadeBy("cluster", {"clusters": 9}, {}), False) == []


def test_fingerprint_is_of_the_content(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        write(tmp_path / name, text)
    first, same, other = (artefacts.read(tmp_path / name, "cluster").fingerprint for name in "abc")
    assert first == same != other
    (tmp_path / "a" / "logs").mkdir()
    (tmp_path / "a" / "logs" / "events").write_text("time of day")
    assert artefacts.fingerprint_of_tree(tmp_path / "a") == first


def test_broken_description_is_an_error_that_names_the_file(tmp_path):
    write(tmp_path / "a")
    for content in ("{", json.dumps({"made_by": {"stage": "cluster", "colour": "red"}})):
        (tmp_path / "a" / artefacts.ARTEFACT_FILE).write_text(content)
        with pytest.raises(ArtefactError, match=r"a/artefact\.json is not an artefact description"):
            artefacts.read(tmp_path / "a", "cluster")


def test_small_files_are_replaced_whole(tmp_path):
    artefacts.write_file(tmp_path / "f", "one")
    artefacts.write_file(tmp_path / "f", "two")
    assert (tmp_path / "f").read_text() == "two" and len(list(tmp_path.iterdir())) == 1
