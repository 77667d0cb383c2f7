"""The snapshot that a later run starts from: whole or not at all, and untouched by later runs."""

import os

import pytest

from courier_tf.workdir import artefacts, snapshot
from courier_tf.workdir.artefacts import ArtefactError
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.snapshot import SNAPSHOT_STAGES, write_snapshot
from tests.stage_facts import example


def write_stages(workdir, text, stages=SNAPSHOT_STAGES):
    for stage in stages:
        with artefacts.write_aside(workdir / stage, MadeBy(stage, {}, {})) as draft:
            (draft.path / "folder").mkdir()
            (draft.path / "folder" / "weights").write_text(text)
            (draft.path / "logs").mkdir()
            (draft.path / "logs" / "events").write_text("x")
            draft.facts = example(stage.facts)


@pytest.mark.parametrize("links", [True, False])
def test_a_snapshot_holds_what_the_stages_held_when_it_was_written(tmp_path, monkeypatch, links):
    if not links:

        def refuse(source, target):
            raise PermissionError(1, "links are not supported here")

        monkeypatch.setattr(os, "link", refuse)
    for number in (1, 2):
        write_stages(tmp_path, f"of run {number}")
        assert write_snapshot(tmp_path) == tmp_path / "promoted"
    write_stages(tmp_path, "of run 3")
    for stage in SNAPSHOT_STAGES:
        artefact = artefacts.read(tmp_path / "promoted" / stage, stage)
        assert (artefact.path / "folder" / "weights").read_text() == "of run 2"
        assert artefacts.fingerprint_of_tree(artefact.path) == artefact.fingerprint
        assert not (artefact.path / "logs").exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*SNAPSHOT_STAGES, "promoted"])


def test_links_cost_no_space(tmp_path):
    write_stages(tmp_path, "weights")
    file = write_snapshot(tmp_path) / "rank" / "folder" / "weights"
    assert file.stat().st_ino == (tmp_path / "rank" / "folder" / "weights").stat().st_ino


def test_a_stage_of_an_experiment_is_a_link_and_its_snapshot_is_not(tmp_path):
    write_stages(tmp_path / "store", "weights")
    (tmp_path / "work").mkdir()
    for stage in SNAPSHOT_STAGES:
        (tmp_path / "work" / stage).symlink_to(tmp_path / "store" / stage)
    folder = write_snapshot(tmp_path / "work")
    assert not any((folder / stage).is_symlink() for stage in SNAPSHOT_STAGES)


def test_after_an_error_the_snapshot_before_stands(tmp_path, monkeypatch):
    write_stages(tmp_path, "first")
    write_snapshot(tmp_path)
    write_stages(tmp_path, "second")

    def full(source, target):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(snapshot, "_link", full)
        with pytest.raises(OSError):
            write_snapshot(tmp_path)
    (tmp_path / "rank" / artefacts.ARTEFACT_FILE).unlink()
    with pytest.raises(ArtefactError, match="holds no finished result of the stage 'rank'"):
        write_snapshot(tmp_path)
    assert (tmp_path / "promoted" / "cluster" / "folder" / "weights").read_text() == "first"
    assert not (tmp_path / ".promoted.partial").exists()
