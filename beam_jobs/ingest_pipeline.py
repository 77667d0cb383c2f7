"""The pipeline of the ingest job: it connects the transforms of the other files.

items  -> check -> one per id ------------------+-> join, photo -> items/
events -> check -> known items -> by user -+    |
                                           |    |
                statistics per day and item <---+-> splits, pools of negatives
                                           |
                page views (+ negatives) --+-> impressions/, page_views/
"""

import functools
import json
from collections.abc import Iterable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsIter, AsSingleton, TaggedOutput

from beam_jobs import catalogue, checks, losses, negatives, splits, tables
from beam_jobs.data_figures import STATISTICS_FILE
from beam_jobs.data_statistics import WriteStatistics
from beam_jobs.file_numbers import files_of, files_of_items, files_of_splits, files_of_users
from beam_jobs.impressions import impressions
from beam_jobs.inline_photos import InlinePhotos, inline_bytes
from beam_jobs.item_days import AddDays, DaysOfItem, with_starts
from beam_jobs.items import PHOTOS, TRACES, BuildItems, Trace
from beam_jobs.known_photos import ReadKnown
from beam_jobs.page_views import PretrainingRows
from beam_jobs.photo_check import SumTraces
from beam_jobs.rejects import KINDS, AddKinds, Kinds, WriteRejects, line_of, pack_rejects
from beam_jobs.sources import BROKEN_FILES, REJECTS, RawFolder
from beam_jobs.uniform_negatives import DrawUniformly
from beam_jobs.useful_columns import Counted, CountValues, columns_of_train
from beam_jobs.user_days import CUT, STATISTICS, USERS, BuildPageViews, PackedView, unpacked
from beam_jobs.user_records import user_record
from beam_jobs.write import WriteShuffled
from courier_tf import schema
from courier_tf.files import transfer
from courier_tf.files.places import place_of
from courier_tf.settings import IngestSettings

SUMMARY_FILE = "summary.json"  # What the driver needs to know about the job, above all why it failed.
INLINE_BYTES = "inline_photo_bytes"  # Name of a count.
ORDER_SEED = 0  # Seed of the order in the files. Training shuffles again, with the seed of the run.


