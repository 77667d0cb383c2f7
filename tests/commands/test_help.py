"""Help: every command on one screen, every option somewhere, whole sentences."""

import dataclasses

import pytest

import courier_tf
from courier_tf.commands import help as helps
from courier_tf.commands import program
from courier_tf.commands.registry import COMMANDS
from courier_tf.settings.parsing import options_of
from courier_tf.settings.presets import PRESETS

LINES_OF_A_SCREEN = 50
COLUMNS = 110


@pytest.fixture(autouse=True)
def terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", str(COLUMNS))


def help_of(capsys, *words):
    program.main(words)
    return capsys.readouterr().out


def test_every_command_is_named(capsys):
    printed = help_of(capsys, "--help")
    assert printed == help_of(capsys)  # Without any word, too.
    lines = printed.splitlines()
    assert all(any(line.startswith(f"  {word} ") for line in lines) for word in COMMANDS)
    assert "--log-json" in printed and len(lines) <= LINES_OF_A_SCREEN and max(map(len, lines)) <= COLUMNS


def test_the_version(capsys):
    assert help_of(capsys, "--version") == f"courier {courier_tf.__version__}\n"


@pytest.mark.parametrize("word", COMMANDS)
def test_the_options_of_a_command_fit_on_one_screen(capsys, word):
    lines = help_of(capsys, word, "--help").splitlines()
    assert len(lines) <= LINES_OF_A_SCREEN and max(map(len, lines)) <= COLUMNS
    assert lines[0].startswith(f"usage: courier {word} ")


@pytest.mark.parametrize("word", COMMANDS)
def test_help_all_has_every_option_with_its_text(capsys, word):
    printed = " ".join(help_of(capsys, word, "--help-all").split())
    for option in options_of(COMMANDS[word]):
        assert option.flag.removeprefix("--") in printed
        assert option.text and option.text in printed


@pytest.mark.parametrize(
    "word, shown, hidden", [("cluster", "--clusters", "--rank-dim"), ("rank", "--rank-dim", "--clusters")]
)
def test_a_stage_shows_its_own_options_alone(capsys, word, shown, hidden):
    printed = help_of(capsys, word, "--help")
    assert shown in printed and hidden not in printed
    assert hidden in help_of(capsys, word, "--help-all")


def test_the_defaults_are_those_of_the_preset_and_of_the_workdir(capsys, tmp_path):
    assert "Number of clusters. (20000)" in help_of(capsys, "cluster", "--help", "--preset", "paper")
    (tmp_path / "settings.json").write_text(PRESETS["tiny"].to_json())
    assert "Number of clusters. (16)" in help_of(capsys, "cluster", "--workdir", str(tmp_path), "--help")


def test_what_the_help_groups_exists():
    """A setting that is renamed must not vanish from the help."""
    fields = {option.name for option in options_of(COMMANDS["run"])}
    for settings, headings in helps.HEADINGS.items():
        names = [name for group in headings.values() for name in group]
        assert {field.name for field in dataclasses.fields(settings)} >= set(names) and len(set(names)) == len(names)
    assert fields >= {*helps.FIRST_SETTINGS, *helps.PREVIOUS_FIELDS, *sum(helps.OWN_PREVIOUS.values(), ())}
