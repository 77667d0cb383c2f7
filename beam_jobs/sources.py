"""The raw folder: its files and columns, and its rows, each with its place. Lines that are not rows are rejected.

How the files are written is recognised once, on their first rows, before the job starts; the workers read by it.
Files, and parts of large files (`beam_jobs/file_parts.py`), are read in parallel.
"""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path

from beam_jobs import columns, dialects, doubts, times, values
from beam_jobs.formats import RawDataError
from beam_jobs.log_kinds import Log, log_of
from beam_jobs.photo_names import first_of
from beam_jobs.raw_rows import RawFile
from beam_jobs.raw_table import RawTable
from beam_jobs.time_recognition import recognise
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.files.places import place_of
from courier_tf.settings.raw import NO_COLUMN, RawSettings

LOG = logging.getLogger(__name__)

NAMESPACE = "courier"  # The namespace of all counters.
REJECTS = "rejects"  # These three are tags of further outputs.
ROWS_READ = "rows_read"
BROKEN_FILES = "broken_files"


@dataclasses.dataclass(frozen=True)
class RawFolder:
    """The files and columns of a raw folder, and how they are read, known before the job starts.

    Attributes:
        path: the folder.
        item_files, event_files: the files of the two tables.
        log: what the rows of the log tell.
        columns: the category, then the further columns of all item files.
        times: file -> form of its timestamps, of event files.
        item_times: form of available_from, if the settings give one.
        settings: how raw files are read.
        told: what was recognised, each in a line.
        warnings: what may be wrong, each in a line.
        user_files: the files of the users; none where there is no such table.
        user_columns: their columns beside user_id.
    """

    path: str
    item_files: list[RawFile]
    event_files: list[RawFile]
    log: Log
    columns: list[str]
    times: dict[str, times.TimeForm]
    settings: RawSettings
    told: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    user_files: Sequence[RawFile] = ()
    user_columns: tuple[str, ...] = ()

    @property
    def log_kind(self) -> schema.LogKind:
        """The kind of the log."""
        return self.log.kind

    @classmethod
    def inspect(cls, raw: str, settings: RawSettings | None = None) -> "RawFolder":
        """Finds the files, and recognises how they are written and what the log tells.

        Raises:
            RawDataError: there is no such folder, or files or columns are missing, do not go together, or are
                ambiguous.
        """
        settings = settings or RawSettings()
        place = place_of(raw)
        if isinstance(place, Path) and not place.is_dir():
            raise RawDataError(f"{raw} is no folder" if place.exists() else f"{raw} is empty or does not exist")
        items = RawTable.inspect(raw, schema.RAW_ITEMS, settings)
        encoding = dialects.guessed(file.dialect for file in items.files)  # Else their ids may not be those of items.
        events = RawTable.inspect(raw, schema.RAW_EVENTS, settings, encoding)
        encoding = encoding or dialects.guessed(file.dialect for file in events.files)
        users = RawTable.inspect(raw, schema.RAW_USERS, settings, encoding)
        columns.require_named(settings, [*items.names.values(), *events.names.values(), *users.names.values()])
        columns.require_context(
            settings.context_columns, [[name for name, _ in matched.further] for matched in events.matched.values()]
        )
        log = log_of(
            {file.path: events.matched[file.path].names for file in events.files if file.dialect.format != "empty"},
            events.samples,
            settings,
            events.all_values,
        )
        if not log.label and settings.column(schema.RAW_EVENTS, "clicked") != NO_COLUMN:
            events.files = [dataclasses.replace(file, no_label=True) for file in events.files]
        forms = _time_forms(events, settings)
        ignored = dict.fromkeys(
            name
            for matched in events.matched.values()
            for name, _ in matched.further
            if name and name not in settings.context_columns
        ) | dict.fromkeys(
            name
            for matched in events.matched.values()
            for name in (*schema.IMPRESSION_LOG_COLUMNS, schema.EVENT_TYPE)
            if name in matched.names and name != log.label and not (name == "request_id" and log.by_request)
        )
        told = [
            *items.told,
            *events.told,
            *users.told,
            f"events: {log}",
            *(["events: these columns are ignored: " + ", ".join(map(printable, ignored))] if ignored else []),
            *(f"events: timestamps are {form}" for form in dict.fromkeys(forms.values())),
        ]
        images = [stripped for sample in items.samples.values() for text in sample.get("image", ())
                  if (stripped := values.stripped(text))]  # fmt: skip
        if several := next((image for image in images if first_of(image) != image), None):
            told.append(
                f"items: fields of 'image' name several photos, of which the first is taken: {printable(several, 80)}"
            )
        further = dict.fromkeys(name for file in items.files for name in file.names if name not in schema.ITEM_COLUMNS)
        return cls(
            raw,
            items.files,
            events.files,
            log,
            [schema.CATEGORY, *further],
            forms,
            settings,
            tuple(told),
            (
                *items.warnings,
                *events.warnings,
                *users.warnings,
                *doubts.of_ids(items.samples, events.samples),
                *doubts.of_users(users.samples, events.samples),
                *doubts.of_frequent_ids(events.samples, log),
                *doubts.of_nobody(events.samples),
                *doubts.of_types(events.samples, settings),
            ),
            users.files,
            tuple(
                dict.fromkeys(name for file in users.files for name in file.names if name not in schema.USER_COLUMNS)
            ),
        )

    def tell(self) -> None:
        """Logs what was recognised and what may be wrong."""
        for line in self.told:
            LOG.info("%s", line)
        for line in self.warnings:
            LOG.warning("%s", line)


def _time_forms(events: RawTable, settings: RawSettings) -> dict[str, times.TimeForm]:
    """The form of timestamps of each event file. A file without a sample has that of the others."""
    forms: dict[str, times.TimeForm | None] = {}
    for file in events.files:
        if file.dialect.format == "empty":
            continue
        if "timestamp" in file.typed_times:
            forms[file.path] = times.TimeForm("seconds", settings.timezone)
            continue
        nulls = values.null_words(settings.null_words)
        sample = [
            text
            for text in events.samples.get(file.path, {}).get("timestamp", [])
            if not values.is_null(values.stripped(text), nulls)
        ]
        source = dict(file.columns).get("timestamp", "timestamp")
        where = f"{file.path}, column '{printable(source)}'"
        forms[file.path] = recognise(sample, where, settings.timestamp_format, settings.timezone)
    known = [form for form in forms.values() if form]
    common = known[0] if known else times.TimeForm("seconds", settings.timezone, times.EARLIEST)
    return {path: form or common for path, form in forms.items()}
