"""Which versions are served under which label. A release is one version of every model; they are kept in order."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from courier_tf.typed_json import JsonError, fields_of, read_json, require_kind
from courier_tf.workdir.atomic import write_file

RELEASES_FILE = "releases.json"


class ReleaseError(ValueError):
    """There is no release to go to, or the list of releases is broken."""


@dataclasses.dataclass(frozen=True)
class Release:
    """The versions that were promoted together.

    Attributes:
        versions: model -> version.
        time: of the promotion, ISO 8601, UTC.
        measured: figures of the promotion checks, by model and name.
        accepted: promotion check -> the fault that it found, and that was accepted by name.
    """

    versions: dict[str, int]
    time: str
    measured: dict[str, Any] = dataclasses.field(default_factory=dict)
    accepted: dict[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Releases:
    """All releases of a bundle.

    Attributes:
        promoted: the releases in the order of their promotion; the last one is `stable`.
        withdrawn: releases that were rolled back, or never promoted. None of their versions becomes the canary unless
            it is promoted again.
    """

    promoted: tuple[Release, ...] = ()
    withdrawn: tuple[Release, ...] = ()

    @classmethod
    def read(cls, bundle: Path) -> "Releases":
        """Reads the releases of a bundle; there are none before the first promotion.

        Raises:
            ReleaseError: the file is broken.
        """
        file = bundle / RELEASES_FILE
        if not file.exists():
            return cls()
        try:
            content = read_json(file)
            require_kind("the content", content, dict[str, list[Any]])
            if not {"promoted", "withdrawn"} <= set(content):
                raise JsonError("`promoted` or `withdrawn` is missing")
            kinds = {kind: [fields_of(Release, release, kind) for release in content[kind]] for kind in content}
            return fields_of(cls, kinds)
        except JsonError as error:
            raise ReleaseError(f"{file} is not a list of releases: {error}. Restore it from a backup.") from error

    @contextlib.contextmanager
    def written_after(self, bundle: Path) -> Iterator[None]:
        """Writes the file once the body of the `with` statement has succeeded.

        The new file lies ready before, so that no full disk can prevent a change that the server has already seen.
        """
        bundle.mkdir(parents=True, exist_ok=True)
        ready = bundle / f".{RELEASES_FILE}.next"
        try:
            write_file(ready, json.dumps(dataclasses.asdict(self), indent=2))
            yield
            ready.replace(bundle / RELEASES_FILE)
        finally:
            ready.unlink(missing_ok=True)

    @property
    def stable(self) -> Release | None:
        """The release that is served under the label `stable`."""
        return self.promoted[-1] if self.promoted else None

    def promote(self, release: Release) -> "Releases":
        """Adds a release; promoting the stable release again changes nothing."""
        if self.stable and self.stable.versions == release.versions:
            return self
        return dataclasses.replace(self, promoted=(*self.promoted, release))

    def roll_back(self) -> "Releases":
        """Makes the release before the stable one stable again.

        Raises:
            ReleaseError: there is no release before.
        """
        if len(self.promoted) < 2:
            raise ReleaseError("there is no release before the stable one to roll back to")
        return Releases(self.promoted[:-1], (*self.withdrawn, self.promoted[-1]))

    def withdraw(self, release: Release) -> "Releases":
        """Takes back a canary that is not to be tried any more.

        Raises:
            ReleaseError: nothing is stable that could replace it, or the release is the stable one.
        """
        if not self.stable or self.stable.versions == release.versions:
            raise ReleaseError("there is no canary beside what is stable")
        return dataclasses.replace(self, withdrawn=(*self.withdrawn, release))

    def refused(self, model: str) -> set[int]:
        """The versions of a model that were withdrawn and not promoted again."""
        again = {release.versions.get(model) for release in self.promoted}
        return {release.versions[model] for release in self.withdrawn if model in release.versions} - again

    def labels(self, model: str, newest: int) -> dict[str, int]:
        """Label -> version of a model. `stable` is missing before the model's first promotion."""
        labels = {"stable": self.stable.versions[model]} if self.stable and model in self.stable.versions else {}
        labels["canary"] = labels["stable"] if "stable" in labels and newest in self.refused(model) else newest
        return labels

    def loaded(self, model: str, newest: int) -> list[int]:
        """The versions that a server keeps: those with a label, and the one that a roll back would go to."""
        previous: Mapping[str, int] = self.promoted[-2].versions if len(self.promoted) > 1 else {}
        return sorted({*self.labels(model, newest).values(), *([previous[model]] if model in previous else [])})
