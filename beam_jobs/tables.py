"""The tables of a raw folder in a pipeline: rows of all, the catalogue, and the users. `log_table` has the log."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from beam_jobs import bigquery, catalogue, checks
from beam_jobs.file_parts import SplitFiles
from beam_jobs.raw_rows import RawFile
from beam_jobs.read_rows import ReadBlocks, ReadDictionaries, ReadRows, TableKind
from beam_jobs.sources import BROKEN_FILES, REJECTS, ROWS_READ, RawFolder
from beam_jobs.table_rows import ReadTable
from courier_tf.settings import IngestSettings


class Part(NamedTuple):
    """A table, and what was rejected of it."""

    main: beam.PCollection
    rejects: list[beam.PCollection]
    rows: beam.pvalue.DoOutputsTuple  # The outputs of ReadRows.
    counts: list[beam.PCollection]  # Of (name, number).


def read_rows(
    pipeline: beam.Pipeline,
    files: Sequence[RawFile] | Sequence[tuple[RawFile, int]],
    kind: TableKind,
    what: str,
    first: AsSingleton | None = None,
    check: beam.DoFn | None = None,
) -> beam.pvalue.DoOutputsTuple:
    """The rows of files, with the outputs of `ReadRows`; with `check` packed ones, and its outputs.

    Args:
        pipeline: to add the steps to.
        files: the files; with `first`, (file, its last day).
        kind: of their rows.
        what: for the labels of the steps.
        first: the files that end before this day are left out.
        check: checks each row.
    """

    def step(read: ReadRows) -> beam.PTransform:
        outputs = REJECTS, ROWS_READ, BROKEN_FILES, *([checks.COUNTS] if check else [])
        reading = ReadBlocks(read, check) if check else read
        return f"Read {what}" >> beam.ParDo(reading).with_outputs(*outputs, main="main")

    table = files[0] if files else None
    if isinstance(table, RawFile) and table.dialect.format == bigquery.FORMAT:
        return pipeline | ReadTable(table) | step(ReadDictionaries(kind, table, bigquery.types_of(table.path)))
    chosen = pipeline | f"Files of {what}" >> beam.Create(files, reshuffle=True)
    if first:
        chosen |= f"Choose files of {what}" >> beam.FlatMap(_unless_before, first)
    return chosen | f"Parts of files of {what}" >> SplitFiles() | step(ReadRows(kind))


def _unless_before(file_and_last: tuple[RawFile, int], first: int) -> list[RawFile]:
    file, last = file_and_last
    return [file] if last >= first else []


def items(pipeline: beam.Pipeline, folder: RawFolder, settings: IngestSettings) -> Part:
    """The catalogue, one row of each item."""
    rows = read_rows(pipeline, folder.item_files, "item", "items")
    checked = rows.main | "Check items" >> beam.ParDo(checks.CheckItems(folder)).with_outputs(REJECTS, main="main")
    unique = (
        checked.main
        | "Key items" >> beam.Map(lambda item: (item.item_id, item))
        | "Group items" >> beam.GroupByKey()
        | "One of each"
        >> beam.FlatMap(catalogue.one_of_each, settings.duplicate_items).with_outputs(
            REJECTS, catalogue.DUPLICATES, main="main"
        )
    )
    rejects = [rows[REJECTS], checked[REJECTS], unique[REJECTS]]
    read = rows[ROWS_READ] | "Item rows" >> beam.MapTuple(lambda _, number: ("item_rows_read", number))
    return Part(unique.main, rejects, rows, [read, unique[catalogue.DUPLICATES]])


def users(pipeline: beam.Pipeline, folder: RawFolder) -> Part:
    """The users that a shop has a table of, one row of each."""
    rows = read_rows(pipeline, folder.user_files, "user", "users")
    checked = rows.main | "Check users" >> beam.ParDo(checks.CheckUsers(folder)).with_outputs(REJECTS, main="main")
    unique = (
        checked.main
        | "Key users" >> beam.Map(lambda user: (user.user_id, user))
        | "Group users of the table" >> beam.GroupByKey()
        | "First of each" >> beam.FlatMap(catalogue.first_of_user).with_outputs(REJECTS, main="main")
    )
    read = rows[ROWS_READ] | "User rows" >> beam.MapTuple(lambda _, number: ("user_rows_read", number))
    return Part(unique.main, [rows[REJECTS], checked[REJECTS], unique[REJECTS]], rows, [read])


def compared(unknown: beam.PCollection, ids: beam.PCollection) -> beam.PCollection:
    """One `UnknownIds`: what the ids that the catalogue does not have may mean.

    Args:
        unknown: (id, events).
        ids: (item id, anything) of the catalogue.
    """
    most = unknown | "Most frequent" >> beam.combiners.Top.Of(catalogue.MOST_COMPARED, key=_by_number)
    spellings = AsSingleton(most | "Spellings" >> beam.Map(catalogue.spellings_of))
    similar = ids | "Similar ids" >> beam.FlatMap(_if_similar, spellings=spellings)
    return most | "Compare unknown ids" >> beam.Map(catalogue.compare_unknown, items=AsIter(similar))


def _if_similar(item: tuple[str, Any], spellings: frozenset[str]) -> list[str]:
    return [item[0]] if spellings and catalogue.spelling(item[0]) in spellings else []


def _by_number(pair: tuple[str, int]) -> tuple[int, str]:
    return pair[1], pair[0]
