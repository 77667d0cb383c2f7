"""What an ingest takes over of the log: which files are unchanged, and which days a result before it has made.

A file is known by its content and by how it is read. Of its rows the sum of hashes is kept by day. So a file that has
grown is read, and still only its new days are made.
"""

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from beam_jobs.checks import DAY, IN_FUTURE
from beam_jobs.day_files import RECORDS, day_of
from beam_jobs.raw_errors import RawDataError
from beam_jobs.raw_files import name_in
from beam_jobs.raw_rows import RawFile
from beam_jobs.sources import RawFolder
from beam_jobs.splits import date_of
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.settings import IngestSettings
from courier_tf.workdir import artefacts
from courier_tf.workdir.checksums import FileState
from courier_tf.workdir.provenance import MadeBy, fingerprint_of
from courier_tf.workdir.stages import INGEST

FILES_FILE = f"{schema.DAYS_FOLDER}/files.json"
#: Settings that change no file of a day.
_WITHOUT_EFFECT = (
    "valid_from", "test_from", "image_size", "inline_photos", "max_inline_gigabytes", "shards", "item_columns",
    "repeat_columns", "late_days", "max_reject_fraction", "max_unknown_item_fraction", "max_anonymous_fraction",
    "max_missing_photo_fraction", "max_merged_fraction",
)  # fmt: skip


@dataclasses.dataclass(frozen=True)
class LogFile:
    """What is remembered of a file of the log.

    Attributes:
        how: fingerprint of how it is read.
        rows: number of its rows.
        counts: further counts of it, by name.
        days: day -> sum of the hashes of the rows that can be used; a day is timestamp // DAY.
    """

    how: str
    rows: int
    counts: dict[str, int]
    days: dict[int, int]

    def to_json(self) -> dict[str, Any]:
        """What `from_json` reads."""
        values = dataclasses.asdict(self)
        return {**values, "days": {str(day): trace for day, trace in sorted(self.days.items())}}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "LogFile":
        """Raises KeyError, ValueError or TypeError where `to_json` has not written it."""
        days = {int(day): int(trace) for day, trace in values["days"].items()}
        return cls(values["how"], int(values["rows"]), dict(values["counts"]), days)


@dataclasses.dataclass(frozen=True)
class KnownLog:
    """What is known of a log, and what is to be read of it.

    Attributes:
        read: files that are new, or may have changed.
        again: (file, its last day) of each unchanged file. It is read where its days are made anew.
        files: path -> what is remembered of each unchanged file.
        traces: (name in the raw folder, day) -> sum of hashes, of all files that were there and are not unchanged.
        place: folder of the ingest that knows them; None for none.
        raw: its raw folder.
        days: day -> files of the day in its `schema.DAYS_FOLDER`, without their endings.
        states: name -> state of these files.
    """

    read: list[RawFile]
    again: list[tuple[RawFile, int]] = dataclasses.field(default_factory=list)
    files: dict[str, LogFile] = dataclasses.field(default_factory=dict)
    traces: dict[tuple[str, int], int] = dataclasses.field(default_factory=dict)
    place: Place | None = None
    raw: str = ""
    days: dict[int, list[str]] = dataclasses.field(default_factory=dict)
    states: dict[str, FileState] = dataclasses.field(default_factory=dict)

    def first_and_late(
        self, traces: Iterable[tuple[tuple[str, int], int]], others: Iterable[int], refuse: bool
    ) -> tuple[int, list[tuple[str, int]]]:
        """The first day that is made anew, and late or corrected rows as (file, day) in the order of the days.

        The last known day may go on: its further rows are not late.

        Args:
            traces: (name in the raw folder, day), and sum of hashes, of the files in `read`.
            others: days that change although their rows do not.
            refuse: make no day where rows are late.
        """
        if self.place is None:
            return -schema.NEVER, []
        now = dict(traces)
        changed = [key for key in {*now, *self.traces} if now.get(key) != self.traces.get(key)]
        last = max(self.days, default=-schema.NEVER)
        late = sorted((key for key in changed if key[1] < last), key=lambda key: (key[1], key[0]))
        if late and refuse:
            return schema.NEVER, late
        return min([schema.NEVER, *others, *(day for _, day in changed)]), late


def how_it_is_read(folder: RawFolder, file: RawFile) -> str:
    """16 hex digits over all that decides what the rows of a file become, beside its content and `basis_of`."""
    described = dataclasses.asdict(dataclasses.replace(file, path="", part=None))
    form = folder.times.get(file.path)
    return fingerprint_of([described, form and dataclasses.asdict(form)])


