"""Which column of a file is which of ours: by its name, by its name but for case and blanks, or by the settings."""

import dataclasses
import difflib
import re
from collections.abc import Sequence

from beam_jobs.raw_errors import RawDataError
from beam_jobs.values import stripped
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import NO_COLUMN, RawSettings

OURS = {
    schema.RAW_ITEMS: schema.ITEM_COLUMNS,
    schema.RAW_EVENTS: schema.EVENT_COLUMNS,
    schema.RAW_USERS: schema.USER_COLUMNS,
}
_MOST_SHOWN = 50  # Columns in a message.
REQUIRED = {
    schema.RAW_ITEMS: ("item_id",),
    schema.RAW_EVENTS: schema.EVENT_REQUIRED_COLUMNS,
    schema.RAW_USERS: schema.USER_COLUMNS,
}

#: What shops call our columns, for messages alone: what is not plain is never guessed.
_COMMON = {
    "item_id": ("product", "sku", "article", "item", "asin", "goods", "offer"),
    "user_id": ("customer", "visitor", "user", "client", "session", "member", "buyer"),
    "timestamp": ("time", "date", "ts", "created", "when"),
    "image": ("image", "photo", "picture", "img", "url"),
}


@dataclasses.dataclass(frozen=True)
class Matched:
    """The columns of a file.

    Attributes:
        columns: (our name, name in the file) of those that are ours.
        further: (name that rows have, name in the file) of the others.
        told: what a person should know of it.
    """

    columns: tuple[tuple[str, str], ...]
    further: tuple[tuple[str, str], ...]
    told: tuple[str, ...]

    @property
    def names(self) -> frozenset[str]:
        """Our names of columns that the file has."""
        return frozenset(name for name, _ in self.columns)


def plain(name: str) -> str:
    """A name without case, blanks, hyphens and underscores.

    >>> plain("\\ufeffItem ID\\u00a0") == plain("item_id") == plain("itemId")
    True
    """
    return re.sub(r"[\s_.\-\u200b\u2060\ufeff]+", "", stripped(name).casefold())


def match(file: str, table: str, header: Sequence[str], settings: RawSettings) -> Matched:
    """Finds our columns in the header of a file.

    Raises:
        RawDataError: two columns may be meant, or one that the settings name is not there.
    """
    sources_of: dict[str, str] = {}
    told = []
    for ours in OURS[table]:
        given = settings.column(table, ours)
        if given == NO_COLUMN:
            continue
        column = None if given is None else _find(file, given.strip(), header)
        if (
            given is not None
            and column is None
            and not (
                # Two tables have item_id, and two have user_id: one of them may call it otherwise.
                (ours == "item_id" or table == schema.RAW_USERS)
                and f"{table}.{ours}={given}" not in settings.columns
                and _find(file, ours, header)
            )
        ):
            raise _not_there(file, ours, given, header)
        column = column or _find(file, ours, header)
        if column is None:
            continue
        sources_of[ours] = column
        if column != ours:
            told.append(f"column '{printable(column)}' is read as {ours}")
    used = set(sources_of.values())
    further = []
    for name in header:
        short = stripped(name)
        if name in used:
            continue
        if short in OURS[table]:  # Given away by `columns`, or exact beside one with blanks.
            told.append(f"column '{printable(name)}' is left out")
            continue
        further.append((short, name))
        beside = next(
            (ours for ours, column in sources_of.items() if plain(name) == plain(ours) and column == ours), None
        )
        if beside:
            told.append(f"column '{printable(name)}' beside '{beside}' is a column of its own")
    if table != schema.RAW_EVENTS:
        _require_apart(file, further)
    return Matched(tuple(sources_of.items()), tuple(further), tuple(told))