def build(pipeline: beam.Pipeline, folder: RawFolder, target: str, settings: IngestSettings, known: list[str]) -> None:
    """Adds the whole job to the pipeline. It writes below `target`, and `SUMMARY_FILE` last.

    A log that cannot be split, or a broken file, fails no worker: it is noted in the summary, and the driver raises.
    The summary holds `splits` (first seconds of valid and test, or null), `splits_error`, `broken_files` (messages),
    `rejects` (kind -> number and the first lines), `counts` (rows read of items and events, rows written of each kind
    of file), `days` (day, events, clicks), `unknown` (see `catalogue.UnknownIds`), `largest_user` (events, id),
    `columns` (see `useful_columns.Counted`) and `traces` (see `photo_check.SumTraces`).

    Args:
        pipeline: to add the steps to.
        folder: what is read.
        target: folder to write.
        settings: settings of the stage.
        known: item records whose photos are taken over where their files are as they were.
    """
    items = tables.items(pipeline, folder, settings)
    ids = items.main | "Item ids" >> beam.Map(lambda item: (item.item_id, item.available_from))
    events = tables.events(pipeline, folder, ids)
    parts_read = [items, events, *([tables.users(pipeline, folder)] if folder.user_files else [])]
    rejected = [part for table in parts_read for part in table.rejects]
    pause = settings.page_view_gap if folder.log_kind == "impressions" else 1
    views = events.main | BuildPageViews(settings.history_kept, pause, settings.history_ties == "log_order")
    days = views[STATISTICS] | "Days of items" >> beam.CombinePerKey(AddDays())
    totals = (
        days
        | "Days" >> beam.Values()
        | "Events a day" >> beam.CombineGlobally(AddDays())
        | "All days" >> beam.Map(lambda days: [(day, events, clicks) for day, (events, clicks, _) in days.items()])
    )
    rejects = [pack_rejects(part, str(n)) for n, part in enumerate(rejected)]
    lost = _all_kinds(rejects, "rows")
    read = [count for table in parts_read for count in table.counts] | "All rows read" >> beam.Flatten()
    attempt = totals | "Attempt splits" >> beam.Map(
        _attempt_splits, settings, lost=AsSingleton(lost), read=AsIter(read)
    )
    cut = AsSingleton(attempt | "Splits" >> beam.Map(lambda splits_and_error: splits_and_error[0]))
    whole = views["views"]
    if folder.log_kind == "positives":
        whole = _with_negatives(whole, days, totals, ids, settings)

    keyed_items = items.main | "Key unique items" >> beam.Map(lambda item: (item.item_id, item))
    build_items = BuildItems(folder.path, settings.image_size, ORDER_SEED, settings.follow_links)
    joined = (
        {"rows": keyed_items, "days": days, "known": pipeline | ReadKnown(known)}
        | "Join items" >> beam.CoGroupByKey()
        | "Starts" >> beam.Map(with_starts)
    )
    built = joined | "Items" >> beam.ParDo(build_items, splits=cut).with_outputs(REJECTS, PHOTOS, TRACES, main="main")
    shown = views["views"] | "Unpack page views" >> beam.Map(unpacked)
    sampled = settings.negatives_per_positive if folder.log_kind == "positives" else 0
    files = files_of_splits(shown, cut, sampled, settings)
    counts = [read, views[CUT], *_write_page_views(whole, built.main, cut, files, target, settings)]
    counts.append(
        built.main
        | "Key item records" >> beam.Map(lambda row: (row[0], row))
        | WriteShuffled(target, schema.ITEMS_FOLDER, "items", files_of_items(ids, settings), _as_it_is)
    )
    for users in parts_read[2:]:
        counts.append(_write_users(users.main, target, settings))
    rejects.append(pack_rejects(built[REJECTS], "photos"))
    blocks = [part.main for part in rejects] | "All rejects" >> beam.Flatten()
    written = blocks | WriteRejects(target) | "Written rejects" >> beam.combiners.Count.Globally()
    parts_of_data = {"items": joined, "photos": built[PHOTOS], "page_views": shown}
    parts_of_data |= {f"{REJECTS} {n}": part for n, part in enumerate([*rejected, built[REJECTS]])}
    _ = parts_of_data | WriteStatistics(f"{target}/{STATISTICS_FILE}", cut)
    columns = (
        joined
        | "Columns of train" >> beam.FlatMap(columns_of_train, splits=cut)
        | "Values of columns" >> beam.CombineGlobally(CountValues())
    )
    counted = counts | "All counts of rows" >> beam.Flatten() | "Counts of rows" >> beam.combiners.ToList()
    broken = (
        [table.rows[BROKEN_FILES] for table in parts_read]
        | "All broken files" >> beam.Flatten()
        | "Broken files" >> beam.combiners.ToList()
    )
    unknown = tables.compared(events.further, ids)
    largest = views[USERS] | "Largest user" >> beam.combiners.Top.Largest(1)
    traces = built[TRACES] | "All traces" >> beam.CombineGlobally(SumTraces())
    all_kinds = _all_kinds(rejects, "rows and photos")
    told = (attempt, broken, all_kinds, written, counted, totals, unknown, largest, columns, traces)
    parts = [AsSingleton(part) for part in told]
    _ = (
        pipeline
        | "Summary" >> beam.Create([f"{target}/{SUMMARY_FILE}"])
        | "Write summary" >> beam.Map(_write_summary, *parts)
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
    settings: IngestSettings,
) -> beam.PCollection:
    chosen = settings.negatives_per_positive, settings.negatives_seed
    if settings.negatives == "uniform":
        return {"views": views, "days": days, "ids": ids} | DrawUniformly(*chosen)
    pools = totals | "Pools of days" >> beam.Map(_pools_of_days, settings.negatives_pool_events)
    counts = days | "Counts of pools" >> beam.FlatMap(_into_pools, pools=AsSingleton(pools))
    keyed = views | "Page views by day" >> beam.Map(lambda view: (view[1] // checks.DAY, view))
    return (
        {"counts": counts, "views": keyed}
        | "Join pools" >> beam.CoGroupByKey()
        | "Negatives" >> beam.ParDo(negatives.DrawByPopularity(*chosen))
    )


def _pools_of_days(days: list[tuple[int, int, int]], least: int) -> dict[int, list[int]]:
    return negatives.pools_of_days([(day, events) for day, events, _ in days], least)


def _counts(item: DaysOfItem) -> list[tuple[tuple[int, str], int]]:
    return [((day, item[0]), events) for day, (events, _, _) in item[1].items()]


def _into_pools(item: DaysOfItem, pools: dict[int, list[int]]) -> Iterator[tuple[int, tuple[int, str, int]]]:
    for (day, name), events in _counts(item):
        yield from ((pool, (day, name, events)) for pool in pools[day])


def _write_page_views(
    views: beam.PCollection,
    items: beam.PCollection,
    cut: AsSingleton,
    files: beam.PCollection,
    target: str,
    settings: IngestSettings,
) -> list[beam.PCollection]:
    """Writes impressions and pre-training rows of each split.

    Args:
        views: page views, whole.
        items: finished item records, for rows that hold their photos.
        cut: the splits.
        files: {split: number of files}, one element.
        target: folder to write.
        settings: settings of the stage.

    Returns:
        (name, number): impressions and pre-training rows written, the page views of each split, and the bytes of photos
        inside rows.
    """
    parts = views | "Split" >> beam.FlatMap(_into_its_split, splits=cut).with_outputs(*schema.SPLITS)
    files_of_split = {name: files | f"Files of {name}" >> beam.Map(lambda files, name: files[name], name)
                      for name in schema.SPLITS}  # fmt: skip
    written = []
    as_impressions = functools.partial(_impressions, context_columns=settings.context_columns)
    for name in schema.SPLITS:
        part = parts[name]
        written.append(
            part
            | f"One for each {name} page view" >> beam.Map(_one_for_each, f"page_views_{name}")
            | f"Count {name} page views" >> beam.CombinePerKey(sum)
        )
        written.append(
            part
            | f"Key {name} page views" >> beam.Map(lambda view: (view[0], view))
            | WriteShuffled(target, schema.IMPRESSIONS_FOLDER, name, files_of_split[name], as_impressions)
        )
    # Pre-training learns from train and is watched on valid.
    make_rows = PretrainingRows(settings.page_view_size, settings.history_ties == "log_order", settings.negatives_seed)
    rows = {
        name: parts[name] | f"Unpack {name} page views" >> beam.Map(unpacked) | f"{name} rows" >> beam.ParDo(make_rows)
        for name in schema.SPLITS
        if name != "test"
    }
    if settings.inline_photos:
        sizes = {name: inline_bytes(rows[name], items, name) for name in rows}
        all_sizes = list(sizes.values()) | "All bytes of photos" >> beam.Flatten()
        written.append(all_sizes | "Name bytes of photos" >> beam.Map(lambda size: (INLINE_BYTES, size)))
        most = int(settings.max_inline_gigabytes * 1e9)
        for name, size in sizes.items():
            rows[name] = {"rows": rows[name], "items": items} | InlinePhotos(name, AsIter(all_sizes), most)
            files_of_split[name] = files_of_split[name] | f"Files of {name} with photos" >> beam.Map(
                lambda files, size: max(files, files_of(size, settings)), size=AsSingleton(size)
            )
    for name, of_split in rows.items():
        written.append(
            of_split
            | f"Key {name} rows" >> beam.Map(lambda row: (row[0], row))
            | WriteShuffled(target, schema.PAGE_VIEWS_FOLDER, name, files_of_split[name], _as_it_is)
            # A page view makes several rows where it is long, and one for each click with log_order.
            | f"Call {name} rows" >> beam.Map(_renamed, f"pretraining_rows_{name}")
        )
    return written


def _write_users(users: beam.PCollection, target: str, settings: IngestSettings) -> beam.PCollection:
    """Writes the users of the table; returns (name, number) of those written."""
    records_of_users = users | "User records" >> beam.Map(user_record)
    return records_of_users | WriteShuffled(
        target, schema.USERS_FOLDER, "users", files_of_users(records_of_users, settings), _as_it_is
    )


def _one_for_each(_: PackedView, name: str) -> tuple[str, int]:
    return name, 1


def _renamed(count: tuple[str, int], name: str) -> tuple[str, int]:
    return name, count[1]


def _impressions(view: PackedView, context_columns: tuple[str, ...]) -> list[tuple[int, bytes]]:
    return list(impressions(unpacked(view), ORDER_SEED, context_columns))


def _as_it_is(row: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    return [row]


def _into_its_split(view: PackedView, splits: splits.Splits | None) -> Iterator[Any]:
    if splits is not None:  # Otherwise the job has failed, and its driver reports why.
        yield TaggedOutput(splits.of(view[1]), view)


def _attempt_splits(
    days: list[tuple[int, int, int]], settings: IngestSettings, lost: Kinds, read: Iterable[tuple[str, int]]
) -> tuple[splits.Splits | None, str]:
    """The splits. Where too many rows are lost already there are none: no photo is then opened, and nothing written."""
    counts = losses.counts_of_kinds(lost)
    for name, number in read:
        counts[name] = counts.get(name, 0) + number
    if next(losses.too_many(counts, settings), None):
        return None, "too much is lost"
    return splits.attempt_splits([(day, events) for day, events, _ in days], settings.valid_from, settings.test_from)


def _write_summary(
    path: str,
    attempt: tuple[splits.Splits | None, str],
    broken: list[str],
    rejects: Kinds,
    written: int,
    counted: list[tuple[str, int]],
    days: list[tuple[int, int, int]],
    unknown: catalogue.UnknownIds,
    largest: list[tuple[int, str]],
    columns: Counted,
    traces: Trace,
) -> None:
    """Writes the summary. `written`, the number of reject files, only makes it wait for them."""
    counts: dict[str, int] = {}
    for name, number in counted:
        counts[name] = counts.get(name, 0) + number
    cut, error = attempt
    summary: dict[str, Any] = {"splits": cut, "splits_error": error, "broken_files": sorted(broken)}
    summary |= {"counts": counts, "days": sorted(days), "unknown": unknown, "columns": columns, "traces": traces}
    summary["rejects"] = {kind: (number, [line_of(row) for row in first]) for kind, (number, first) in rejects.items()}
    summary["largest_user"] = largest[0] if largest else (0, "")
    transfer.write_bytes(place_of(path), json.dumps(summary).encode())
