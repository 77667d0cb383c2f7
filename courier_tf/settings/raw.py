"""How a shop's own files are read: columns, words, times, and how much may be lost."""

import dataclasses
import re
import zoneinfo
from typing import Literal

from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.checked import Checked, SettingsError

#: Google's own rule for project, dataset and table.
_TABLE = re.compile(r"bigquery://[a-z][a-z0-9:.-]{4,61}[a-z0-9]\.\w{1,1024}\.[\w -]{1,1024}")
_INPUT = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}")  # Of a SavedModel: TensorFlow changes other names.
NO_COLUMN = "none"  # In `columns`: the log has no such column.
TIMESTAMP_FORMATS = (
    "auto", "iso", "seconds", "milliseconds", "microseconds", "nanoseconds", "minutes", "hours", "days",
)  # fmt: skip


def _require_context_columns(names: tuple[str, ...]) -> None:
    """Refuses names that cannot be inputs of a served ranker.

    Raises:
        SettingsError: it is such a name, or one is given twice.
    """
    for name in names:
        if not _INPUT.fullmatch(name) or name in schema.NO_CONTEXT_COLUMNS:
            raise SettingsError(
                f"context_columns={printable(name)} cannot be an input of the served ranker: rename the column to "
                "letters, digits and underscores, and to none of " + ", ".join(sorted(schema.NO_CONTEXT_COLUMNS))
            )
    if len(set(names)) < len(names):
        raise SettingsError(f"context_columns names a column twice: {' '.join(names)}")


@dataclasses.dataclass(frozen=True)
class RawSettings(Checked):
    """How the raw folder is read."""

    items_table: str | None = None
    """Table of the catalogue, bigquery://PROJECT.DATASET.TABLE, in place of files in the raw folder. Photos lie in the
    folder, or in the table."""
    events_table: str | None = None
    """Table of the log, the same."""
    users_table: str | None = None
    """Table of the users, the same. There need be none."""
    columns: tuple[str, ...] = ()
    """NAME=COLUMN for each column of another name, such as item_id=ProductID. Write items.item_id=... or
    events.item_id=... where the two tables differ, NAME=none where your files have no such column, and object.field for
    a field inside an object of JSON."""
    positive_events: tuple[str, ...] = ()
    """Values of the column event_type that are positives, such as purchase. Such a log has one row per event of any
    type."""
    other_events: Literal["unclicked", "ignored"] = "unclicked"
    """Meaning of events of other types. unclicked: items that were shown and not taken, so the log is an impression
    log. ignored: they are left out and counted, so the log is a positives-only log."""
    context_columns: tuple[str, ...] = ()
    """Columns of events that tell how an item was shown. Example: position,device,hour. Rankers learn from them, and
    ask for them when served. position is the exception: it is corrected for in training, and not asked for."""
    timestamp_format: str = "auto"
    """Format of timestamps: auto, iso, a unit, or a pattern such as %Y%m%d. Patterns are those of strptime. The units
    are seconds, milliseconds, microseconds, nanoseconds, minutes, hours and days. auto takes what is unambiguous and
    refuses the rest."""
    timezone: str = "UTC"
    """Time zone of timestamps without one, such as Europe/Berlin."""
    null_words: tuple[str, ...] = (
        "null", "(null)", "nil", "none", "nan", "na", "n/a", "#n/a", "<na>", "nat", "\\N", "undefined",
    )  # fmt: skip
    """Words that mean a missing value, in upper or lower case. An empty field always does."""
    page_view_gap: int = 60
    """Pause in seconds that ends a page view, in an impression log without request_id."""
    duplicate_items: Literal["reject", "first", "last"] = "reject"
    """Which row counts if an item has several. reject: the first; the others are rejected. first, last: that one; the
    others are counted."""
    follow_links: bool = False
    """Follow symbolic links that leave the raw folder."""
    max_reject_fraction: float = 0.01
    """Fail above this fraction of rejected items, events or photos."""
    max_unknown_item_fraction: float = 0.2
    """Fail above this fraction of events whose items are not in the catalogue."""
    max_anonymous_fraction: float = 0.2
    """Fail above this fraction of events without a user."""
    max_missing_photo_fraction: float = 0.1
    """Fail above this fraction of items whose photo is missing."""
    max_merged_fraction: float = 0.2
    """Fail above this fraction of events merged though time or label differ. Such an event is a further one of its item
    in the same page view. A click that follows its impression does not count."""

    def __post_init__(self) -> None:
        super().__post_init__()
        known = (*schema.ITEM_COLUMNS, *schema.EVENT_COLUMNS)
        names = [assignment.partition("=")[0] for assignment in self.columns]
        for assignment in self.columns:
            name, equals, column = assignment.partition("=")
            table, _, bare = name.rpartition(".")
            of_table = {"": known, schema.RAW_ITEMS: schema.ITEM_COLUMNS, schema.RAW_EVENTS: schema.EVENT_COLUMNS}
            of_table[schema.RAW_USERS] = schema.USER_COLUMNS
            if not (equals and column.strip() and bare in of_table.get(table, ())):
                raise SettingsError(
                    f"columns={assignment!r} is not NAME=COLUMN, where NAME is one of {', '.join(dict.fromkeys(known))}"
                )
        if len(set(names)) < len(names):
            raise SettingsError(f"columns names a column twice: {' '.join(self.columns)}")
        for field in ("items_table", "events_table", "users_table"):
            address = getattr(self, field)
            if address is not None and not _TABLE.fullmatch(address):
                raise SettingsError(f"{field}={printable(address)} is not bigquery://PROJECT.DATASET.TABLE")
        for field in ("positive_events", "context_columns"):  # `purchase,add_to_cart` is two words, too.
            words = [word.strip() for text in getattr(self, field) for word in text.split(",") if word.strip()]
            object.__setattr__(self, field, tuple(words))
        _require_context_columns(self.context_columns)
        if self.timestamp_format not in TIMESTAMP_FORMATS and "%" not in self.timestamp_format:
            raise SettingsError(
                f"timestamp_format={self.timestamp_format!r} is neither a pattern such as %Y%m%d nor one of "
                + ", ".join(TIMESTAMP_FORMATS)
            )
        try:
            zoneinfo.ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError) as error:  # Unknown, no name, or a folder of the data base.
            raise SettingsError(f"timezone={self.timezone!r} is no time zone that this machine knows") from error

    def table(self, table: str) -> str | None:
        """The address of a raw table that is no file; None where it lies in files.

        Args:
            table: `schema.RAW_ITEMS`, `schema.RAW_EVENTS` or `schema.RAW_USERS`.
        """
        tables = (self.items_table, self.events_table, self.users_table)
        return dict(zip((schema.RAW_ITEMS, schema.RAW_EVENTS, schema.RAW_USERS), tables, strict=True))[table]

    def tables(self) -> tuple[str, ...]:
        """The addresses of the raw tables that are no files."""
        return tuple(address for address in (self.items_table, self.events_table, self.users_table) if address)

    def column(self, table: str, name: str) -> str | None:
        """The shop's name of a column as `columns` gives it; None where it gives none.

        Args:
            table: `schema.RAW_ITEMS`, `schema.RAW_EVENTS` or `schema.RAW_USERS`.
            name: our name of the column.
        """
        given = dict(assignment.split("=", 1) for assignment in self.columns)
        return given.get(f"{table}.{name}", given.get(name))
