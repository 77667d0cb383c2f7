"""What the runs of a grid start from, and the order that follows: a run may start from another one of its grid."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from courier_tf.experiment.run import Key, Run
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.settings import SettingsError
from courier_tf.workdir.artefacts import ARTEFACT_FILE, fingerprint_of_start
from courier_tf.workdir.provenance import fingerprint_of
from courier_tf.workdir.source import fingerprint_of_code
from courier_tf.workdir.stages import IN_ORDER


def starts_within(key: Key, runs: Mapping[Key, Run]) -> set[Key]:
    """The runs among `runs` whose stages a run starts from."""
    key_of = {run.workdir: other for other, run in runs.items()}
    return {key_of[place.parent] for place in runs[key].settings.starts().values() if place.parent in key_of}


def with_starts(runs: Mapping[Key, Run], known: Mapping[Key, Run]) -> dict[Key, Run]:
    """Runs, and those among `known` that they start from, maybe by way of others; in the order of `known`."""
    keys = set(runs)
    while more := set().union(*(starts_within(key, known) for key in keys)) - keys:
        keys |= more
    return {key: run for key, run in known.items() if key in keys}


def waves(runs: Mapping[Key, Run], known: Mapping[Key, Run]) -> Iterator[dict[Key, Run]]:
    """Runs in groups, each after those that it starts from.

    Args:
        runs: the runs to make.
        known: all runs of the grid.

    Raises:
        SettingsError: a run starts from itself, maybe by way of others.
    """
    waiting = dict(runs)
    while waiting:
        wave = {key: run for key, run in waiting.items() if not starts_within(key, known) & waiting.keys()}
        if not wave:
            raise SettingsError(f"runs of the grid start from each other: {', '.join(key.name for key in waiting)}")
        yield wave
        waiting = {key: run for key, run in waiting.items() if key not in wave}


def fingerprints_of(runs: Mapping[Key, Run], raw: str) -> dict[Key, str]:
    """Fingerprints of what the figures of runs depend on: settings, what they start from, span, data and code.

    Raises:
        SettingsError: a run starts from itself, maybe by way of others.
    """
    from beam_jobs.raw_fingerprint import fingerprint_with_photos

    data, code = fingerprint_with_photos(raw), fingerprint_of_code(IN_ORDER)
    fingerprints: dict[Key, str] = {}
    for wave in waves(runs, runs):
        for key, run in wave.items():
            # A run of the grid may not be there yet.
            within = starts_within(key, runs)
            outside = [place for place in run.settings.starts().values() if not _is_in(place, within, runs)]
            starts = [*(fingerprints[other] for other in sorted(within)), *_fingerprints_of_starts(outside)]
            fingerprints[key] = fingerprint_of([run.settings.to_json(), starts, run.final, data, code])
    return fingerprints


def _is_in(place: Place, keys: set[Key], runs: Mapping[Key, Run]) -> bool:
    return place.parent in {runs[key].workdir for key in keys}


def _fingerprints_of_starts(places: list[Place]) -> list[str]:
    """Fingerprints of what the settings say to start from. Where there is none, the run says so."""
    there = [place for place in places if _is_file(place) or _is_file(place / ARTEFACT_FILE)]
    return [fingerprint_of_start(place) for place in there]


def _is_file(place: Place) -> bool:
    return place.is_file() if isinstance(place, Path) else transfer.exists(place)
