"""The pipeline of the ingest job: it connects the transforms of the other files.

items  -> check -> one per id ------------------+-> join, photo -> items/
events -> check -> known items -> by user -+    |
                                           |    |
                statistics per day and item <---+-> splits, pools of negatives
                                           |
                page views (+ negatives) --+-> impressions/, page_views/
"""

import json
from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

import apache_beam as beam
import tensorflow as tf
from apache_beam.pvalue import AsDict, AsSingleton, TaggedOutput

from beam_jobs import catalogue, checks, negatives, splits
from beam_jobs.data_figures import STATISTICS_FILE
from beam_jobs.data_statistics import WriteStatistics
from beam_jobs.impressions import impressions
from beam_jobs.inline_photos import InlinePhotos
from beam_jobs.items import PHOTOS, BuildItems, DayStatistics
from beam_jobs.page_views import EVENTS, USERS, BuildPageViews, PageView, PretrainingRows
from beam_jobs.raw_rows import RawFile
from beam_jobs.sources import BROKEN_FILES, REJECTS, ROWS_READ, RawFolder, ReadRows
from beam_jobs.stable import stable_hash
from beam_jobs.write import CollectRejects, WriteShuffled, write_rejects
from courier_tf import schema
from courier_tf.settings import IngestSettings

SUMMARY_FILE = "summary.json"  # What the driver needs to know about the job, above all why it failed.
ORDER_SEED = 0  # Seed of the order in the files. Training shuffles again, with the seed of the run.


class _Part(NamedTuple):
    """The output of a part of the pipeline, and what it rejected."""

    main: beam.PCollection
    rejects: list[beam.PCollection]
    rows: beam.pvalue.DoOutputsTuple  # The outputs of ReadRows.
    counts: list[beam.PCollection]  # Of (name, number).
    further: beam.PCollection | None = None  # Of events: the ids that the catalogue does not have.