def require_named(settings: RawSettings, headers: Sequence[Sequence[str]]) -> None:
    """Refuses a column that `columns` names for both tables, and that neither has.

    Args:
        settings: with `columns`.
        headers: the columns of every file of both tables.

    Raises:
        RawDataError: names the assignment.
    """
    known = {plain(name): name for header in headers for name in header}
    for assignment in settings.columns:
        given = assignment.partition("=")[2].strip()
        if given != NO_COLUMN and plain(given) not in known:
            near = difflib.get_close_matches(given, known.values(), 1)
            raise RawDataError(
                f"--columns {printable(assignment)}: neither items nor events have a column '{printable(given)}'"
                + (f" (did you mean '{printable(near[0])}'?)" if near else "")
            )


def require_context(names: Sequence[str], headers: Sequence[Sequence[str]]) -> None:
    """Refuses context columns that no file of events has.

    Args:
        names: `context_columns`.
        headers: the names of the further columns of every file of events.

    Raises:
        RawDataError: names the first that is missing.
    """
    known = list(dict.fromkeys(name for header in headers for name in header))
    for name in names:
        if name not in known:
            near = difflib.get_close_matches(name, known, 1)
            raise RawDataError(
                f"context_columns names '{name}', but the further columns of events are "
                + (", ".join(map(printable, known[:_MOST_SHOWN])) or "none")
                + (f" (did you mean '{printable(near[0])}'?)" if near else "")
            )


def _not_there(file: str, ours: str, given: str, header: Sequence[str]) -> RawDataError:
    near = difflib.get_close_matches(given, header, 1)
    return RawDataError(
        f"{file} has no column '{printable(given)}', which --columns {ours}={printable(given)} names; its columns are "
        + ", ".join(map(printable, header))
        + (f" (did you mean '{printable(near[0])}'?)" if near else "")
    )


def _find(file: str, name: str, header: Sequence[str]) -> str | None:
    """The column of a name: the exact one, else the only one of this name but for case and blanks."""
    if name in header:
        return name
    alike = [column for column in header if stripped(column) and plain(column) == plain(name)]
    if len(alike) > 1:
        raise RawDataError(
            f"{file} has the columns {' and '.join(_quoted(column) for column in alike)}, of which each may be {name}. "
            f"Choose one by --columns {name}=COLUMN"
        )
    return alike[0] if alike else None


def _quoted(name: str) -> str:
    return f"'{printable(name)}'"


def _require_apart(file: str, further: list[tuple[str, str]]) -> None:
    seen: dict[str, str] = {}
    for short, name in further:
        if short and short in seen:
            raise RawDataError(
                f"{file} has the columns {_quoted(seen[short])} and {_quoted(name)}, which differ only in spaces. "
                "Keep one of them"
            )
        seen[short] = name


def require(file: str, table: str, matched: Matched, header: Sequence[str], constants: Sequence[str] = ()) -> None:
    """Refuses a file that lacks a column without which it is no table of ours.

    Raises:
        RawDataError: it does.
    """
    for name in REQUIRED[table]:
        if name in matched.names or name in constants:
            continue
        likely = [
            column
            for column in header
            if any(re.search(rf"(^|[^a-z]){word}", column.casefold()) for word in _COMMON[name])
        ]
        column = likely[0] if len(likely) == 1 else "COLUMN"
        shown = ", ".join(printable(name, 200) for name in header[:_MOST_SHOWN])
        shown += f" and {len(header) - _MOST_SHOWN} more" if len(header) > _MOST_SHOWN else ""
        if len(header) == 1 and (split := re.search(r"\w(::|:|#|\$| +|\*)\w", header[0])):
            raise RawDataError(
                f"{file} has one column, '{printable(header[0])}'. If '{split.group(1)}' separates its fields, export "
                "it with commas, semicolons, tabs or bars"
            )
        headless = any(re.fullmatch(r"-?\d[\d.: TZ-]*", column) for column in header)
        raise RawDataError(
            f"{file} has no column '{name}'; its columns are {shown}"
            + (". Its first line looks like a row, and a header is needed" if headless else
               f". If one of them is meant, give --columns {name}={printable(column)}")
        )  # fmt: skip
