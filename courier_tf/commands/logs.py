"""The options of what is shown while a command runs; every command takes them, at any place."""

import dataclasses
from collections.abc import Sequence
from typing import Literal

from courier_tf.settings.parsing import options_of, parse


@dataclasses.dataclass(frozen=True)
class LogOptions:
    """Which messages are shown, and how."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe messages to show."""
    verbose: bool = False
    """Show the gauges of training and other details, as --log-level debug does. -v is short for it."""
    log_json: bool = False
    """Write messages to stderr as JSON, one object per line; results stay on stdout."""

    @property
    def level(self) -> str:
        """The least severe level that is shown."""
        return "debug" if self.verbose else self.log_level

    @classmethod
    def taken_from(cls, words: Sequence[str]) -> "tuple[LogOptions, list[str]]":
        """The options, and the other words.

        Raises:
            UsageError: a value makes no sense.
        """
        words = ["--verbose" if word == "-v" else word for word in words]
        given, rest = parse(list(options_of(cls)), words)
        return cls(**given), rest
