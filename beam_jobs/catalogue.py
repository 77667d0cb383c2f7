"""What the catalogue decides: which row of an item counts, and which events name an item that there is."""

import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam

from beam_jobs.checks import DAY, Event, Item, User
from beam_jobs.packing import pack, unpack
from beam_jobs.raw_files import name_in
from beam_jobs.sources import REJECTS
from beam_jobs.user_groups import group_of
from courier_tf import schema
from courier_tf.escaping import printable

DUPLICATES = "duplicates"  # Tags of further outputs.
UNKNOWN = "unknown"
ALREADY_THERE = "is already in row"  # In the reason of a further row of an item.
REJECTED = "duplicate_item_rows_rejected"  # Name of a count.
MOST_COMPARED = 1000  # Unknown ids that are compared with those of the catalogue.


def one_of_each(element: tuple[str, Iterable[Item]], keep: Literal["reject", "first", "last"]) -> Iterator[Any]:
    """Keeps one row of an item id, in the order of the files.

    Args:
        element: (item id, its rows).
        keep: `duplicate_items`. reject: the first, and the others are rejects. first, last: that one, and the number of
            the others goes to the output `DUPLICATES`. That of rejects goes there, too.
    """
    rows = sorted(element[1], key=lambda item: item.place)
    kept = rows.pop(-1 if keep == "last" else 0)
    yield kept
    if rows:
        yield beam.pvalue.TaggedOutput(DUPLICATES, (REJECTED if keep == "reject" else "duplicate_item_rows", len(rows)))
    if keep != "reject":
        return
    for item in rows:
        reason = f"item '{printable(item.item_id)}' {ALREADY_THERE} {kept.place[1]} of {kept.place[0]}"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*item.place, "item_id", reason, "item"))


def first_of_user(element: tuple[str, Iterable[User]]) -> Iterator[Any]:
    """Keeps the first row of a user id, in the order of the files. The others are rejects."""
    kept, *others = sorted(element[1], key=lambda user: user.place)
    yield kept
    for user in others:
        reason = f"user '{printable(user.user_id)}' {ALREADY_THERE} {kept.place[1]} of {kept.place[0]}"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*user.place, "user_id", reason, "user"))


def items_of(block: bytes) -> list[tuple[str, int]]:
    """(item id, events) of the events of a block."""
    return list(Counter(item for _, item, *_ in unpack(block)).items())


def unknown_only(element: tuple[str, dict[str, Iterable[int]]]) -> Iterator[tuple[str, int]]:
    """(item id, events) of an item that the catalogue does not have.

    Args:
        element: (item id, {"events": numbers of them, "catalogue": its rows}).
    """
    item, joined = element
    if not any(True for _ in joined["catalogue"]):
        yield from ((item, number) for number in joined["events"])


def known_items_only(block: bytes, unknown: Container[str], groups: int, raw: str) -> Iterator[Any]:
    """(`DayOfGroup`, packed {user: rows}) of the events of a block whose items are in the catalogue.

    Of the others `UNKNOWN` has (day, [(name of the file, row, item)]).

    Args:
        block: packed events.
        unknown: ids of events that the catalogue does not have. They are few, or the job fails; the catalogue is not
            few.
        groups: number of groups of users.
        raw: the raw folder.
    """
    days: dict[int, dict[str, list[tuple[Any, ...]]]] = {}
    left_out: dict[int, list[tuple[str, int, str]]] = {}
    for user, item, timestamp, *others in unpack(block):
        day = timestamp // DAY
        if item in unknown:
            file, row = Event(user, item, timestamp, *others).place
            left_out.setdefault(day, []).append((name_in(raw, file), row, item))
        else:
            days.setdefault(day, {}).setdefault(user, []).append((item, timestamp, *others))
    for day, users in days.items():
        of_groups: dict[int, dict[str, list[tuple[Any, ...]]]] = {}
        for user, rows in users.items():
            of_groups.setdefault(group_of(user, groups), {})[user] = rows
        for group, of_group in of_groups.items():
            yield (group, day), pack(of_group)
    for of_day in left_out.items():
        yield beam.pvalue.TaggedOutput(UNKNOWN, of_day)


def unknown_reject(path: str, row: int, item: str) -> schema.Reject:
    """The reject of an event whose item is not in the catalogue."""
    return schema.Reject(path, row, "item_id", f"item '{printable(item)}' is not in the catalogue", "unknown_item")


class UnknownIds(NamedTuple):
    """The ids of events that the catalogue does not have, and what they may mean.

    Attributes:
        compared: number of events whose ids were compared, those of the most frequent ids.
        similar: number of these events whose id is an item's in another spelling.
        examples: (id of the events, id of the catalogue) of such a pair, the most frequent first; at most 3.
    """

    compared: int = 0
    similar: int = 0
    examples: tuple[tuple[str, str], ...] = ()


def spelling(text: str) -> str:
    """What stays of an id where its spelling does not matter. Two ids with the same rest may be one.

    It keeps less than `values.canonical`, because it is asked for ids that nothing matches as they are.

    >>> [spelling(text) for text in ("0012", "12", "12.0", " AB-7 ", "ab_7", "0")]
    ['12', '12', '12', 'ab7', 'ab7', '0']
    """
    rest = re.sub(r"[\W_]+$|^[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())
    rest = re.sub(r"^(\d+)[.,]0+$", r"\1", rest)
    return re.sub(r"[\W_]+", "", rest).lstrip("0") or "0"


def most_frequent(counts: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """The `MOST_COMPARED` most frequent of (id, events), the most frequent first."""
    return heapq.nsmallest(MOST_COMPARED, counts, key=lambda pair: (-pair[1], pair[0]))


def spellings_of(unknown: list[tuple[str, int]]) -> frozenset[str]:
    """What stays of unknown ids where their spelling does not matter."""
    return frozenset(spelling(text) for text, _ in unknown)


def compare_unknown(unknown: list[tuple[str, int]], items: Iterable[str]) -> UnknownIds:
    """Looks for other spellings of unknown ids in the catalogue.

    Args:
        unknown: (id, events), as `most_frequent` gives them.
        items: item ids of the catalogue, or those whose spelling is among `spellings_of`.
    """
    if not unknown:
        return UnknownIds()
    wanted = spellings_of(unknown)
    known: dict[str, str] = {}
    for item in items:
        if (rest := spelling(item)) in wanted:
            known[rest] = min(item, known.get(rest, item))
    similar = Counter({text: number for text, number in unknown if spelling(text) in known})
    examples = tuple((text, known[spelling(text)]) for text, _ in unknown if text in similar)
    return UnknownIds(sum(number for _, number in unknown), similar.total(), examples[:3])
