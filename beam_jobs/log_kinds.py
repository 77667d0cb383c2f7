"""What a log tells: items that were shown with those clicked, or positives alone. It is never guessed from silence.

A log whose label or event type has a name of its own would be read as positives alone, and each view would become a
click. So a column that looks like one is refused, and the message names the option.
"""

import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from beam_jobs.columns import plain
from beam_jobs.label_words import (
    DEED_KINDS,
    DEEDS,
    EVENT_TYPE_NAMES,
    EVENT_TYPES,
    GRADE_NAMES,
    KINDS,
    LABEL_NAMES,
    OF_DEEDS,
    YES_NO,
)
from beam_jobs.raw_errors import RawDataError
from beam_jobs.values import NoValue, is_null, label, null_words, stripped
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import NO_COLUMN, RawSettings

_NOUGHTS = frozenset(["0", "0.0"])  # Of columns that count deeds.
_ROWS_OF_CONSTANT = 20  # Rows of one request id and several users that are no page view.
_MOST_WORDS = 50  # A column with more values is none of event types.

AllValues = Callable[[str, str], Iterable[str]]  # (file, column) -> its values in all rows.


@dataclasses.dataclass(frozen=True)
class Log:
    """How the rows of a log become events.

    Attributes:
        kind: as `schema.LogKind` says.
        label: the column that tells positives: clicked, event_type, or "" where every row is one.
        by_request: page views are those of request_id. Otherwise they are told by user and time.
    """

    kind: schema.LogKind
    label: str
    by_request: bool

    def __str__(self) -> str:
        views = "page views by request_id" if self.by_request else "page views by user and time, without request_id"
        if self.kind == "positives":
            return "a positives-only log: each row is a positive" if not self.label else (
                "a positives-only log: each row whose event_type is a positive; other rows are left out"
            )  # fmt: skip
        return f"an impression log, with its labels in {self.label} and {views}"


def log_of(names: Mapping[str, frozenset[str]], samples: Mapping[str, Mapping[str, Sequence[str]]],
           settings: RawSettings, all_values: AllValues) -> Log:  # fmt: skip
    """What the log of a shop tells, which all event files share.

    Args:
        names: file -> our names of its columns.
        samples: file -> column, by our name or its own -> some values.
        settings: how raw files are read.
        all_values: reads a column to its end, where a sample does not tell.

    Raises:
        RawDataError: the files differ, or it is ambiguous.
    """
    logs = {file: _log_of_file(file, ours, samples.get(file, {}), settings, all_values) for file, ours in names.items()}
    first_file, first = next(iter(logs.items()))
    for file, log in logs.items():
        if log.label != first.label:
            (less, more) = (file, first_file) if first.label else (first_file, file)
            raise RawDataError(
                f"{less} has no column '{logs[more].label}', but {more} has one. All event files need the same label "
                "column: without it, impressions that were not clicked would count as clicks"
            )
        if log != first:
            raise RawDataError(
                f"{file} and {first_file} differ: only one of them has the column 'request_id'. Add it to the other "
                "one, or give --columns request_id=none"
            )
    return first


def _log_of_file(
    file: str, ours: frozenset[str], sample: Mapping[str, Sequence[str]], settings: RawSettings, all_values: AllValues
) -> Log:  # fmt: skip
    if settings.positive_events:
        if schema.EVENT_TYPE not in ours:
            raise RawDataError(
                f"{file} has no column 'event_type', which --positive-events {' '.join(settings.positive_events)} "
                "needs. Name the column of event types by --columns event_type=COLUMN"
            )
        _require_words(file, sample.get(schema.EVENT_TYPE, ()), settings)
        shown = settings.other_events == "unclicked"
        return Log(
            "impressions" if shown else "positives",
            schema.EVENT_TYPE,
            shown and _by_request(file, ours, sample, settings),
        )
    if "clicked" in ours:
        _require_labels(file, sample.get("clicked", ()), settings)
        return Log("impressions", "clicked", _by_request(file, ours, sample, settings))
    if settings.column(schema.RAW_EVENTS, "clicked") != NO_COLUMN:
        _require_no_label(file, sample, settings, all_values)
        if "request_id" in ours:
            raise RawDataError(
                f"{file} has the column 'request_id', but no column 'clicked', which an impression log needs. Name the "
                "column of clicks by --columns clicked=COLUMN. If every row is a click, give --columns clicked=none"
            )
    return Log("positives", "", False)


