"""`courier completion`: a script by which a shell completes commands, options, choices and paths."""

import argparse
from pathlib import Path
from typing import Literal

import shtab

from courier_tf.commands.command import Command
from courier_tf.commands.help import summary_of
from courier_tf.commands.logs import LogOptions
from courier_tf.files.places import Place
from courier_tf.process import PROGRAM
from courier_tf.settings.parsing import Option, options_of

Shell = Literal["bash", "zsh"]


def script(shell: Shell, commands: dict[str, type[Command]]) -> str:
    """The script of a shell.

    Args:
        shell: its name.
        commands: word of the command line -> command.
    """
    return shtab.complete(_parser(commands), shell)


def _parser(commands: dict[str, type[Command]]) -> argparse.ArgumentParser:
    """All commands with their options, as argparse describes them. It is looked through, and never parses."""
    parser = argparse.ArgumentParser(prog=PROGRAM)
    parser.add_argument("--version", action="store_true", help="Show the version.")
    parts = parser.add_subparsers()
    for word, command in commands.items():
        part = parts.add_parser(word, help=summary_of(command.__doc__ or ""))
        part.add_argument("--help-all", action="store_true", help="Show all options.")
        part.add_argument("-v", action="store_true", help="Show the gauges of training and other details.")
        for option in [*options_of(command), *options_of(LogOptions)]:
            _add(part, option)
    return parser


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    name = option.name if option.positional else option.flag
    text = summary_of(option.text).replace("%", "%%")
    if option.item_type is bool:
        parser.add_argument(name, action=argparse.BooleanOptionalAction, help=text)
        return
    several = option.metavar.endswith("...")
    action = parser.add_argument(
        name, nargs="*" if several else "?" if option.positional else None, choices=option.choices or None, help=text
    )
    if option.item_type in (Path, Place) or option.name == "raw":
        action.complete = shtab.FILE  # type: ignore[attr-defined]  # It is shtab's.
