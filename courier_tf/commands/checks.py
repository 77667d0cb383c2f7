"""What a command refuses before it starts: places that would cost hours before they fail."""

from pathlib import Path

from courier_tf.escaping import LONGEST_PATH, printable
from courier_tf.files.places import Place, StorePlace, place_of
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


def require_local(workdir: Place, what: str) -> Path:
    """The workdir of a command that works on folders of this machine alone.

    Raises:
        SettingsError: it is on a store.
    """
    if isinstance(workdir, StorePlace):
        raise SettingsError(f"the workdir {workdir} is on a store: {what} needs a copy of it on this machine")
    return workdir


def require_outside(workdir: Place, raw: str) -> None:
    """Refuses a raw folder that is a file, or that holds the workdir: it would be other data at each run.

    Args:
        workdir: folder of the results.
        raw: folder or URI of the raw data.

    Raises:
        SettingsError: says why.
    """
    place = place_of(raw)
    if isinstance(place, StorePlace) or isinstance(workdir, StorePlace):
        if (f"{workdir}/").startswith(f"{place}/"):
            raise SettingsError(f"the workdir {workdir} lies in the raw folder {place}: choose one outside")
        return
    inner, outer = printable(workdir, LONGEST_PATH), printable(raw, LONGEST_PATH)
    if Path(raw).is_file():
        raise SettingsError(f"the raw data {outer} is a file: name the folder that holds items, events and images")
    if Path(raw).resolve() in [workdir.resolve(), *workdir.resolve().parents]:
        raise SettingsError(f"the workdir {inner} lies in the raw folder {outer}: choose one outside")


def require_readable(raw: str, settings: IngestSettings) -> None:
    """Refuses a raw folder without usable files and columns, before TensorFlow is imported.

    Args:
        raw: folder or address of the raw data.
        settings: how it is read.

    Raises:
        RawDataError: says why.
    """
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
