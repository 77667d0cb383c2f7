"""The command line: words that make no sense, help, presets."""

import subprocess
import sys

import pytest

from courier_tf.commands import program
from courier_tf.settings import Settings
from courier_tf.settings.presets import PRESETS


@pytest.mark.parametrize(
    "words, answer",
    [
        (["rum"], "Did you mean 'run'"),
        (["run", "--raw", "x", "--workdir", "y", "--cluster", "5"], "--clusters"),
        (["run", "--raw", "nowhere", "--workdir", "{}"], "nowhere is empty or does not exist"),
        (["run", "--raw", "{}/..", "--workdir", "{}"], "lies in the raw folder"),
        (["ingest", "--raw", "{}", "--workdir", "{}"], "lies in the raw folder"),
        (["rank", "--workdir", "{}[1]"], "in a path for a pattern"),
        (["run", "--raw", "x", "--workdir", "{}", "--history-kept", "9"], "rank_history_length=20, but histories are"),
        (["cluster", "--workdir", "{}"], "Run 'courier ingest' first"),
        (["shop", "{}", "--visual-signal", "7"], "visual_signal must lie between 0 and 1"),
        (["pretrain", "--workdir", "{}", "--checkpoint-every", "0"], "checkpoint_every must lie between 1 and"),
        (["pretrain", "--workdir", "{}", "--objective", "simcse", "--drop-path", "0"], "drop_path must be above 0"),
        (["rank", "--workdir", "{}", "--rank-modes", "cluster_id_permuted"], "rank_modes must name a mode that can be"),
        (
            ["rank", "--workdir", "{}", "--rank-modes", "none", "cluster_id+looks"],
            "there is no mode 'cluster_id+looks'",
        ),
    ],
)
def test_wrong_words_get_an_answer_and_no_traceback(tmp_path, words, answer):
    command = [sys.executable, "-m", "courier_tf", *(word.format(tmp_path / "w") for word in words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0 and answer in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_help_names_every_command(capsys):
    with pytest.raises(SystemExit):
        program.main(["--help"])
    printed = capsys.readouterr().out
    assert all(program.command_name(command) in printed for command in program.COMMANDS) and "load-test" in printed


def test_every_preset_can_be_chosen(tmp_path, capsys):
    """Each is offered, and its settings are valid: the run gets as far as the missing data."""
    with pytest.raises(SystemExit):
        program.main(["run", "--help"])
    assert "{" + ",".join(PRESETS) + "}" in capsys.readouterr().out
    for preset in PRESETS:
        with pytest.raises(SystemExit, match="is empty or does not exist"):
            program.main(
                ["run", "--raw", str(tmp_path / "none"), "--preset", preset, "--workdir", str(tmp_path / preset)]
            )
        assert Settings.from_json((tmp_path / preset / "settings.json").read_text()) == PRESETS[preset]
