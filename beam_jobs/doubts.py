"""What the first rows of a shop's files may mean besides what is read. Each doubt is a warning in a line."""

import collections
from collections.abc import Iterator, Mapping, Sequence

from beam_jobs import columns, values
from beam_jobs.log_kinds import Log
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

Samples = Mapping[str, Mapping[str, Sequence[str]]]  # File -> column, by our name or its own -> first values.

FREQUENT = 20  # Rows of a sample in which an id stands that may be a word for no value.
NOBODY = frozenset(
    ["guest", "guestuser", "anonymous", "anonymoususer", "anon", "unknown", "(notset)", "notset", "nobody", "gast",
     "unbekannt", "unknownuser", "notloggedin", "00000000000000000000000000000000"]
)  # fmt: skip
NO_NUMBERS = ("0", "-1", "-", "--", "?", "0.0", "-1.0")  # Users where they are no more frequent than others.


def of_ids(items: Samples, events: Samples) -> list[str]:
    """Spellings of ids that may be one: two in a table, or another form in one of its files."""
    warnings = []
    for table, samples, name in (
        (schema.RAW_EVENTS, events, "user_id"),
        (schema.RAW_EVENTS, events, "item_id"),
        (schema.RAW_ITEMS, items, "item_id"),
    ):
        of_file = {path: {values.stripped(text) for text in sample.get(name, ())} for path, sample in samples.items()}
        groups = values.spellings(sorted(set().union(*of_file.values())))
        forms = {path: form for path, names in of_file.items() if (form := values.form_of_ids(names))}
        if groups:
            shown = "; ".join(" and ".join(f"'{printable(name)}'" for name in group[:3]) for group in groups[:3])
            warnings.append(f"{table}: these may be one {name}, and are several: {shown}")
        elif len(set(forms.values())) > 1:
            first = {form: path for path, form in reversed(forms.items())}
            shown = "; ".join(f"'{printable(_example(of_file[path], form))}' in {path}" for form, path in first.items())
            warnings.append(f"{table}: {name} is written in several forms, which may be one: {shown}")
    return warnings


def of_users(users: Samples, events: Samples) -> Iterator[str]:
    """A table of users whose ids are written in another form than those of the log, so that none would match."""
    names = [
        {values.stripped(text) for sample in samples.values() for text in sample.get("user_id", ())}
        for samples in (users, events)
    ]
    ours, theirs = map(values.form_of_ids, names)
    if ours and theirs and ours != theirs and not names[0] & names[1]:
        yield (
            f"users: user_id is written as '{printable(_example(names[0], ours))}', and in events as "
            f"'{printable(_example(names[1], theirs))}': ids that differ are different users, so write both alike"
        )


def of_frequent_ids(events: Samples, log: Log) -> list[str]:
    """Ids that are so much more frequent than all others that they may be words for no value."""
    warnings = []
    for name in ("user_id", "request_id") if log.by_request else ("user_id",):
        texts = (text for sample in events.values() for text in sample.get(name, ()))
        counts = collections.Counter(filter(None, texts))
        (first, number), (_, second) = (*counts.most_common(2), ("", 0), ("", 0))[:2]
        if first in _nobody(counts):  # `of_nobody` warns of it.
            continue
        if number >= FREQUENT and number > 5 * second and 10 * number > counts.total() > number:
            warnings.append(
                f"events: {name} is '{printable(first)}' in {number} of the first {counts.total()} rows: if that means "
                f"no value, say --null-words {printable(first)} with the other words"
            )
    return warnings


def of_nobody(events: Samples) -> Iterator[str]:
    """Words for nobody among the users, each of which would be one user."""
    counts = collections.Counter(
        text for sample in events.values() for text in map(values.stripped, sample.get("user_id", ()))
    )
    nobody = _nobody(counts)
    if nobody:
        shown = ", ".join(f"'{printable(text)}' ({counts[text]})" for text in nobody[:5])
        words = " ".join(map(printable, nobody[:5]))
        yield (
            f"events: these may be words for no user, and are users: {shown} in the first {counts.total()} rows: if "
            f"so, say --null-words {words} with the other words"
        )


def _nobody(counts: collections.Counter[str]) -> list[str]:
    most = 3 * sorted(counts.values())[len(counts) // 2] if counts else 0
    nobody = [
        text
        for text, number in counts.items()
        if columns.plain(text) in NOBODY or (text in NO_NUMBERS and number > most)
    ]
    return nobody if len(counts) > len(nobody) else []


def of_types(events: Samples, settings: RawSettings) -> Iterator[str]:
    """Positive event types that no row of the sample has, with those that there are."""
    if not settings.positive_events:
        return
    counts = collections.Counter(
        text for sample in events.values() for text in map(values.stripped, sample.get(schema.EVENT_TYPE, ()))
    )
    seen = set(map(columns.plain, counts))
    absent = [word for word in settings.positive_events if columns.plain(word) not in seen]
    if absent:
        shown = ", ".join(f"'{printable(text, 40)}' ({number})" for text, number in counts.most_common(10))
        yield (
            f"events: none of the first {counts.total()} rows has the event type {', '.join(map(printable, absent))} "
            f"of --positive-events; they have {shown}"
        )


def _example(names: set[str], form: str) -> str:
    return next(name for name in sorted(names) if values.form_of_ids([name]) == form)
