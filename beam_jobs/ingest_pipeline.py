"""The pipeline of the ingest job: it connects the transforms of the other files.

items  -> check -> one per id -------------------------+-> join, photo -> items/
                       |                               |
events -> check -> known items -> by group of users and day -> statistics per day and item -> splits, pools of negatives
                                       |                                              |
                              page views (+ negatives) -> days/ -> all days -> impressions/, page_views/
                                       |                    |
known days, before the first that is made anew -------------+
"""

from collections.abc import Iterable, Iterator

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton

from beam_jobs import catalogue, log_table, losses, negatives, splits, tables
from beam_jobs.checks import COUNTS
from beam_jobs.data_figures import STATISTICS_FILE
from beam_jobs.data_statistics import WriteStatistics
from beam_jobs.day_files import ORDER_SEED
from beam_jobs.file_numbers import files_of_items, files_of_splits, files_of_users
from beam_jobs.ingest_summary import SUMMARY_FILE, write_summary
from beam_jobs.item_days import AddDays, DaysOfItem, with_starts
from beam_jobs.items import PHOTOS, TRACES, BuildItems
from beam_jobs.known_days import CLICKS, ITEMS, TakeOver, read_known
from beam_jobs.known_log import KnownLog
from beam_jobs.known_photos import ReadKnown
from beam_jobs.made_days import REQUESTS, USERS, SumUp, counts_of_split, page_views_cut
from beam_jobs.new_days import WriteNewDays
from beam_jobs.photo_check import SumTraces
from beam_jobs.raw_files import name_in
from beam_jobs.rejects import KINDS, AddKinds, Kinds, WriteRejects, pack_rejects
from beam_jobs.sources import BROKEN_FILES, REJECTS, RawFolder
from beam_jobs.split_files import as_it_is, write_page_views
from beam_jobs.uniform_negatives import DrawUniformly
from beam_jobs.useful_columns import CountValues, columns_of_train
from beam_jobs.user_days import DAYS, BuildPageViews, statistics_of
from beam_jobs.user_records import user_record
from beam_jobs.write import WriteShuffled
from courier_tf import schema
from courier_tf.settings import IngestSettings


