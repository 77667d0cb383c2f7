"""Artefacts: written aside, sealed, refused where they do not fit."""

import dataclasses
import json

import pytest

from courier_tf.workdir import artefacts, checksums
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.facts import ClusterFacts, EmbedFacts, FactsError, IngestFacts, RankFacts
from courier_tf.workdir.matching import read_previous
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import CLUSTER, EMBED, RANK
from tests.stage_facts import example

FACTS = example(ClusterFacts)
MADE_BY = MadeBy(CLUSTER, {"clusters": 3}, {"embed": "aa"})


def write(target, text="content", made_by=MADE_BY, **options):
    with artefacts.write_aside(target, made_by, **options) as draft:
        (draft.path / "table").write_text(text)
        draft.facts = FACTS


def test_a_finished_artefact_says_what_made_it(tmp_path):
    write(tmp_path / "a")
    found = artefacts.read(tmp_path / "a", CLUSTER)
    assert found.made_by == MADE_BY and found.facts == FACTS
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a"]
    assert artefacts.is_current(tmp_path / "a", MADE_BY)


@pytest.mark.parametrize(
    "other",
    [
        MadeBy(CLUSTER, {"clusters": 4}, {"embed": "aa"}),
        MadeBy(CLUSTER, {"clusters": 3}, {"embed": "bb"}),
        MadeBy(CLUSTER, {"clusters": 3}, {"embed": "aa"}, {"courier_tf/clusters/cluster.py": "0"}),
        MadeBy(EMBED, {"clusters": 3}, {"embed": "aa"}),
    ],
)
def test_anything_that_made_it_otherwise_makes_it_stale(tmp_path, other):
    write(tmp_path / "a")
    assert not artefacts.is_current(tmp_path / "a", other)


def test_after_an_exception_the_former_result_stands(tmp_path):
    write(tmp_path / "a", "old")
    with pytest.raises(ZeroDivisionError), artefacts.write_aside(tmp_path / "a", MADE_BY) as draft:
        (draft.path / "table").write_text("new")
        raise ZeroDivisionError
    assert (tmp_path / "a" / "table").read_text() == "old"
    write(tmp_path / "a", "newer")
    assert (tmp_path / "a" / "table").read_text() == "newer"


def test_partial_work_is_kept_for_the_same_maker_alone(tmp_path):
    def interrupted(made_by, keep_partial):
        seen = []
        try:
            with artefacts.write_aside(tmp_path / "a", made_by, keep_partial=keep_partial) as draft:
                seen += [p.name for p in draft.path.iterdir() if p.name.startswith("checkpoint")]
                (draft.path / "checkpoint-1").write_text("half")
                raise KeyboardInterrupt
        except KeyboardInterrupt:
            return seen

    assert interrupted(MADE_BY, True) == []
    assert interrupted(MADE_BY, True) == ["checkpoint-1"]
    assert interrupted(MadeBy(CLUSTER, {"clusters": 9}, {}), True) == []
    assert interrupted(MadeBy(CLUSTER, {"clusters": 9}, {}), False) == []


def test_who_is_killed_while_a_folder_is_sealed_goes_on_with_it(tmp_path, monkeypatch):
    def seal(value):
        with artefacts.write_aside(tmp_path / "a", MADE_BY, keep_partial=True) as draft:
            before = sorted(path.name for path in draft.path.iterdir() if path.name.startswith("table"))
            (draft.path / "table").write_text(value)
            draft.facts = FACTS
        return before

    def killed(*_):
        raise KeyboardInterrupt

    write(tmp_path / "whole", "same")
    for module, step in ((checksums, "states_below"), (artefacts, "write_file")):
        with monkeypatch.context() as patch:
            if step == "write_file":  # Half of the description is written.
                (tmp_path / ".a.partial" / ".artefact.json.partial").write_text("{")
            patch.setattr(module, step, killed)
            with pytest.raises(KeyboardInterrupt):
                seal("same")
    assert seal("same") == ["table"]
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"artefact.json", "table"}
    own, whole = (artefacts.read(tmp_path / name, CLUSTER).fingerprint for name in ("a", "whole"))
    assert own == whole == artefacts.fingerprint_of_tree(tmp_path / "a")


def test_a_previous_result_must_not_know_what_is_later_now(tmp_path):
    data = example(IngestFacts, valid_from_seconds=10, test_from_seconds=30)
    with artefacts.write_aside(tmp_path / "a", MadeBy(RANK, {}, {})) as draft:
        draft.facts = example(RankFacts, valid_from_seconds=10, test_from_seconds=30)
    assert read_previous(tmp_path / "a", RANK, data).facts == draft.facts
    for name, span, end in (("valid_from_seconds", "train", 10), ("test_from_seconds", "valid", 30)):
        with pytest.raises(ArtefactError, match=f"its {span} span ends at {end}, that of this run at 9 "):
            read_previous(tmp_path / "a", RANK, dataclasses.replace(data, **{name: 9}))


def test_a_stage_must_set_its_own_facts(tmp_path):
    for facts in (None, example(EmbedFacts)):
        refused = pytest.raises(FactsError, match="the stage 'cluster' must set ClusterFacts")
        with refused, artefacts.write_aside(tmp_path / "a", MADE_BY) as draft:
            draft.facts = facts
    assert not (tmp_path / "a").exists()


def test_fingerprint_is_of_the_content(tmp_path):
    for name, text in (("a", "x"), ("b", "x"), ("c", "y")):
        write(tmp_path / name, text)
    first, same, other = (artefacts.read(tmp_path / name, CLUSTER).fingerprint for name in "abc")
    assert first == same != other
    (tmp_path / "a" / "logs").mkdir()
    (tmp_path / "a" / "logs" / "events").write_text("time of day")
    assert artefacts.fingerprint_of_tree(tmp_path / "a") == first


def test_broken_description_is_an_error_that_names_the_file(tmp_path):
    write(tmp_path / "a")
    whole = json.loads((tmp_path / "a" / artefacts.ARTEFACT_FILE).read_text())
    for content in (
        b"{",
        b"\xff",
        json.dumps({"made_by": {"stage": "cluster", "colour": "red"}}).encode(),
        json.dumps({name: value for name, value in whole.items() if name != "facts"}).encode(),
        b"[]",
    ):
        (tmp_path / "a" / artefacts.ARTEFACT_FILE).write_bytes(content)
        with pytest.raises(ArtefactError, match=r"a/artefact\.json is not an artefact description"):
            artefacts.read(tmp_path / "a", CLUSTER)


def test_small_files_are_replaced_whole(tmp_path):
    write_file(tmp_path / "f", "one")
    write_file(tmp_path / "f", "two")
    assert (tmp_path / "f").read_text() == "two" and len(list(tmp_path.iterdir())) == 1
