"""What determines an artefact: its stage, settings, inputs and source code, with a fingerprint over all of them."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from typing import Any

import courier_tf
from courier_tf.workdir.source import code_of
from courier_tf.workdir.stages import FEATURES, PRETRAIN, SUPERVISED

FROM_NOTEBOOK = {"trained_in": "notebook"}  # Stands in `MadeBy.settings` of what no stage made.


@dataclasses.dataclass(frozen=True)
class MadeBy:
    """What determines an artefact: equal keys, equal artefacts.

    Attributes:
        stage: name of the stage.
        settings: setting -> value, of the stage.
        inputs: name of the input -> fingerprint of its content.
        code: source file -> fingerprint of its code, of all files that can change the result. The default is the code
            of the stage as it is now.
        code_version: version of the code. It stands here for readers, and decides nothing.
    """

    stage: str
    settings: dict[str, Any]
    inputs: dict[str, str]
    code: Mapping[str, str] = dataclasses.field(default_factory=dict)
    code_version: str = courier_tf.__version__

    def __post_init__(self) -> None:
        if not self.code:
            object.__setattr__(self, "code", dict(code_of(self.stage)))

    @property
    def remedy(self) -> str:
        """What to do about an artefact that does not fit, or is damaged."""
        if FROM_NOTEBOOK.items() <= self.settings.items():
            return "It comes from a notebook: save the model again, or run 'courier pretrain --force pretrain'."
        return f"Run 'courier {command_of(self.stage)}' again."

    @property
    def key(self) -> str:
        """16 hex digits over all that determines the artefact."""
        values = dataclasses.asdict(self)
        del values["code_version"]
        return fingerprint_of(values)

    def changes(self, before: "MadeBy") -> list[str]:
        """What is different from before, in words."""
        settings = sorted({*self.settings, *before.settings})
        return [
            *(f"{file} has changed" for file in _different(self.code, before.code)),
            *(f"its input '{name}' has changed" for name in _different(self.inputs, before.inputs)),
            *(
                f"{name} is {self.settings.get(name)!r}, and was {before.settings.get(name)!r}"
                for name in settings
                if fingerprint_of(self.settings.get(name)) != fingerprint_of(before.settings.get(name))
            ),
        ]


def _different(values: Mapping[str, str], others: Mapping[str, str]) -> list[str]:
    return sorted(name for name in {*values, *others} if values.get(name) != others.get(name))


def fingerprint_of(value: Any) -> str:
    """16 hex digits over the canonical JSON of `value`. The order within a dict does not count.

    >>> fingerprint_of({"a": 1, "b": (2,)}) == fingerprint_of({"b": [2], "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def command_of(stage: str) -> str:
    """The command that runs a stage."""
    return PRETRAIN if stage in (FEATURES, SUPERVISED) else stage
