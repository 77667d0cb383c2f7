"""Completion: what a shell proposes, asked of the shell itself, against the commands and options that there are."""

import shlex
import shutil
import subprocess

import pytest

from courier_tf.commands import program
from courier_tf.commands.registry import COMMANDS
from courier_tf.settings.parsing import options_of
from courier_tf.settings.presets import PRESETS


@pytest.fixture(scope="module")
def bash_script(tmp_path_factory):
    file = tmp_path_factory.mktemp("completion") / "courier"
    with pytest.MonkeyPatch.context() as patch:
        printed = []
        patch.setattr("builtins.print", lambda text: printed.append(text))
        program.main(["completion", "bash"])
    file.write_text("\n".join(printed))
    return file


def proposed(script, *words):
    """What bash proposes for the last of some words."""
    typed = " ".join(map(shlex.quote, ["courier", *words]))
    code = f"""
    source {script}
    COMP_WORDS=({typed}); COMP_CWORD={len(words)}; COMP_LINE="courier {" ".join(words)}"; COMP_POINT=${{#COMP_LINE}}
    COMPREPLY=()
    $(complete -p courier | sed 's/.*-F \\([^ ]*\\).*/\\1/')
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    return {word.strip() for word in done.stdout.splitlines()} - {""}


def test_bash_proposes_commands(bash_script):
    assert proposed(bash_script, "") >= set(COMMANDS)
    assert proposed(bash_script, "imp") == {"import"}


@pytest.mark.parametrize("word", ["run", "export", "doctor", "canary"])
def test_bash_proposes_the_options_of_a_command(bash_script, word):
    flags = {option.flag for option in options_of(COMMANDS[word]) if not option.positional}
    there = proposed(bash_script, word, "--")
    assert there >= flags | {"--help", "--help-all", "--log-json", "--verbose"}
    foreign = {option.flag for option in options_of(COMMANDS["shop"])} - flags
    assert not there & foreign


def test_bash_proposes_choices_and_files(bash_script, tmp_path):
    assert proposed(bash_script, "run", "--preset", "") == set(PRESETS)
    assert proposed(bash_script, "import", "mo") == {"movielens-posters"}
    (tmp_path / "settings.txt").touch()
    assert proposed(bash_script, "ingest", "--workdir", f"{tmp_path}/set") == {f"{tmp_path}/settings.txt"}


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_the_script_is_one_of_its_shell(shell, capsys, tmp_path):
    program.main(["completion", shell])
    text = capsys.readouterr().out
    assert all(word in text for word in COMMANDS)
    if shell == "zsh":
        assert text.startswith("#compdef courier\n")
    if shutil.which(shell):
        (tmp_path / "script").write_text(text)
        subprocess.run([shell, "-n", str(tmp_path / "script")], check=True)


def test_another_shell_is_refused(capsys):
    with pytest.raises(program.ProgramExit) as ended:
        program.main(["completion", "fish"])
    assert ended.value.code == 2 and "Choices: bash, zsh." in str(ended.value)
