"""The two tables of a raw folder in a pipeline: read, checked, and events joined to the catalogue."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import apache_beam as beam
from apache_beam.pvalue import AsDict, AsIter, AsSingleton

from beam_jobs import bigquery, catalogue, checks
from beam_jobs.file_parts import SplitFiles
from beam_jobs.packing import PackBlocks
from beam_jobs.raw_rows import RawFile
from beam_jobs.read_rows import ReadDictionaries, ReadRows, TableKind
from beam_jobs.sources import BROKEN_FILES, REJECTS, ROWS_READ, RawFolder
from beam_jobs.table_rows import ReadTable
from courier_tf.settings import IngestSettings


class Part(NamedTuple):
    """A table, and what was rejected of it."""

    main: beam.PCollection
    rejects: list[beam.PCollection]
    rows: beam.pvalue.DoOutputsTuple  # The outputs of ReadRows.
    counts: list[beam.PCollection]  # Of (name, number).
    further: beam.PCollection | None = None  # Of events: (id that the catalogue does not have, events).


def _rows(pipeline: beam.Pipeline, files: Sequence[RawFile], kind: TableKind) -> beam.pvalue.DoOutputsTuple:
    outputs = REJECTS, ROWS_READ, BROKEN_FILES
    if files[0].dialect.format == bigquery.FORMAT:
        (table,) = files
        read = ReadDictionaries(kind, table, bigquery.types_of(table.path))
        return pipeline | ReadTable(table) | f"Read {kind}s" >> beam.ParDo(read).with_outputs(*outputs, main="main")
    return (
        pipeline
        | f"{kind} files" >> beam.Create(files, reshuffle=True)
        | f"Parts of {kind} files" >> SplitFiles()
        | f"Read {kind}s" >> beam.ParDo(ReadRows(kind)).with_outputs(*outputs, main="main")
    )


def items(pipeline: beam.Pipeline, folder: RawFolder, settings: IngestSettings) -> Part:
    """The catalogue, one row of each item."""
    rows = _rows(pipeline, folder.item_files, "item")
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
    return Part(unique.main, rejects, rows, [rows[ROWS_READ], unique[catalogue.DUPLICATES]])


def users(pipeline: beam.Pipeline, folder: RawFolder) -> Part:
    """The users that a shop has a table of, one row of each."""
    rows = _rows(pipeline, folder.user_files, "user")
    checked = rows.main | "Check users" >> beam.ParDo(checks.CheckUsers(folder)).with_outputs(REJECTS, main="main")
    unique = (
        checked.main
        | "Key users" >> beam.Map(lambda user: (user.user_id, user))
        | "Group users of the table" >> beam.GroupByKey()
        | "First of each" >> beam.FlatMap(catalogue.first_of_user).with_outputs(REJECTS, main="main")
    )
    return Part(unique.main, [rows[REJECTS], checked[REJECTS], unique[REJECTS]], rows, [rows[ROWS_READ]])


def events(pipeline: beam.Pipeline, folder: RawFolder, ids: beam.PCollection) -> Part:
    """The events of known items, as ((user, day), packed rows).

    Args:
        pipeline: to add the steps to.
        folder: the raw folder.
        ids: (item id, anything) of the catalogue.
    """
    rows = _rows(pipeline, folder.event_files, "event")
    checked = rows.main | "Check events" >> beam.ParDo(checks.CheckEvents(folder)).with_outputs(REJECTS, main="main")
    blocks = checked.main | "Pack events" >> beam.ParDo(PackBlocks())
    of_items = (
        blocks | "Items of events" >> beam.FlatMap(catalogue.items_of) | "Events of items" >> beam.CombinePerKey(sum)
    )
    unknown = (
        {"events": of_items, "catalogue": ids}
        | "Join ids" >> beam.CoGroupByKey()
        | "Unknown ids" >> beam.FlatMap(catalogue.unknown_only)
    )
    known = blocks | "Known items" >> beam.FlatMap(catalogue.known_items_only, unknown=AsDict(unknown)).with_outputs(
        REJECTS, main="main"
    )
    rejects = [rows[REJECTS], checked[REJECTS], known[REJECTS]]
    return Part(known.main, rejects, rows, [rows[ROWS_READ]], unknown)


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