def _by_request(file: str, ours: frozenset[str], sample: Mapping[str, Sequence[str]], settings: RawSettings) -> bool:
    if "request_id" not in ours:
        return False
    nulls = null_words(settings.null_words)
    values = [stripped(value) for value in sample.get("request_id", ())]
    empty = [value for value in values if is_null(value, nulls)]
    if 2 * len(empty) > len(values):
        raise RawDataError(
            f"{file}, column 'request_id' has no value in {len(empty)} of the first {len(values)} rows (it holds "
            f"'{printable(empty[0])}'). Give --columns request_id=none to form page views by user and time instead"
        )
    if len(values) >= _ROWS_OF_CONSTANT and len(set(values)) == 1 and len(set(sample.get("user_id", ()))) > 1:
        raise RawDataError(
            f"{file}, column 'request_id' is '{printable(values[0])}' for all users of the first {len(values)} rows, "
            "so it does not identify page views. Give --columns request_id=none to form them by user and time instead"
        )
    return True


def _require_labels(file: str, values: Sequence[str], settings: RawSettings) -> None:
    """Refuses a column `clicked` of which most values are no labels, such as times of clicks."""
    nulls = null_words(settings.null_words)
    odd = []
    for value in values:
        try:
            label(value)
        except NoValue:
            odd.append(value)
    counts = [value for value in odd if stripped(value).removesuffix(".0").isdecimal()]
    if 100 * len(counts) > len(values):
        raise RawDataError(
            f"{file}, column 'clicked' holds '{printable(counts[0])}', which is neither 0 nor 1. If it counts "
            "clicks, write 1 for each number above 0"
        )
    if 2 * len(odd) > len(values):
        empty = is_null(stripped(odd[0]), nulls)
        raise RawDataError(
            f"{file}, column 'clicked' holds '{printable(odd[0])}', which is neither 0 nor 1"
            + (". Write 0 in rows that were not clicked" if empty else
               ". Name another column by --columns clicked=COLUMN. For a column of event types, give --columns "
               "event_type=COLUMN and --positive-events WORD")
        )  # fmt: skip


def _require_words(file: str, values: Sequence[str], settings: RawSettings) -> None:
    seen = {plain(value): value for value in values}
    wanted = {plain(word): word for word in settings.positive_events}
    if not seen or seen.keys() & wanted.keys():
        return
    near = next((match for word in wanted for match in difflib.get_close_matches(word, seen, 1)), None)
    if near:
        raise RawDataError(
            f"{file}, column 'event_type' holds {_shown(values)}, but no value of --positive-events "
            f"{' '.join(settings.positive_events)} (did you mean '{printable(seen[near])}'?)"
        )


def _shown(values: Sequence[str]) -> str:
    distinct = list(dict.fromkeys(values))
    return ", ".join(f"'{printable(value, 40)}'" for value in distinct[:5]) + (" ..." if len(distinct) > 5 else "")


def _require_no_label(
    file: str, sample: Mapping[str, Sequence[str]], settings: RawSettings, all_values: AllValues
) -> None:
    nulls = null_words(settings.null_words)
    for column, values in sample.items():
        if column in schema.EVENT_COLUMNS and column != schema.EVENT_TYPE:
            continue
        known = [value for value in map(stripped, values) if not is_null(value, nulls)]
        distinct = list(dict.fromkeys(known))
        name = plain(column)
        words = [value for value in distinct if plain(value) in EVENT_TYPES]
        labels = _are_labels(distinct)
        of_words = 0 < len(distinct) <= _MOST_WORDS and 2 * len(words) >= len(distinct)
        by_name = _is_named_like_one(name)
        shown = printable(column)
        start = f"{file} has no column 'clicked', and its column '{shown}'"
        if not (by_name or labels or of_words):
            reason = _no_plain_label(column, known, len(values))
            if not reason and _is_deed(column) and set(known) <= _NOUGHTS:
                reason = _told_later(len(values), all_values(file, column), nulls)
            if reason:
                raise RawDataError(f"{start} {reason}. If every row is a positive, give --columns clicked=none")
            parts = set(_parts(column))
            if not (parts & DEED_KINDS and parts & KINDS and 1 < len(distinct) <= _MOST_WORDS):
                continue
        if labels or (name in LABEL_NAMES and not of_words):
            way = f"To use it as the label, give --columns clicked={shown}"
        else:
            word = next((v for v in words if plain(v) in ("click", "purchase", "buy", "transaction")), "WORD")
            mapped = "" if column == schema.EVENT_TYPE else f"--columns event_type={shown} "
            way = f"To name the positive events, give {mapped}--positive-events {printable(word)}"
        kind = "a label" if labels or (name in LABEL_NAMES and not of_words) else "an event type"
        raise RawDataError(
            f"{start} looks like {kind} (it holds {_shown(distinct)}). {way}. If every row is a positive, give "
            "--columns clicked=none"
        )


