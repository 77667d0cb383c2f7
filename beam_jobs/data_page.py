"""The page of the data that ingest writes beside its statistics, in Markdown."""

import datetime
from collections.abc import Iterable, Iterator, Mapping, Sequence

from beam_jobs.data_figures import Dataset, shares
from beam_jobs.losses import losses
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.settings import IngestSettings
from courier_tf.workdir.facts import IngestFacts

COLUMN_HEADERS = ("column", "values", "missing", "most frequent")
PAGE_FILE = f"{schema.STATISTICS_FOLDER}/data.md"
MOST_ROWS = 20  # Of a table whose rows are values.
POPULAR = (0.001, 0.01, 0.1, 0.5)  # Shares of the items.
_CATEGORY = schema.column_feature(schema.CATEGORY)
_PHOTO_FEATURES = (("width", "photo_width"), ("height", "photo_height"), ("bytes (two digits)", "photo_bytes"))
_LONGEST = 60  # Characters of a value.


def page(statistics: Mapping[str, Dataset], facts: IngestFacts, settings: IngestSettings) -> Iterator[str]:
    """The lines of the page.

    Args:
        statistics: as `read_statistics` gives them.
        facts: of the same ingest.
        settings: those it was made with.
    """
    spans, items = [statistics[name] for name in schema.SPLITS], statistics["items"]
    yield from (
        "# Data",
        "",
        f"Log: {facts.log}. The figures are those of `FeatureStats.pb`, which TensorFlow Data Validation",
    )
    yield from ("and Facets read, too: `tfdv.visualize_statistics(tfdv.load_stats_binary(FILE))`.", "", "## Events", "")
    yield from _table(("", *schema.SPLITS), event_rows(spans, facts.log_kind))
    yield from ("", "Share of the events that the most popular items have:", "")
    yield from _table(("items", *schema.SPLITS), [
        (_percent(share), *(_percent(span.share_of_most_popular(share)) for span in spans)) for share in POPULAR
    ])  # fmt: skip
    yield from ("", "## Categories", "")
    yield from _table(
        ("category", "items", *(f"events of {name}" for name in schema.SPLITS)), category_rows(items, spans)
    )
    for title, rows in column_tables(statistics, facts):
        yield from ("", f"## {title}", "")
        yield from _table(COLUMN_HEADERS, rows)
    yield from (
        "",
        "## Photos",
        "",
        f"Of {items.examples:,} items {_percent(1 - items.missing('photo_width'))} have a photo.",
        "",
    )
    yield from _table(("", "smallest", "median", "largest"), photo_rows(items))
    yield from ("", "## Lost", "")
    yield from _table(("what", "number", "share", "limit"), lost_rows(facts, settings))
    yield from ("", "Reasons (`*` stands for a value or a number):", "")
    yield from _table(("reason", "number"), reason_rows(statistics["rejects"]))


def reason_rows(rejects: Dataset) -> Iterator[tuple[str, ...]]:
    """Rows (why something was lost, how often), the most frequent first."""
    for reason, number in list(rejects.top("reason").items())[:MOST_ROWS]:
        yield _shown(reason), f"{number:,}"


def event_rows(spans: Sequence[Dataset], kind: str) -> Iterator[tuple[str, ...]]:
    """Rows (what, the figure of each span) of the events of a log of this kind."""
    yield ("events", *(f"{span.examples:,}" for span in spans))
    for name, end in (("first day", "min"), ("last day", "max")):
        yield (name, *(_day(span.edge("timestamp", end)) for span in spans))
    if kind == "impressions":
        yield ("clicks", *(_percent(span.mean("clicked")) for span in spans))
    for name, feature in (("users", "user_id"), ("items", "item_id")):
        yield (name, *(f"{span.unique(feature):,}" for span in spans))
    for name, feature in (
        ("items of a history, mean", "history_length"),
        ("items of a page view, mean", "page_view_size"),
    ):
        yield (name, *(f"{span.mean(feature):.2f}" for span in spans))


def category_rows(items: Dataset, spans: Sequence[Dataset]) -> Iterator[tuple[str, ...]]:
    """Rows (category, its share of the items, its share of the events of each span), the largest first."""
    of_spans = [shares(span.top(_CATEGORY), span.examples) for span in spans]
    for category, share in list(shares(items.top(_CATEGORY), items.examples).items())[:MOST_ROWS]:
        yield (_shown(category), _percent(share), *(_percent(of_span.get(category, 0.0)) for of_span in of_spans))


def column_tables(statistics: Mapping[str, Dataset], facts: IngestFacts) -> Iterator[tuple[str, list[tuple[str, ...]]]]:
    """(title, rows of `COLUMN_HEADERS`) for the columns of items, of users and of events, as far as there are any."""
    kinds = {
        "Columns of the items": ("items", facts.all_columns, schema.column_feature),
        "Columns of the users": ("users", facts.user_columns, schema.column_feature),
        "Context columns of the events of train": ("train", facts.context_columns, schema.context_feature),
    }
    for title, (name, columns, feature_of) in kinds.items():
        if columns:
            yield title, list(_column_rows(statistics[name], map(feature_of, columns)))


def _column_rows(rows: Dataset, features: Iterable[str]) -> Iterator[tuple[str, ...]]:
    """Rows (column, different values, share of the examples without one, the most frequent value)."""
    for name in features:
        top = next(iter(shares(rows.top(name), rows.examples).items()), None)
        most = f"{_shown(top[0])} ({_percent(top[1])})" if top else ""
        yield (_shown(name.partition("/")[2]), f"{rows.unique(name):,}", _percent(rows.missing(name)), most)


def photo_rows(items: Dataset) -> Iterator[tuple[str, ...]]:
    """Rows (what, smallest, median, largest) of the photo files."""
    for name, feature in _PHOTO_FEATURES:
        yield (name, *(_number(items.edge(feature, end)) for end in ("min", "median", "max")))


def lost_rows(facts: IngestFacts, settings: IngestSettings) -> Iterator[tuple[str, ...]]:
    """Rows (what was lost, number, share, limit)."""
    for loss, number, share, limit in losses(facts.counts, settings):
        yield (loss.words, f"{number:,}", _percent(share), _percent(limit))


def _table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in (columns, *rows)]
    head, *body = [f"| {' | '.join(row)} |" for row in escaped]
    return [head, "|" + "---|" * len(columns), *body] if body else ["None."]


def _shown(text: str) -> str:
    return printable(text, _LONGEST)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"


def _day(seconds: float | None) -> str:
    return "" if seconds is None else datetime.datetime.fromtimestamp(seconds, datetime.UTC).date().isoformat()
