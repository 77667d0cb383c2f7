"""The words of a command line to a dataclass: every field of a command, and of the settings inside it, is an option."""

import argparse
import ast
import dataclasses
import difflib
import functools
import inspect
import operator
import textwrap
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NoReturn, TypeVar

from courier_tf.escaping import printable
from courier_tf.files.places import Place, StoreError, is_address, place_of

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    T = TypeVar("T", bound=DataclassInstance)
else:
    T = TypeVar("T")

#: Metadata of a field that is given by its place, without the name of an option.
POSITIONAL = {"kind": "positional"}
#: Metadata of a field that no option sets.
NO_OPTION = {"kind": "none"}


def one_of(choices: Iterable[str]) -> dict[str, object]:
    """Metadata of a field that takes some names alone, where a Literal would have to repeat them."""
    return {"choices": tuple(choices)}


#: How alike a word and an option are, so that the word is taken for a misspelling.
SIMILAR = 0.8


class UsageError(ValueError):
    """The words of a command line make no sense; the message says what is wrong and what is near."""


@dataclasses.dataclass(frozen=True)
class Option:
    """One field of a dataclass as an option.

    Attributes:
        name: of the field.
        hint: the field's type.
        owner: the dataclass that has the field.
        default: `dataclasses.MISSING` where the option must be given.
        positional: given by its place.
        choices: the values that are allowed; empty where all of the type are.
    """

    name: str
    hint: Any
    owner: type
    default: object
    positional: bool
    choices: tuple[str, ...]

    @property
    def flag(self) -> str:
        """What stands on the command line: --rank-epochs, or OUT."""
        return self.name.upper() if self.positional else "--" + self.name.replace("_", "-")

    @property
    def text(self) -> str:
        """The field's docstring, in one line."""
        return _docstrings(self.owner).get(self.name, "")

    @property
    def item_type(self) -> Any:
        """The type of one value: that of a tuple's items, without None."""
        return _item_type(self.hint)

    @property
    def metavar(self) -> str:
        """The placeholder of the value in help texts; empty for switches and for what is given by its place."""
        if self.positional or self.item_type is bool:
            return ""
        names: dict[Any, str] = {int: "N", float: "X", Path: "PATH", Place: "PATH"}
        single = names.get(self.item_type, "NAME" if self.choices else "TEXT")
        return f"{single} ..." if typing.get_origin(_without_none(self.hint)) is tuple else single


def options_of(command: "type[DataclassInstance]", defaults: Mapping[str, object] | None = None) -> Iterator[Option]:
    """The options of a dataclass and of the dataclasses inside it.

    Args:
        command: the dataclass.
        defaults: values by field name that replace the fields' own defaults.
    """
    for field in dataclasses.fields(command):
        hint, default = _hints(command)[field.name], _default(field, defaults or {})
        kind = field.metadata.get("kind")
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            yield from options_of(hint, _shallow(default))
        elif kind != "none":
            choices = field.metadata.get("choices", _literals(hint))
            yield Option(field.name, hint, command, default, kind == "positional", choices)


def parse(options: Sequence[Option], words: Sequence[str]) -> tuple[dict[str, Any], list[str]]:
    """Reads the values that a command line gives.

    Args:
        options: those that there are.
        words: the command line.

    Returns:
        Field name -> value, for what is given alone; the words that belong to no option.

    Raises:
        UsageError: a value does not fit its option.

    >>> @dataclasses.dataclass
    ... class Shop:
    ...     items: int = 1500
    >>> parse(list(options_of(Shop)), ["--items", "9", "--users", "5"])
    ({'items': 9}, ['--users', '5'])
    """
    parser = _Parser(add_help=False, allow_abbrev=False, argument_default=argparse.SUPPRESS)
    for option in options:
        _add(parser, option)
    flags = {option.flag for option in options}
    namespace, rest = parser.parse_known_args([_with_hyphens(word, flags) for word in words])
    return vars(namespace), rest


def build(command: type[T], given: Mapping[str, object], defaults: Mapping[str, object] | None = None) -> T:
    """Makes a dataclass, and those inside it, from the values given; what is not given has its default.

    Args:
        command: the dataclass.
        given: values by field name, from `parse`.
        defaults: as for `options_of`.

    Raises:
        UsageError: options that must be given are not.
        ValueError: the dataclass refuses its values.
    """
    missing = [option.flag for option in options_of(command, defaults) if _is_missing(option, given)]
    if missing:
        raise UsageError(f"{', '.join(missing)} must be given")
    values: dict[str, object] = {}
    for field in dataclasses.fields(command):
        hint, default = _hints(command)[field.name], _default(field, defaults or {})
        if dataclasses.is_dataclass(hint) and isinstance(hint, type):
            values[field.name] = build(hint, given, _shallow(default))
        else:
            values[field.name] = given.get(field.name, default)
    return command(**values)


def misspelled(word: str, options: Sequence[Option]) -> str | None:
    """The option that a word is nearest to, if it is near enough to be meant."""
    flags = [flag for option in options for flag in _flags(option)]
    nearest = difflib.get_close_matches(word.partition("=")[0].replace("_", "-"), flags, 1, SIMILAR)
    return nearest[0] if nearest else None


def refuse(rest: Sequence[str], options: Sequence[Option], help_command: str) -> NoReturn:
    """Refuses words that belong to no option.

    Raises:
        UsageError: names the first of them, and the option that is nearest.
    """
    unknown = next((word for word in rest if word.startswith("-")), None)
    if unknown is None:
        raise UsageError(f"'{rest[0]}' belongs to no option. '{help_command}' shows the options.")
    nearest = misspelled(unknown, options)
    hint = f"Did you mean '{nearest}'?" if nearest else f"'{help_command}' shows all options."
    raise UsageError(f"there is no option '{unknown.partition('=')[0]}'. {hint}")