def _no_plain_label(column: str, known: Sequence[str], rows: int) -> str:
    """Why a column may tell positives, though it holds no labels that are read; or nothing.

    Args:
        column: its name.
        known: its values in a sample, without those that mean no value.
        rows: number of rows of the sample.
    """
    distinct = list(dict.fromkeys(known))
    if plain(column) in GRADE_NAMES:
        return (
            f"looks like a grade (it holds {_shown(distinct)}). Remove the rows that are not positives, or "
            "write 0 and 1 into a column 'clicked'"
        )
    if {value.casefold() for value in distinct} in YES_NO:
        return f"looks like a label (it holds {_shown(distinct)}). To use it, write 0 and 1 instead"
    if not _is_deed(column):
        return ""
    if 0 < len(known) < rows:
        return (
            f"has no value in {rows - len(known)} of the first {rows} rows, so these may be rows without a click. To "
            "use it, write 0 and 1 into a column 'clicked'"
        )
    numbers = [value.removesuffix(".0") for value in known]
    if 10 * numbers.count("0") > rows and len(distinct) > 1 and all(map(str.isdecimal, numbers)):
        return (
            f"looks like a count of clicks (it holds {_shown(distinct)}). To use it, write 0 and 1 into a column "
            "'clicked'"
        )
    return ""


def _told_later(rows: int, values: Iterable[str], nulls: frozenset[str]) -> str:
    """Why a column tells positives that has told none in the first rows; or nothing, as no row has a value.

    Args:
        rows: number of rows of the sample.
        values: of all rows.
        nulls: words for no value.
    """
    for value in map(stripped, values):
        if not is_null(value, nulls) and value not in _NOUGHTS:
            return (
                f"has no value above 0 in the first {rows} rows, and '{printable(value)}' in a later one, so the first "
                "may be rows without a click. To use it, write 0 and 1 into a column 'clicked'"
            )
    return ""


def _is_named_like_one(name: str) -> bool:
    """Whether a name, as `plain` writes it, is that of a label or of an event type."""
    return name in LABEL_NAMES or name in EVENT_TYPE_NAMES or name in ("eventtype", "clicked")


def _is_deed(column: str) -> bool:
    """Whether a name says that its values tell what a user did, as num_clicks, purchased_qty and order_id do."""
    parts = set(_parts(column))
    return bool(parts & DEEDS) and parts <= DEEDS | OF_DEEDS


def require_no_late_label(file: str, row: int, names: Iterable[str]) -> None:
    """Refuses fields that first stand in a late row, and by their names tell positives.

    Args:
        file: of JSON, whose rows were all taken for positives.
        row: number of the row.
        names: of the fields that no row before has.

    Raises:
        RawDataError: there is one.
    """
    for name in names:
        if _is_named_like_one(plain(name)) or _is_deed(name):
            shown = printable(name)
            raise RawDataError(
                f"{file}, row {row} has the field '{shown}', which the first rows do not have: rows without it may be "
                f"rows without a click. Write it into every row, and give --columns clicked={shown} or --columns "
                f"event_type={shown}. If every row is a positive, give --columns clicked=none"
            )


def _parts(name: str) -> list[str]:
    """The words of a name.

    >>> _parts("numClicks"), _parts("purchased_qty")
    (['num', 'clicks'], ['purchased', 'qty'])
    """
    return [part.casefold() for part in re.findall(r"[A-Z]?[^\W\d_A-Z]+|[A-Z]+(?![^\W\d_A-Z])", name)]


def _are_labels(distinct: Sequence[str]) -> bool:
    """Whether a column holds both values of a label, and nothing else."""
    if set(distinct) == {"-1", "1"}:
        return True
    labels = set()
    for value in distinct[:10]:
        try:
            labels.add(label(value))
        except NoValue:
            return False
    return labels == {0, 1}


def positive_words(settings: RawSettings) -> frozenset[str]:
    """The positive event types, as `plain` writes them."""
    return frozenset(re.sub(r"\s", "", plain(word)) for word in settings.positive_events)
