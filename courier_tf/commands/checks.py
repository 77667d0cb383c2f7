"""What a command refuses before it starts: places that would cost hours before they fail."""

from pathlib import Path

from courier_tf.settings import IngestSettings, SettingsError


def require_usable(workdir: Path) -> None:
    """Refuses a workdir that TensorFlow cannot name or that cannot be a folder.

    Raises:
        SettingsError: says why.
    """
    workdir = workdir.resolve()
    if set(str(workdir)) & set("*?[]"):
        raise SettingsError(f"the workdir {workdir}: TensorFlow takes *, ?, [ and ] in a path for a pattern")


def require_outside(workdir: Path, raw: str) -> None:
    """Refuses a raw folder that is a file, or that holds the workdir: it would be other data at each run.

    Args:
        workdir: folder of the results.
        raw: folder or URI of the raw data.

    Raises:
        SettingsError: says why.
    """
    if Path(raw).is_file():
        raise SettingsError(f"the raw data {raw} is a file: name the folder that holds items, events and images")
    if Path(raw).resolve() in [workdir.resolve(), *workdir.resolve().parents]:
        raise SettingsError(f"the workdir {workdir} lies in the raw folder {raw}: choose one outside")


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
