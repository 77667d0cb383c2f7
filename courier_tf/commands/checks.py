"""What a command refuses before it starts: places that would cost hours before they fail."""

from pathlib import Path

from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.settings import IngestSettings, SettingsError


def require_usable(workdir: Path) -> None:
    """Refuses a workdir that TensorFlow cannot name or that cannot be a folder.

    Raises:
        SettingsError: says why.
    """
    place = str(workdir.resolve())
    if set(place) & set("*?[]"):
        shown = printable(place, LONGEST_PATH)
        raise SettingsError(f"the workdir {shown}: TensorFlow takes *, ?, [ and ] in a path for a pattern")


def require_outside(workdir: Path, raw: str) -> None:
    """Refuses a raw folder that is a file, or that holds the workdir: it would be other data at each run.

    Args:
        workdir: folder of the results.
        raw: folder or URI of the raw data.

    Raises:
        SettingsError: says why.
    """
    inner, outer = printable(workdir, LONGEST_PATH), printable(raw, LONGEST_PATH)
    if Path(raw).is_file():
        raise SettingsError(f"the raw data {outer} is a file: name the folder that holds items, events and images")
    if Path(raw).resolve() in [workdir.resolve(), *workdir.resolve().parents]:
        raise SettingsError(f"the workdir {inner} lies in the raw folder {outer}: choose one outside")


def require_readable(raw: str, settings: IngestSettings) -> None:
    """Refuses a local raw folder without usable files and columns, before TensorFlow is imported.

    Args:
        raw: folder or URI of the raw data. What lies elsewhere is looked at by the job alone.
        settings: how it is read.

    Raises:
        RawDataError: says why.
    """
    if "://" in raw:
        return
    from beam_jobs.early import readable

    readable(raw, settings)


def require_between(option: str, value: float, low: float, high: float) -> None:
    """Refuses a number that makes no sense, NaN among them.

    Raises:
        SettingsError: names the option and the value.

    >>> require_between("--rate", float("nan"), 0.001, 1000)
    Traceback (most recent call last):
    ...
    courier_tf.settings.checked.SettingsError: --rate must lie between 0.001 and 1000, but is nan
    """
    if not low <= value <= high:
        raise SettingsError(f"{option} must lie between {low} and {high}, but is {value}")