def did_you_mean(word: str, choices: Sequence[str]) -> str:
    """A sentence that suggests the nearest choice, with a space before it; empty where none is near.

    >>> did_you_mean("clustr", ["cluster", "rank"])
    " Did you mean 'cluster'?"
    """
    nearest = difflib.get_close_matches(word, choices, 1)
    return f" Did you mean '{nearest[0]}'?" if nearest else ""


class _Parser(argparse.ArgumentParser):
    """Raises UsageError where argparse would print its usage and end the process."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(message.removeprefix("argument "))


def _add(parser: argparse.ArgumentParser, option: Option) -> None:
    if option.item_type is bool:
        parser.add_argument(option.flag, dest=option.name, action=argparse.BooleanOptionalAction)
        return
    hint = _without_none(option.hint)
    several, needed = typing.get_origin(hint) is tuple, option.default is dataclasses.MISSING
    convert = _converter(option, optional=hint is not option.hint)
    if option.positional:
        parser.add_argument(option.name, type=convert, nargs="?", metavar=option.flag)
    elif several:
        parser.add_argument(option.flag, dest=option.name, type=convert, action=_Tuple, nargs="+" if needed else "*")
    else:
        parser.add_argument(option.flag, dest=option.name, type=convert)


class _Tuple(argparse.Action):
    """Keeps several values as a tuple."""

    def __call__(self, parser: object, namespace: argparse.Namespace, values: Any, option_string: Any = None) -> None:
        setattr(namespace, self.dest, tuple(values))


def _converter(option: Option, optional: bool) -> Callable[[str], object]:
    kind, choices = option.item_type, option.choices
    kinds = {int: "a whole number", float: "a number"}

    def convert(text: str) -> object:
        if text == argparse.SUPPRESS:  # Argparse converts the default of what is given by its place, too.
            return text
        if not text:
            raise argparse.ArgumentTypeError("the value is empty: give one, or leave the option out")
        if kind is Path and is_address(text):
            raise argparse.ArgumentTypeError(
                f"'{printable(text)}' is an address. Give a folder or file of a mounted file system: mount it, "
                "or copy it first; only --raw and the --workdir of the stages take addresses"
            )
        if kind == Place:
            try:
                return place_of(text)
            except StoreError as error:
                raise argparse.ArgumentTypeError(str(error)) from None
        if kind is str and not _is_text(text):
            raise argparse.ArgumentTypeError(f"'{printable(text)}' is no UTF-8")
        if optional and text == "None":
            return None
        if choices:
            if text not in choices:
                hint = did_you_mean(text, choices)
                raise argparse.ArgumentTypeError(
                    f"there is no '{printable(text)}'.{hint} Choices: {', '.join(choices)}."
                )
            return text
        try:
            if kind in kinds and not text.isascii():  # Python takes the digits of every script.
                raise ValueError
            return kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{printable(text)}' is not {kinds.get(kind, kind.__name__)}") from None

    return convert


def _is_text(word: str) -> bool:
    """Whether a word can be written as UTF-8. Python keeps other bytes of a command line as halves of pairs."""
    try:
        word.encode()
    except UnicodeEncodeError:
        return False
    return True


def _flags(option: Option) -> list[str]:
    return [option.flag, option.flag.replace("--", "--no-", 1)] if option.item_type is bool else [option.flag]


def _with_hyphens(word: str, flags: set[str]) -> str:
    """--rank_epochs is --rank-epochs; options of others, such as Beam's --direct_num_workers, stay as they are."""
    name, equals, value = word.partition("=")
    hyphens = name.replace("_", "-")
    return hyphens + equals + value if hyphens in flags else word


def _is_missing(option: Option, given: Mapping[str, object]) -> bool:
    return option.default is dataclasses.MISSING and option.name not in given


def _default(field: "dataclasses.Field[Any]", defaults: Mapping[str, object]) -> object:
    if field.name in defaults:
        return defaults[field.name]
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _shallow(value: object) -> dict[str, object]:
    """Field name -> value of a dataclass, dataclasses inside it left whole."""
    return {} if value is dataclasses.MISSING else dict(vars(value))


def _item_type(hint: Any) -> Any:
    item = _without_none(hint)
    return typing.get_args(item)[0] if typing.get_origin(item) is tuple else item


def _literals(hint: Any) -> tuple[str, ...]:
    item = _item_type(hint)
    return typing.get_args(item) if typing.get_origin(item) is Literal else ()


def _without_none(hint: Any) -> Any:
    if typing.get_origin(hint) in (types.UnionType, typing.Union):
        kinds = [kind for kind in typing.get_args(hint) if kind is not type(None)]
        return functools.reduce(operator.or_, kinds)
    return hint


@functools.cache
def _hints(owner: type) -> dict[str, Any]:
    return typing.get_type_hints(owner)


@functools.cache
def _docstrings(owner: type) -> dict[str, str]:
    """Field name -> the string that stands below the field in the source, in one line."""
    texts: dict[str, str] = {}
    for parent in reversed([parent for parent in owner.__mro__ if dataclasses.is_dataclass(parent)]):
        definition = ast.parse(textwrap.dedent(inspect.getsource(parent))).body[0]
        assert isinstance(definition, ast.ClassDef)
        for field, text in zip(definition.body, definition.body[1:], strict=False):
            match field, text:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(words))):
                    texts[name] = " ".join(words.split())
    return texts
