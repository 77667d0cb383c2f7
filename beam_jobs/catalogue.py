"""What the catalogue decides: which row of an item counts, and which events name an item that there is."""

import heapq
import re
import unicodedata
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping
from typing import Any, Literal, NamedTuple

import apache_beam as beam

from beam_jobs.checks import Event, Item
from beam_jobs.sources import REJECTS
from courier_tf import schema
from courier_tf.escaping import printable

UNKNOWN_IDS = "unknown_ids"  # Tags of further outputs.
DUPLICATES = "duplicates"
ALREADY_THERE = "is already in row"  # In the reason of a further row of an item.
MOST_COMPARED = 1000  # Unknown ids that are compared with those of the catalogue.


def one_of_each(element: tuple[str, Iterable[Item]], keep: Literal["reject", "first", "last"]) -> Iterator[Any]:
    """Keeps one row of an item id, in the order of the files.

    Args:
        element: (item id, its rows).
        keep: `duplicate_items`. reject: the first, and the others are rejects. first, last: that one, and the number of
            the others goes to the output `DUPLICATES`.
    """
    rows = sorted(element[1], key=lambda item: item.place)
    kept = rows.pop(-1 if keep == "last" else 0)
    yield kept
    if keep != "reject":
        if rows:
            yield beam.pvalue.TaggedOutput(DUPLICATES, ("duplicate_item_rows", len(rows)))
        return
    for item in rows:
        reason = f"item '{printable(item.item_id)}' {ALREADY_THERE} {kept.place[1]} of {kept.place[0]}"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*item.place, "item_id", reason, "item"))


def known_items_only(event: Event, items: Container[str]) -> Iterator[Any]:
    """Passes events of items in the catalogue. The others are rejects, and their ids go to `UNKNOWN_IDS`."""
    if event.item_id in items:
        yield event
    else:
        reason = f"item '{printable(event.item_id)}' is not in the catalogue"
        yield beam.pvalue.TaggedOutput(REJECTS, schema.Reject(*event.place, "item_id", reason, "unknown_item"))
        yield beam.pvalue.TaggedOutput(UNKNOWN_IDS, event.item_id)


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


def compare_unknown(unknown: list[tuple[str, int]], items: Mapping[str, Any]) -> UnknownIds:
    """Looks for other spellings of unknown ids in the catalogue.

    Args:
        unknown: (id, events), as `most_frequent` gives them.
        items: item ids of the catalogue.
    """
    if not unknown:
        return UnknownIds()
    wanted = {spelling(text) for text, _ in unknown}
    known: dict[str, str] = {}
    for item in items:
        if (rest := spelling(item)) in wanted:
            known[rest] = min(item, known.get(rest, item))
    similar = Counter({text: number for text, number in unknown if spelling(text) in known})
    examples = tuple((text, known[spelling(text)]) for text, _ in unknown if text in similar)
    return UnknownIds(sum(number for _, number in unknown), similar.total(), examples[:3])