def build(pipeline: beam.Pipeline, folder: RawFolder, target: str, settings: IngestSettings) -> None:
    """Adds the whole job to the pipeline. It writes below `target`, and `SUMMARY_FILE` last.

    A log that cannot be split, or a broken file, fails no worker: it is noted in the summary, and the driver raises.
    The summary holds `splits` (first seconds of valid and test, or null), `splits_error`, `broken_files` (messages),
    `rejects` (kind -> number), `counts` (rows read of items and events, rows written of each kind of file), `days`
    (day, events, clicks), `unknown` (see `catalogue.UnknownIds`) and `largest_user` (events, id).
    """
    items = _items(pipeline, folder, settings)
    ids = items.main | "Item ids" >> beam.Map(lambda item: (item.item_id, item.available_from))
    events = _events(pipeline, folder, ids)
    pause = settings.page_view_gap if folder.log_kind == "impressions" else 1
    build_views = BuildPageViews(settings.history_kept, pause, settings.history_ties == "log_order")
    views = (
        events.main
        | "Key by user" >> beam.Map(lambda event: (event.user_id, event))
        | "Group users" >> beam.GroupByKey()
        | "Page views" >> beam.ParDo(build_views).with_outputs(EVENTS, USERS, main="main")
    )
    days = (
        views[EVENTS]
        | "Key by day" >> beam.Map(lambda e: ((e.timestamp // checks.DAY, e.item_id), (1, e.clicked, e.timestamp)))
        | "Day statistics" >> beam.CombinePerKey(_add_statistics)
    )
    totals = (
        days
        | "Days" >> beam.Map(lambda day: (day[0][0], day[1]))
        | "Events a day" >> beam.CombinePerKey(_add_statistics)
        | "Day, events, clicks" >> beam.Map(lambda day: (day[0], day[1][0], day[1][1]))
        | "All days" >> beam.combiners.ToList()
    )
    attempt = totals | "Attempt splits" >> beam.Map(_attempt_splits, settings.valid_from, settings.test_from)
    cut = AsSingleton(attempt | "Splits" >> beam.Map(lambda splits_and_error: splits_and_error[0]))
    whole = views.main if folder.log_kind == "impressions" else _with_negatives(views.main, days, ids, settings)

    days_of_item = days | "By item" >> beam.Map(lambda day: (day[0][1], (day[0][0] * checks.DAY, day[1])))
    keyed_items = items.main | "Key unique items" >> beam.Map(lambda item: (item.item_id, item))
    build_items = BuildItems(folder.path, settings.image_size, ORDER_SEED, settings.follow_links)
    joined = {"rows": keyed_items, "days": days_of_item} | "Join items" >> beam.CoGroupByKey()
    built = joined | "Items" >> beam.ParDo(build_items, splits=cut).with_outputs(REJECTS, PHOTOS, main="main")
    counts = [*items.counts, *events.counts]
    counts += _write_page_views(whole, built.main, cut, target, settings)
    counts.append(
        built.main
        | "Key item records" >> beam.Map(lambda row: (row[0], row))
        | WriteShuffled(f"{target}/{schema.ITEMS_FOLDER}", "items", settings.shards, _as_it_is)
    )
    all_rejects = [*items.rejects, *events.rejects, built[REJECTS]] | "All rejects" >> beam.Flatten()
    parts_of_data = {"items": joined, "photos": built[PHOTOS], "page_views": views.main, "rejects": all_rejects}
    _ = parts_of_data | WriteStatistics(f"{target}/{STATISTICS_FILE}", cut)
    rejects = (
        all_rejects
        | "Collect rejects" >> beam.CombineGlobally(CollectRejects())
        | "Write rejects" >> beam.Map(lambda rejects: write_rejects(f"{target}/{schema.REJECTS_FOLDER}", rejects))
    )
    counted = counts | "All counts of rows" >> beam.Flatten() | "Counts of rows" >> beam.combiners.ToList()
    broken = (
        [items.rows[BROKEN_FILES], events.rows[BROKEN_FILES]]
        | "All broken files" >> beam.Flatten()
        | "Broken files" >> beam.combiners.ToList()
    )
    unknown = (
        events.further
        | "Each unknown id" >> beam.combiners.Count.PerElement()
        | "Most frequent" >> beam.combiners.Top.Of(catalogue.MOST_COMPARED, key=_by_number)
        | "Compare unknown ids" >> beam.Map(catalogue.compare_unknown, items=AsDict(ids))
    )
    largest = views[USERS] | "Largest user" >> beam.combiners.Top.Largest(1)
    parts = [AsSingleton(part) for part in (attempt, broken, rejects, counted, totals, unknown, largest)]
    _ = (
        pipeline
        | "Summary" >> beam.Create([f"{target}/{SUMMARY_FILE}"])
        | "Write summary" >> beam.Map(_write_summary, *parts)
    )


def _rows(pipeline: beam.Pipeline, files: list[RawFile], kind: Literal["item", "event"]) -> beam.pvalue.DoOutputsTuple:
    return (
        pipeline
        | f"{kind} files" >> beam.Create(files, reshuffle=True)
        | f"Read {kind}s" >> beam.ParDo(ReadRows(kind)).with_outputs(REJECTS, ROWS_READ, BROKEN_FILES, main="main")
    )


def _items(pipeline: beam.Pipeline, folder: RawFolder, settings: IngestSettings) -> _Part:
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
    return _Part(unique.main, rejects, rows, [rows[ROWS_READ], unique[catalogue.DUPLICATES]])


def _events(pipeline: beam.Pipeline, folder: RawFolder, ids: beam.PCollection) -> _Part:
    rows = _rows(pipeline, folder.event_files, "event")
    checked = rows.main | "Check events" >> beam.ParDo(checks.CheckEvents(folder)).with_outputs(REJECTS, main="main")
    known = checked.main | "Known items" >> beam.FlatMap(catalogue.known_items_only, items=AsDict(ids)).with_outputs(
        REJECTS, catalogue.UNKNOWN_IDS, main="main"
    )
    rejects = [rows[REJECTS], checked[REJECTS], known[REJECTS]]
    return _Part(known.main, rejects, rows, [rows[ROWS_READ]], known[catalogue.UNKNOWN_IDS])


def _with_negatives(
    views: beam.PCollection, days: beam.PCollection, ids: beam.PCollection, settings: IngestSettings
) -> beam.PCollection:
    counts = days | "Counts" >> beam.Map(lambda day: (day[0], day[1][0])) | "All counts" >> beam.combiners.ToList()
    if settings.negatives == "popularity":
        pools = counts | "Popularity pools" >> beam.Map(negatives.popularity_pools, settings.negatives_pool_events)
    else:
        pools = counts | "Uniform pools" >> beam.Map(negatives.uniform_pools, AsDict(ids))
    draw = negatives.DrawNegatives(settings.negatives_per_positive, settings.negatives_seed)
    return views | "Negatives" >> beam.ParDo(draw, pools=AsSingleton(pools))


def _write_page_views(
    views: beam.PCollection, items: beam.PCollection, cut: AsSingleton, target: str, settings: IngestSettings
) -> list[beam.PCollection]:
    """Writes impressions and pre-training rows of each split.

    Args:
        views: page views, whole.
        items: finished item records, for rows that hold their photos.
        cut: the splits.
        target: folder to write.
        settings: settings of the stage.

    Returns:
        (name, number): impressions and pre-training rows written, and the page views of each split.
    """
    parts = views | "Split" >> beam.FlatMap(_into_its_split, splits=cut).with_outputs(*schema.SPLITS)
    log_order = settings.history_ties == "log_order"
    written = []
    for name in schema.SPLITS:
        part = parts[name]
        written.append(
            part
            | f"One for each {name} page view" >> beam.Map(_one_for_each, f"page_views_{name}")
            | f"Count {name} page views" >> beam.CombinePerKey(sum)
        )
        written.append(
            part
            | f"Key {name} page views" >> beam.Map(lambda view: (stable_hash(view.page_view_id, view.user_id), view))
            | WriteShuffled(f"{target}/{schema.IMPRESSIONS_FOLDER}", name, settings.shards, _impressions)
        )
        if name != "test":  # Pre-training learns from train and is watched on valid.
            make_rows = PretrainingRows(settings.page_view_size, log_order, settings.negatives_seed)
            rows = part | f"{name} rows" >> beam.ParDo(make_rows)
            if settings.inline_photos:
                rows = {"rows": rows, "items": items} | InlinePhotos(name)
            written.append(
                rows
                | f"Key {name} rows" >> beam.Map(lambda row: (row[0], row))
                | WriteShuffled(f"{target}/{schema.PAGE_VIEWS_FOLDER}", name, settings.shards, _as_it_is)
                # A page view makes several rows where it is long, and one for each click with log_order.
                | f"Call {name} rows" >> beam.Map(_renamed, f"pretraining_rows_{name}")
            )
    return written


def _one_for_each(_: PageView, name: str) -> tuple[str, int]:
    return name, 1


def _renamed(count: tuple[str, int], name: str) -> tuple[str, int]:
    return name, count[1]


def _impressions(view: PageView) -> list[tuple[int, bytes]]:
    return list(impressions(view, ORDER_SEED))


def _as_it_is(row: tuple[int, bytes]) -> list[tuple[int, bytes]]:
    return [row]


def _into_its_split(view: PageView, splits: splits.Splits | None) -> Iterator[Any]:
    if splits is not None:  # Otherwise the job has failed, and its driver reports why.
        yield TaggedOutput(splits.of(view.timestamp), view)


def _add_statistics(statistics: list[DayStatistics]) -> DayStatistics:
    total, positives, first = 0, 0, schema.NEVER
    for number, clicked, timestamp in statistics:
        total, positives, first = total + number, positives + clicked, min(first, timestamp)
    return total, positives, first


def _by_number(pair: tuple[str, int]) -> tuple[int, str]:
    return pair[1], pair[0]


def _attempt_splits(
    days: list[tuple[int, int, int]], valid_from: str | None, test_from: str | None
) -> tuple[splits.Splits | None, str]:
    return splits.attempt_splits([(day, events) for day, events, _ in days], valid_from, test_from)


def _write_summary(
    path: str,
    attempt: tuple[splits.Splits | None, str],
    broken: list[str],
    rejects: dict[str, int],
    counted: list[tuple[str, int]],
    days: list[tuple[int, int, int]],
    unknown: catalogue.UnknownIds,
    largest: list[tuple[int, str]],
) -> None:
    counts: dict[str, int] = {}
    for name, number in counted:
        counts[name] = counts.get(name, 0) + number
    cut, error = attempt
    summary: dict[str, Any] = {"splits": cut, "splits_error": error, "broken_files": sorted(broken)}
    summary |= {"rejects": rejects, "counts": counts, "days": sorted(days), "unknown": unknown}
    summary["largest_user"] = largest[0] if largest else (0, "")
    with tf.io.gfile.GFile(path, "w") as stream:
        json.dump(summary, stream)
