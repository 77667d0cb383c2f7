"""Fields of dataclasses as options: each kind of type, dataclasses inside, what must be given."""

import dataclasses
from pathlib import Path
from typing import Literal

import pytest

from courier_tf.files.places import Place, StorePlace
from courier_tf.settings.parsing import (
    NO_OPTION,
    POSITIONAL,
    UsageError,
    build,
    misspelled,
    one_of,
    options_of,
    parse,
    refuse,
)


@dataclasses.dataclass(frozen=True)
class Inner:
    depth: int = 2
    """Depth. More than a sentence,
    in two lines."""
    rates: tuple[float, ...] = (0.1,)
    """Rates."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Base:
    place: Path = dataclasses.field(metadata=POSITIONAL)
    """Place."""
    inner: Inner = Inner()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job(Base):
    name: str
    """Name."""
    kind: Literal["a", "b"] | None = None
    """Kind."""
    mode: str = dataclasses.field(default="x", metadata=one_of(["x", "y"]))
    """Mode."""
    loud: bool = True
    """Loud."""
    hidden: int = dataclasses.field(default=7, metadata=NO_OPTION)


OPTIONS = list(options_of(Job))


def read(*words, **defaults):
    given, rest = parse(OPTIONS, words)
    if rest:
        refuse(rest, OPTIONS, "job --help")
    return build(Job, given, defaults)


def test_every_kind_of_field():
    assert {option.flag for option in OPTIONS} == {
        "PLACE", "--depth", "--rates", "--name", "--kind", "--mode", "--loud",
    }  # fmt: skip
    assert (
        next(option for option in OPTIONS if option.name == "depth").text
        == "Depth. More than a sentence, in two lines."
    )
    job = read("here", "--name", "n", "--rates", "1", "2e-3", "--kind=b", "--no-loud", "--mode", "y", "--depth", "-1")
    assert job == Job(
        place=Path("here"), name="n", kind="b", mode="y", loud=False, inner=Inner(depth=-1, rates=(1.0, 0.002))
    )
    assert read("here", "--name", "n", "--kind", "None").kind is None


def test_defaults_are_replaced_as_a_whole():
    job = read("here", "--name", "n", "--rates", inner=Inner(depth=9), hidden=3)
    assert job.inner == Inner(depth=9, rates=()) and job.hidden == 3


@pytest.mark.parametrize(
    "words, answer",
    [
        ([], "PLACE, --name must be given"),
        (["here", "--nmae", "n"], "there is no option '--nmae'. Did you mean '--name'?"),
        (["here", "--no-loudd"], "Did you mean '--no-loud'?"),
        (["here", "there", "--name", "n"], "'there' belongs to no option. 'job --help' shows the options."),
        (["here", "--hidden", "3"], "there is no option '--hidden'. 'job --help' shows all options."),
        (["here", "--kind", "c"], "--kind: there is no 'c'. Choices: a, b."),
        (["here", "--mode", "z"], "--mode: there is no 'z'. Choices: x, y."),
        (["here", "--depth", "1.5"], "--depth: '1.5' is not a whole number"),
        (["here", "--depth"], "--depth: expected one argument"),
    ],
)
def test_what_makes_no_sense(words, answer):
    with pytest.raises(UsageError) as refused:
        read(*words)
    assert answer in str(refused.value)


@pytest.mark.parametrize("address", ["gs://bucket/w", "s3://bucket/w", "hdfs://host/w", "gs:/bucket"])
def test_an_address_is_no_folder(address):
    @dataclasses.dataclass
    class Job:
        """A job."""

        workdir: Path
        """Where to write."""
        raw: str = "here"
        """What to read."""

    options = list(options_of(Job))
    with pytest.raises(UsageError, match=f"--workdir: '{address}' is an address"):
        parse(options, ["--workdir", address])
    given, _ = parse(options, ["--workdir", "C:/w", "--raw", address])
    assert given == {"workdir": Path("C:/w"), "raw": address}


def test_a_place_is_a_folder_or_an_address_on_a_store():
    @dataclasses.dataclass
    class Job:
        """A job."""

        workdir: Place
        """Where to write."""
        other: Place | None = None
        """Another one."""

    options = list(options_of(Job))
    assert [option.metavar for option in options] == ["PATH", "PATH"]
    given, _ = parse(options, ["--workdir", "s3://bucket/a/", "--other", "b/c"])
    assert given == {"workdir": StorePlace("s3://bucket", "a"), "other": Path("b/c")}
    with pytest.raises(UsageError, match=r"--workdir: 'ftp://a/b' is no address of a store that is known"):
        parse(options, ["--workdir", "ftp://a/b"])


def test_a_word_is_near_or_not():
    assert misspelled("--Depth=3", OPTIONS) == "--depth" and misspelled("--runner", OPTIONS) is None
