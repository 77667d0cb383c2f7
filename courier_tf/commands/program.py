"""The program: words to a command, the command's run, errors to one line."""

import logging
import os
import signal
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

import courier_tf
from courier_tf.commands import help as helps
from courier_tf.commands.command import Command, Stage
from courier_tf.commands.faults import explain
from courier_tf.commands.logs import LogOptions
from courier_tf.commands.registry import COMMANDS
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.process import PROGRAM, shown_logs
from courier_tf.settings import Settings, parsing
from courier_tf.settings.parsing import Option, UsageError
from courier_tf.settings.presets import PRESETS
from courier_tf.workdir.damage import damage_named

LOG = logging.getLogger(PROGRAM)
SETTINGS_FILE = "settings.json"  # In the workdir, written by the chain.


class ProgramExit(SystemExit):
    """Ends the program after its one line; `code` is the exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(code)
        self.message = message

    def __str__(self) -> str:
        return self.message


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; without `arguments`, that of this process.

    Raises:
        ProgramExit: with code 2 where the words make no sense, with code 1 where the command failed. The reason has
            been shown. What is no known kind of failure is raised as it is.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        logs, words = LogOptions.taken_from(words)
    except UsageError as error:
        with shown_logs():
            _fail(error, 2)
    times = bool(words) and words[0] in COMMANDS and COMMANDS[words[0]].logs_times
    with shown_logs(logs.level, logs.log_json, times):
        command: Command | None = None
        try:
            command = read(words)
            if command:
                _run(command)
            sys.stdout.flush()
        except UsageError as error:
            _fail(error, 2)
        except BrokenPipeError:  # As of `courier run --help-all | head`: whoever read the output has seen enough.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise ProgramExit("", 128 + signal.SIGPIPE) from None
        except Exception as error:
            message = explain(error, command)
            if message is None:
                raise
            _fail(message, 1)


def _run(command: Command) -> None:
    try:
        with damage_named():
            command.run()
    except BaseException:
        command.end(failed=True)
        raise
    command.end(failed=False)


def read(words: Sequence[str]) -> Command | None:
    """The command that a command line asks for; None where it asked for help, which is then printed.

    Raises:
        UsageError: the words make no sense.
        SettingsError: the values of settings make no sense together, or those of the workdir cannot be read.
    """
    if not words or words[0] in ("--help", "-h", "--help-all"):
        print(helps.overview())
        return None
    if words[0] == "--version":
        print(f"courier {courier_tf.__version__}")
        return None
    word, rest = words[0], list(words[1:])
    if word not in COMMANDS:
        if word.startswith("-"):
            raise UsageError(f"there is no option '{word}' before the command. 'courier --help' shows the commands.")
        hint = parsing.did_you_mean(word, list(COMMANDS))
        raise UsageError(f"there is no command '{word}'.{hint} Commands: {', '.join(COMMANDS)}.")
    command = COMMANDS[word]
    if {"--help", "-h", "--help-all"} & set(rest):
        print(_help(word, command, rest))
        return None
    options = list(parsing.options_of(command))
    given, unknown = parsing.parse(options, rest)
    beam_options: tuple[str, ...] = ()
    if unknown and command.takes_beam_options:
        unknown, beam_options = _split_beam_options(unknown, options)
    if unknown:
        parsing.refuse(unknown, options, f"courier {word} --help")
    return parsing.build(command, given, _defaults(command, given, beam_options))


def _help(word: str, command: type[Command], rest: Sequence[str]) -> str:
    """The help of a command, with the defaults of the preset or workdir that stands beside --help."""
    asked = [word for word in rest if word not in ("--help", "-h", "--help-all")]
    given, _ = parsing.parse(list(parsing.options_of(command)), asked)
    return helps.help_of(word, command, _defaults(command, given), "--help-all" in rest, command.notes(given))


def _split_beam_options(unknown: list[str], options: list[Option]) -> tuple[list[str], tuple[str, ...]]:
    """What is left of the words that are not ours, and Beam's options among them."""
    if any(parsing.misspelled(word, options) for word in unknown if word.startswith("--")):
        return unknown, ()  # No option of Beam's is near to one of ours, and Beam takes seconds to import.
    from beam_jobs.options import split_beam_options

    rest, beams = split_beam_options(unknown)
    return rest, tuple(beams)


def _defaults(
    command: type[Command], given: Mapping[str, Any], beam_options: tuple[str, ...] = ()
) -> dict[str, object]:
    """The values of a stage's fields that stand on no command line; its settings are changed by the other options."""
    if not issubclass(command, Stage):
        return {}
    settings = _settings(given.get("preset"), given.get("workdir"))
    return {"settings": settings, "given": frozenset(given), "beam_options": beam_options}


def _settings(preset: str | None, workdir: Place | None) -> Settings:
    """Those of the preset where one is named, else of the workdir where it has some, else of the preset `demo`."""
    if preset:
        return PRESETS[preset]
    file = workdir / SETTINGS_FILE if workdir else None
    if file is None or not transfer.exists(file):
        return PRESETS["demo"]
    with transfer.local_copy(file) as local:
        return Settings.read(local)


def _fail(reason: object, code: int) -> NoReturn:
    LOG.error("%s", reason)
    raise ProgramExit(str(reason), code)
