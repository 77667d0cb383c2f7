"""What tells whether the tables of a raw folder are still the same: the content of the files that are read.

Photos are not listed here; `beam_jobs/photo_check.py` looks after those that items name.
"""

import json
import time
from pathlib import Path

from beam_jobs import bigquery, raw_files
from beam_jobs.photo_places import PHOTO_FOLDER
from beam_jobs.raw_errors import RawDataError
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings.raw import RawSettings
from courier_tf.workdir.atomic import write_file
from courier_tf.workdir.checksums import FileState, checksum
from courier_tf.workdir.provenance import fingerprint_of

MEMORY_FILE = ".raw_files.json"  # In a workdir: what is remembered of the files that were read.
_YOUNG = 2 * 10**9  # Nanoseconds in which a file may change again and keep its time.


def fingerprint_of_raw(raw: str, settings: RawSettings | None = None, memory: Path | None = None) -> str:
    """16 hex digits over the names and contents of the files of all tables. No other file counts.

    Args, Raises: as for `contents_of_raw`.
    """
    return fingerprint_of(contents_of_raw(raw, settings, memory))


def contents_of_raw(raw: str, settings: RawSettings | None = None, memory: Path | None = None) -> dict[str, str]:
    """Path below the raw folder, or address of a table -> what tells its content, of all files of all tables.

    On a store, size and time stand for the content: nothing has a new time there that nobody has written.

    Args:
        raw: folder or URI.
        settings: say which tables are no files, and whether links are followed. Of such a table its rows and the time
            of its last change count.
        memory: file that remembers checksums. A file of this machine with the size and time of before is not read.

    Raises:
        RawDataError: there is no such folder, or a table is missing.
        StoreError: the store refuses it, or is not known.
    """
    if isinstance(folder := place_of(raw), Path) and not folder.is_dir():
        raise RawDataError(f"{raw} is empty or does not exist")
    settings = settings or RawSettings()
    tables = [t for t in (schema.RAW_ITEMS, schema.RAW_EVENTS, schema.RAW_USERS) if not settings.table(t)]
    listings = [raw_files.find_files(raw, t, settings.follow_links, t == schema.RAW_USERS) for t in tables]
    files = [path for listing in listings for path in listing.files]
    known, now = _remembered(memory), time.time_ns()
    contents = {address: str(bigquery.state_of(address)) for address in settings.tables()}
    settled = {}
    for path in files:
        file = place_of(path)
        entry = transfer.entry_of(file)
        if not isinstance(file, Path):
            content = f"{entry.size} {entry.mtime_ns}"
        elif (state := known.get(path)) and state[:2] == (entry.size, entry.mtime_ns):
            content = state.sha256
        else:
            content = checksum(file)
        contents[raw_files.name_in(raw, path)] = content
        if isinstance(file, Path) and entry.mtime_ns < now - _YOUNG:
            settled[path] = FileState(entry.size, entry.mtime_ns, content)
    if memory and settled != known:
        memory.parent.mkdir(parents=True, exist_ok=True)
        write_file(memory, json.dumps(settled))
    return contents


def fingerprint_with_photos(raw: str) -> str:
    """16 hex digits over the tables, and over names and sizes of all files below `images/`, of a small raw folder."""
    photos = [(name, size) for name, size, _ in transfer.files_below(place_of(raw) / PHOTO_FOLDER)]
    return fingerprint_of([fingerprint_of_raw(raw), photos])


def _remembered(memory: Path | None) -> dict[str, FileState]:
    try:
        content = json.loads(memory.read_text()) if memory else {}
        return {path: FileState.from_json(state) for path, state in content.items()}
    except (OSError, ValueError, AttributeError):  # There is none yet, or it is broken: all files are read.
        return {}