def build(
    pipeline: beam.Pipeline,
    folder: RawFolder,
    target: str,
    settings: IngestSettings,
    known_photos: list[str],
    known: KnownLog,
) -> None:
    """Adds the whole job to the pipeline. It writes below `target`, and `SUMMARY_FILE` last.

    A log that cannot be split, or a broken file, fails no worker: it is noted in the summary, and the driver raises.
    The summary holds `splits` (first seconds of valid and test, or null), `splits_error`, `broken_files` (messages),
    `rejects` (kind -> number and the first lines), `counts` (rows read of items and events, rows written of each kind
    of file), `days` (day, events, clicks), `unknown` (see `catalogue.UnknownIds`), `largest_user` (events, id),
    `columns` (see `useful_columns.Counted`) and `traces` (see `photo_check.SumTraces`).

    Of the log it has `first` (see `KnownLog.first_and_late`) and, of the files that were read, `log_rows`, `log_counts`
    and `log_traces`.

    Args:
        pipeline: to add the steps to.
        folder: what is read.
        target: folder to write.
        settings: settings of the stage.
        known_photos: item records whose photos are taken over where their files are as they were.
        known: what is known of the log. Its days are taken over as far as they stay as they were.
    """
    items = tables.items(pipeline, folder, settings)
    ids = items.main | "Item ids" >> beam.Map(lambda item: (item.item_id, item.available_from))
    tables_read = [items, *([tables.users(pipeline, folder)] if folder.user_files else [])]
    known_parts = read_known(pipeline, known)
    log = log_table.events(pipeline, folder, ids, known, known_parts, settings)
    first = AsSingleton(log.first | "First day that is made" >> beam.Map(lambda first: first[0]))
    taken = known_parts | "Take over days" >> beam.ParDo(
        TakeOver(known, target, settings.history_kept), first, log.groups
    ).with_outputs(CLICKS, ITEMS, main="main")
    pause = settings.page_view_gap if folder.log_kind == "impressions" else 1
    views = {"rows": log.main, "before": taken[CLICKS]} | BuildPageViews(
        settings.history_kept, pause, settings.history_ties == "log_order"
    )
    days = (
        [views[DAYS] | "Items of new days" >> beam.FlatMap(statistics_of), taken[ITEMS]]
        | "Items of all days" >> beam.Flatten()
        | "Days of items" >> beam.CombinePerKey(AddDays())
    )
    totals = (
        days
        | "Days" >> beam.Values()
        | "Events a day" >> beam.CombineGlobally(AddDays())
        | "All days" >> beam.Map(lambda days: [(day, events, clicks) for day, (events, clicks, _) in days.items()])
    )
    whole = views["views"]
    if folder.log_kind == "positives":
        whole = _with_negatives(whole, days, totals, ids, first, settings)
    new_days = {"views": whole, "users": views[DAYS], "unknown": log.unknown}
    made = new_days | WriteNewDays(target, settings, folder.log_kind == "positives")
    parts = (taken.main, made) | "Parts of all days" >> beam.Flatten()
    sums = parts | "Sum up days" >> beam.ParDo(
        SumUp({name_in(folder.path, file.path): file.path for file in folder.event_files})
    ).with_outputs(USERS, COUNTS, catalogue.UNKNOWN, REJECTS, REQUESTS, main="main")

    of_rows = [*(part for table in tables_read for part in table.rejects), *log.rejects, sums[REJECTS]]
    rejects = [pack_rejects(part, str(n)) for n, part in enumerate(of_rows)]
    lost = _all_kinds(rejects, "rows")
    known_rows = sum(file.rows for file in known.files.values())
    event_rows = [
        log.rows_read | "Event rows" >> beam.MapTuple(lambda _, number: ("event_rows_read", number)),
        pipeline | "Rows of unchanged files" >> beam.Create([("event_rows_read", known_rows)]),
    ]
    read = [
        *(count for table in tables_read for count in table.counts),
        *event_rows,
    ] | "All rows read" >> beam.Flatten()
    attempt = totals | "Attempt splits" >> beam.Map(
        _attempt_splits, settings, lost=AsSingleton(lost), read=AsIter(read), first=AsSingleton(log.first)
    )
    cut = AsSingleton(attempt | "Splits" >> beam.Map(lambda splits_and_error: splits_and_error[0]))

    keyed_items = items.main | "Key unique items" >> beam.Map(lambda item: (item.item_id, item))
    build_items = BuildItems(folder.path, settings.image_size, ORDER_SEED, settings.follow_links)
    joined = (
        {"rows": keyed_items, "days": days, "known": pipeline | ReadKnown(known_photos)}
        | "Join items" >> beam.CoGroupByKey()
        | "Starts" >> beam.Map(with_starts)
    )
    built = joined | "Items" >> beam.ParDo(build_items, splits=cut).with_outputs(REJECTS, PHOTOS, TRACES, main="main")
    counts = [
        read,
        sums[COUNTS],
        page_views_cut(sums[REQUESTS]),
        parts | "Counts of splits" >> beam.FlatMap(counts_of_split, splits=cut),
        *write_page_views(parts, built.main, cut, files_of_splits(sums.main, cut, settings), target, settings),
    ]
    counts.append(
        built.main
        | "Key item records" >> beam.Map(lambda row: (row[0], row))
        | WriteShuffled(target, schema.ITEMS_FOLDER, "items", files_of_items(ids, settings), as_it_is)
    )
    for table in tables_read[1:]:
        counts.append(_write_users(table.main, target, settings))
    rejects.append(pack_rejects(built[REJECTS], "photos"))
    blocks = [part.main for part in rejects] | "All rejects" >> beam.Flatten()
    written = blocks | WriteRejects(target) | "Written rejects" >> beam.combiners.Count.Globally()
    parts_of_data = {"items": joined, "photos": built[PHOTOS], "days": parts}
    if folder.user_files:
        parts_of_data["users"] = tables_read[1].main
    parts_of_data |= {f"{REJECTS} {n}": part for n, part in enumerate([*of_rows, built[REJECTS]])}
    _ = parts_of_data | WriteStatistics(f"{target}/{STATISTICS_FILE}", cut)
    columns = (
        joined
        | "Columns of train" >> beam.FlatMap(columns_of_train, splits=cut)
        | "Values of columns" >> beam.CombineGlobally(CountValues())
    )
    broken = [*(table.rows[BROKEN_FILES] for table in tables_read), *log.broken] | "All broken files" >> beam.Flatten()
    users = sums[USERS] | "Events of users" >> beam.CombinePerKey(sum)
    counts.append(
        users | "Users" >> beam.combiners.Count.Globally() | "Name users" >> beam.Map(lambda number: ("users", number))
    )
    largest = (
        users
        | "By events" >> beam.MapTuple(lambda user, number: (number, user))
        | "Largest user" >> beam.combiners.Top.Largest(1)
    )
    unknown = sums[catalogue.UNKNOWN] | "Events of unknown ids" >> beam.CombinePerKey(sum)
    told = {
        "attempt": attempt,
        "rejects": _all_kinds(rejects, "rows and photos"),
        "written": written,
        "days": totals,
        "unknown": tables.compared(unknown, ids),
        "largest": largest,
        "columns": columns,
        "traces": built[TRACES] | "All traces" >> beam.CombineGlobally(SumTraces()),
        "first": log.first,
    }
    lists = {
        "broken": broken,
        "counted": counts | "All counts of rows" >> beam.Flatten(),
        "log_rows": log.rows_read,
        "log_counts": log.counts,
        "log_traces": log.traces,
    }
    _ = (
        pipeline
        | "Summary" >> beam.Create([f"{target}/{SUMMARY_FILE}"])
        | "Write summary"
        >> beam.Map(
            write_summary,
            **{name: AsSingleton(part) for name, part in told.items()},
            **{name: AsIter(part) for name, part in lists.items()},
        )
    )