def basis_of(folder: RawFolder, settings: IngestSettings, made_by: MadeBy) -> str:
    """16 hex digits over all that decides what rows of the log become in the files of their days."""
    values = {name: value for name, value in dataclasses.asdict(settings).items() if name not in _WITHOUT_EFFECT}
    return fingerprint_of([values, dataclasses.asdict(folder.log), dict(made_by.code)])


def known_log(
    directories: Iterable[Place], folder: RawFolder, contents: Mapping[str, str], basis: str, settings: IngestSettings
) -> KnownLog:
    """What the first ingest that fits knows of a log. Where negatives are uniform, none does.

    Args:
        directories: of ingest stages, finished or not.
        folder: the raw folder.
        contents: as `raw_fingerprint.contents_of_raw` gives it.
        basis: as `basis_of` gives it.
        settings: of this ingest.
    """
    # Uniform negatives of a day hang on the catalogue.
    none_fits = folder.log_kind == "positives" and settings.negatives == "uniform"
    for directory in () if none_fits else directories:
        try:
            before = artefacts.read(directory, INGEST)
        except artefacts.ArtefactError:  # None, a broken one, or one of another version.
            continue
        if before.facts.log_basis == basis:
            return _known(before, folder, contents)
    return KnownLog(list(folder.event_files))


def require_none_late(late: Sequence[tuple[str, int]]) -> None:
    """Raises where rows are late.

    Args:
        late: (file, day), in the order of the days.

    Raises:
        RawDataError: names the first of them, and the way out.
    """
    if late:
        (file, day), days = late[0], len({day for _, day in late})
        more = f" (and those of {days - 1} more known days)" if days > 1 else ""
        raise RawDataError(
            f"{printable(file)}: rows of {date_of(day * DAY)}{more} are new, changed or gone, though later days are "
            "known already. --late-days replay makes this day and all after it anew"
        )


def remember_files(place: Place, folder: RawFolder, known: KnownLog, read: Mapping[str, Any]) -> None:
    """Writes what the next ingest has to know of the files of the log.

    Args:
        place: folder of this ingest.
        folder: the raw folder.
        known: what was known of the log.
        read: what was found of the files that were read: `rows` (path, number), `counts` ((path, name), number) and
            `traces` ((name in the raw folder, day), sum of hashes).
    """
    files = {name_in(folder.path, path): log_file for path, log_file in known.files.items()}
    rows = dict(read["rows"])
    for file in known.read:
        name = name_in(folder.path, file.path)
        files[name] = LogFile(
            how_it_is_read(folder, file),
            rows.get(file.path, 0),
            {},
            {},
        )
    for (path, count), number in read["counts"]:
        files[name_in(folder.path, path)].counts[count] = number
    for (name, day), trace in read["traces"]:
        files[name].days[day] = trace
    content = json.dumps({name: files[name].to_json() for name in sorted(files)}, sort_keys=True, indent=0)
    transfer.write_bytes(place / FILES_FILE, content.encode())


def _known(before: artefacts.Artefact[Any], folder: RawFolder, contents: Mapping[str, str]) -> KnownLog:
    content = json.loads(transfer.read_bytes(before.place / FILES_FILE))
    remembered = {name: LogFile.from_json(values) for name, values in content.items()}
    states = {name: state for name, state in before.files.items() if name.startswith(f"{schema.DAYS_FOLDER}/")}
    known = KnownLog([], place=before.place, raw=before.facts.raw, states=states)
    for file in folder.event_files:
        name = name_in(folder.path, file.path)
        log_file = remembered.get(name)
        same = contents.get(name, "") == before.facts.log_contents.get(name)
        settled = log_file and not log_file.counts.get(IN_FUTURE) and log_file.how == how_it_is_read(folder, file)
        if log_file and same and settled:
            known.files[file.path] = log_file
            known.again.extend([(file, max(log_file.days))] if log_file.days else [])
            del remembered[name]
        else:
            known.read.append(file)
    for name, log_file in remembered.items():
        known.traces.update({(name, day): trace for day, trace in log_file.days.items()})
    for name in sorted(states):
        stem, _, ending = name.rpartition("/")[2].rpartition(".")
        if f".{ending}" == RECORDS:
            known.days.setdefault(day_of(stem), []).append(stem)
    return known
