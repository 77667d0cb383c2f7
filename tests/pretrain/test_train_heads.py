"""The choice among heads: what becomes of the best one, and what is told of scores."""

import contextlib
import shutil
from pathlib import Path

import pytest

from courier_tf.pretrain.train_heads import CANDIDATES_FOLDER, keep, told_score

BEST, CANDIDATES = 1, 3


class Killed(BaseException):
    """Stands for a process that is killed."""


def train(draft: Path) -> int:
    """Fills the folders of all candidates as a run does, from their checkpoints on. Returns how many had to learn."""
    learned = 0
    for number in range(CANDIDATES):
        folder = draft / CANDIDATES_FOLDER / str(number)
        if not (folder / "checkpoints").exists():
            learned += 1
            for name in ("checkpoints", "logs"):
                (folder / name).mkdir(parents=True, exist_ok=True)
                (folder / name / "file").write_text(f"{name} of {number}")
        (folder / "encoder" / "extractor").mkdir(parents=True, exist_ok=True)
        for name in ("encoder/encoder.json", "encoder/extractor/saved_model.pb", "held_out.npz"):
            (folder / name).write_text(f"{name} of {number}")
    return learned


def files(folder: Path) -> dict[str, str]:
    return {str(file.relative_to(folder)): file.read_text() for file in folder.rglob("*") if file.is_file()}


def killed_at(monkeypatch, call: int) -> list[str]:
    """Kills the process before the rename or removal of this number. Returns the names of what was called."""
    called: list[str] = []

    def counted(name, do):
        def checked(*arguments, **options):
            called.append(name)
            if len(called) == call:
                raise Killed
            return do(*arguments, **options)

        return checked

    monkeypatch.setattr(Path, "rename", counted("rename", Path.rename))
    monkeypatch.setattr(Path, "unlink", counted("unlink", Path.unlink))
    monkeypatch.setattr(shutil, "rmtree", counted("rmtree", shutil.rmtree))
    return called


def test_a_run_killed_while_the_best_head_is_moved_goes_on(tmp_path, monkeypatch):
    expected = {
        "encoder/encoder.json": "encoder/encoder.json of 1",
        "encoder/extractor/saved_model.pb": "encoder/extractor/saved_model.pb of 1",
        "held_out.npz": "held_out.npz of 1",
        "logs/file": "logs of 1",
    }
    train(tmp_path / "whole")
    with monkeypatch.context() as patch:
        calls = killed_at(patch, 0)
        keep(tmp_path / "whole" / CANDIDATES_FOLDER / str(BEST), tmp_path / "whole")
    assert files(tmp_path / "whole") == expected
    assert calls.count("rename") == 4, "encoder, logs, scores, and all candidates at once"
    for call in range(1, len(calls) + 1):
        draft = tmp_path / str(call)
        train(draft)
        with monkeypatch.context() as patch, pytest.raises(Killed):
            killed_at(patch, call)
            keep(draft / CANDIDATES_FOLDER / str(BEST), draft)
        gone = not (draft / CANDIDATES_FOLDER).exists()
        assert gone == (call == len(calls)), "the last step removes what nobody needs"
        assert train(draft) == (CANDIDATES if gone else 0), "what has learned does not learn again"
        with monkeypatch.context() as patch, contextlib.suppress(Killed):  # It is killed again.
            killed_at(patch, call)
            keep(draft / CANDIDATES_FOLDER / str(BEST), draft)
        train(draft)
        keep(draft / CANDIDATES_FOLDER / str(BEST), draft)
        assert files(draft) == expected, call


def test_an_undefined_score_is_told_as_such():
    assert told_score({"mean_new_to_user": None, "mean": 0.5}) == "50.00 on valid"
    assert told_score({"mean_new_to_user": None, "mean": None}) == "not defined on valid"