def _all_kinds(rejects: list[beam.pvalue.DoOutputsTuple], what: str) -> beam.PCollection:
    """One `Kinds` of several parts."""
    kinds = [part[KINDS] for part in rejects] | f"Kinds of {what}" >> beam.Flatten()
    return kinds | f"All kinds of {what}" >> beam.CombineGlobally(AddKinds())


def _with_negatives(
    views: beam.PCollection,
    days: beam.PCollection,
    totals: beam.PCollection,
    ids: beam.PCollection,
    first: AsSingleton,
    settings: IngestSettings,
) -> beam.PCollection:
    chosen = settings.negatives_per_positive, settings.negatives_seed
    if settings.negatives == "uniform":
        return {"views": views, "days": days, "ids": ids} | DrawUniformly(*chosen)
    pools = totals | "Pools of days" >> beam.Map(_pools_of_days, settings.negatives_pool_events, first)
    counts = days | "Counts of pools" >> beam.FlatMap(_into_pools, pools=AsSingleton(pools))
    keyed = views | "Page views by day" >> beam.Map(lambda block: (block[0], block))
    return (
        {"counts": counts, "views": keyed}
        | "Join pools" >> beam.CoGroupByKey()
        | "Negatives" >> beam.ParDo(negatives.DrawByPopularity(*chosen))
    )


def _pools_of_days(days: list[tuple[int, int, int]], least: int, first: int) -> dict[int, list[int]]:
    """Day -> the days, from the first that is made on, whose pools hold its events."""
    pools = negatives.pools_of_days([(day, events) for day, events, _ in days], least)
    return {day: [pool for pool in of_day if pool >= first] for day, of_day in pools.items()}


def _counts(item: DaysOfItem) -> list[tuple[tuple[int, str], int]]:
    return [((day, item[0]), events) for day, (events, _, _) in item[1].items()]


def _into_pools(item: DaysOfItem, pools: dict[int, list[int]]) -> Iterator[tuple[int, tuple[int, str, int]]]:
    for (day, name), events in _counts(item):
        yield from ((pool, (day, name, events)) for pool in pools[day])


def _write_users(users: beam.PCollection, target: str, settings: IngestSettings) -> beam.PCollection:
    """Writes the users of the table; returns (name, number) of those written."""
    records_of_users = users | "User records" >> beam.Map(user_record)
    return records_of_users | WriteShuffled(
        target, schema.USERS_FOLDER, "users", files_of_users(records_of_users, settings), as_it_is
    )


def _attempt_splits(
    days: list[tuple[int, int, int]],
    settings: IngestSettings,
    lost: Kinds,
    read: Iterable[tuple[str, int]],
    first: tuple[int, list[tuple[str, int]]],
) -> tuple[splits.Splits | None, str]:
    """The splits. Where too many rows are lost already there are none: no photo is then opened, and nothing written."""
    if first[1] and settings.late_days == "refuse":
        return None, "rows are late"
    counts = losses.counts_of_kinds(lost)
    for name, number in read:
        counts[name] = counts.get(name, 0) + number
    if next(losses.too_many(counts, settings), None):
        return None, "too much is lost"
    return splits.attempt_splits([(day, events) for day, events, _ in days], settings.valid_from, settings.test_from)
