"""The section on the data: what was read, what was lost and why."""

from collections.abc import Iterator

from beam_jobs import data_page
from beam_jobs.data_figures import StatisticsError, read_statistics
from courier_tf import schema
from courier_tf.report.blocks import Block, Heading, Paragraph, Table
from courier_tf.report.workdir import Missing, Workdir


def blocks(work: Workdir) -> Iterator[Block]:
    """Tables of events, items, losses and photos, as in the page that ingest writes."""
    facts = work.ingest.facts
    if facts.log:
        yield Paragraph(f"Log: {facts.log}.")
    yield from (Paragraph(f"Note: {note}") for note in facts.notes)
    if facts.negatives:
        yield Paragraph(f"Negatives were sampled: {facts.negatives}.")
    yield Heading("Lost")
    lost = list(data_page.lost_rows(facts, work.ingest_settings()))
    if lost:
        yield Table("What was lost, and the limit of each kind", ("what", "number", "share", "limit"), lost)
    else:
        yield Paragraph("Nothing was lost.")
    try:
        statistics = read_statistics(work.ingest.path)
    except StatisticsError as error:
        raise Missing(f"The rest has no statistics: {error}.") from error
    if reasons := list(data_page.reason_rows(statistics["rejects"])):
        yield Table("Reasons (* stands for a value or a number)", ("reason", "number"), reasons)
    spans, items = [statistics[name] for name in schema.SPLITS], statistics["items"]
    yield Heading("Events and items")
    yield Table("Events of each span", ("", *schema.SPLITS), list(data_page.event_rows(spans, facts.log_kind)))
    yield Table(
        "Categories, the most frequent ones: share of the items, and of the events",
        ("category", "items", *schema.SPLITS),
        list(data_page.category_rows(items, spans)),
    )
    for title, rows in data_page.column_tables(statistics, facts):
        yield Table(title, data_page.COLUMN_HEADERS, rows)
    yield Table("Photos", ("", "smallest", "median", "largest"), list(data_page.photo_rows(items)))
