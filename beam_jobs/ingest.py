"""The ingest job: turns raw logs and photos into TFRecords of items, page views and impressions.

python -m beam_jobs.ingest --raw DIR --target DIR [settings] [Beam options, e.g. --runner DataflowRunner ...]
"""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from beam_jobs import losses, sources, splits
from beam_jobs.catalogue import UnknownIds
from beam_jobs.checks import DAY, IN_FUTURE
from beam_jobs.data_figures import DataFacts, read_statistics
from beam_jobs.data_page import PAGE_FILE, page
from beam_jobs.early import readable
from beam_jobs.formats import RawDataError
from beam_jobs.ingest_pipeline import build
from beam_jobs.ingest_summary import SUMMARY_FILE
from beam_jobs.inspection import require_sound
from beam_jobs.items import PHOTOS_DECODED, PHOTOS_TAKEN_OVER, Trace
from beam_jobs.known_log import KnownLog, basis_of, known_log, remember_files, require_none_late
from beam_jobs.known_photos import files_of_known
from beam_jobs.negatives import median_reach
from beam_jobs.options import split_beam_options
from beam_jobs.photo_places import PhotoPlaces
from beam_jobs.raw_files import name_in
from beam_jobs.raw_fingerprint import contents_of_raw, fingerprint_of_raw
from beam_jobs.running import run
from beam_jobs.sources import RawFolder
from beam_jobs.split_files import INLINE_BYTES
from beam_jobs.useful_columns import Counted, useful_columns
from courier_tf import schema
from courier_tf.escaping import printable
from courier_tf.files import transfer
from courier_tf.files.places import Place
from courier_tf.settings import IngestSettings, parsing
from courier_tf.workdir import stored
from courier_tf.workdir.facts import IngestFacts
from courier_tf.workdir.provenance import MadeBy
from courier_tf.workdir.stages import INGEST

GIANT_SHARE, GIANT_TIMES = 0.02, 20  # Share of the events, and times the mean, above which a user may be nobody.


def ingest(
    raw: str,
    target: Place,
    settings: IngestSettings,
    made_by: MadeBy,
    beam_options: Sequence[str] = (),
    known: Sequence[Place] = (),
    memory: Path | None = None,
) -> None:
    """Runs the ingest job.

    Args:
        raw: folder or URI in the raw format.
        target: directory to write, here or on a store. It appears whole.
        settings: settings of this stage.
        made_by: everything that determines the result.
        beam_options: Beam's own command-line options; by default the local runner.
        known: directories of earlier ingests. Photos of the first that fits are taken over, where they are unchanged,
            and days of the log of the first that fits.
        memory: as for `raw_fingerprint.contents_of_raw`.

    Raises:
        RawDataError: the input cannot be used, rows are late and `late_days` refuses them, or there are more rejects
            than allowed. In that case the reject file is kept beside the target.
    """
    folder = readable(raw, settings)
    folder.tell()
    require_sound(folder)
    kept_rejects = target.with_name(f"{target.name}_rejects")
    transfer.remove(kept_rejects)
    files, contents = files_of_known(known, settings, made_by), contents_of_raw(raw, settings, memory)
    log = known_log(known, folder, contents, basis_of(folder, settings, made_by), settings)
    with stored.write_stage(target, made_by) as draft:
        summary = _run_pipeline(folder, draft.place, settings, files, log, beam_options)
        rejects = draft.place / schema.REJECTS_FOLDER
        try:
            cut = _require_usable(folder, settings, summary, str(kept_rejects))
        except RawDataError:
            transfer.copy(rejects, kept_rejects)
            raise
        remember_files(draft.place, folder, log, summary.log_files)
        of_log = {name_in(raw, file.path) for file in folder.event_files}
        facts = dataclasses.replace(
            _facts(folder, settings, cut, summary),
            log_basis=basis_of(folder, settings, made_by),
            log_contents={name: content for name, content in contents.items() if name in of_log},
        )
        DataFacts(facts.log_kind, facts.all_columns, facts.counts, facts.user_columns, facts.context_columns).write(
            draft.place
        )
        lines = page(read_statistics(draft.place), facts, settings)
        transfer.write_bytes(draft.place / PAGE_FILE, ("\n".join(lines) + "\n").encode())
        draft.facts = facts


class _Summary(NamedTuple):
    """What the pipeline tells its driver: see `ingest_pipeline.build`."""

    cut: splits.Splits | None
    splits_error: str
    broken_files: list[str]
    counts: dict[str, int]
    days: list[tuple[int, int, int]]
    unknown: UnknownIds
    largest_user: tuple[int, str]
    columns: Counted
    first_rejects: dict[str, list[str]]
    traces: Trace
    photos: tuple[int, int]  # Decoded, taken over.
    first: tuple[int, list[tuple[str, int]]]  # See `KnownLog.first_and_late`.
    log_files: dict[str, Any]  # `rows`, `counts` and `traces` of the files of the log that were read.


def _run_pipeline(
    folder: RawFolder,
    target: Place,
    settings: IngestSettings,
    known: list[str],
    log: KnownLog,
    beam_options: Sequence[str],
) -> _Summary:
    counted = run(
        lambda pipeline: build(pipeline, folder, str(target), settings, known, log),
        beam_options,
        target,
        f"Reading {folder.path}",
        sources.NAMESPACE,
    )
    summary = json.loads(transfer.read_bytes(target / SUMMARY_FILE))
    transfer.remove(target / SUMMARY_FILE)
    photos = counted.pop(PHOTOS_DECODED, 0), counted.pop(PHOTOS_TAKEN_OVER, 0)
    of_files = [(name, number) for (_, name), number in summary["log_counts"]]
    of_files += [count for file in log.files.values() for count in file.counts.items()]
    for name, number in (*summary["counts"].items(), *of_files):
        counted[name] += number
    counts = dict(counted)
    counts.pop(IN_FUTURE, None)
    counts |= losses.counts_of_kinds(summary["rejects"])
    cut = splits.Splits(*summary["splits"]) if summary["splits"] else None
    days = [(day, events, clicks) for day, events, clicks in summary["days"]]
    counts |= {"events_used": sum(day[1] for day in days), "clicks": sum(day[2] for day in days)}
    return _Summary(
        cut,
        summary["splits_error"],
        summary["broken_files"],
        counts,
        days,
        UnknownIds(*summary["unknown"]),
        tuple(summary["largest_user"]),
        tuple(summary["columns"]),
        {kind: first for kind, (_, first) in summary["rejects"].items()},
        tuple(summary["traces"]),
        photos,
        (summary["first"][0], [(file, day) for file, day in summary["first"][1]]),
        {name: summary[f"log_{name}"] for name in ("rows", "counts", "traces")},
    )


def _require_usable(folder: RawFolder, settings: IngestSettings, summary: _Summary, listed_in: str) -> splits.Splits:
    """The splits of a log that can be used.

    Args:
        folder: the raw folder.
        settings: with the limits.
        summary: what the pipeline tells.
        listed_in: where the rejects will be if the job fails.

    Raises:
        RawDataError: files are broken, too much was lost, or the log makes no splits. The cause comes first: a broken
            file makes unknown items, and rejects leave days without events.
    """
    counts = summary.counts
    if summary.broken_files:
        raise RawDataError("\n".join(summary.broken_files))
    if settings.late_days == "refuse":
        require_none_late(summary.first[1])
    places = PhotoPlaces(folder.path, settings.follow_links)
    losses.require_few(counts, settings, summary.first_rejects, listed_in, summary.unknown, places)
    losses.require_both_labels(folder.log_kind, counts["events_used"], counts["clicks"], settings)
    if summary.cut is None:
        raise RawDataError(summary.splits_error)
    inside = counts.get(INLINE_BYTES, 0) / 1e9
    if inside > settings.max_inline_gigabytes:
        raise RawDataError(
            f"the photos inside the pre-training rows would take {inside:.3g} GB, more than --max-inline-gigabytes "
            f"{settings.max_inline_gigabytes}: raise it, or leave out --inline-photos"
        )
    return summary.cut


def _facts(folder: RawFolder, settings: IngestSettings, cut: splits.Splits, summary: _Summary) -> IngestFacts:
    """What the stage tells the stages after it."""
    spans = {name: [day for day in summary.days if cut.of(day[0] * DAY) == name] for name in schema.SPLITS}
    counts = summary.counts | {f"events_{name}": sum(day[1] for day in days) for name, days in spans.items()}
    counts |= {f"clicks_{name}": sum(day[2] for day in days) for name, days in spans.items()}
    sampled = f"{settings.negatives_per_positive} per positive, {settings.negatives}"
    return IngestFacts(
        log_kind=folder.log_kind,
        all_columns=tuple(folder.columns),
        item_columns=tuple(settings.item_columns or useful_columns(folder.columns, summary.columns)),
        repeat_columns=settings.repeat_columns,
        context_columns=settings.context_columns,
        user_columns=folder.user_columns,
        valid_from=splits.date_of(cut.valid_from),
        test_from=splits.date_of(cut.test_from),
        valid_from_seconds=cut.valid_from,
        test_from_seconds=cut.test_from,
        image_size=settings.image_size,
        inline_photos=settings.inline_photos,
        page_view_size=settings.page_view_size,
        history_kept=settings.history_kept,
        history_ties=settings.history_ties,
        shards=settings.shards,
        negatives=None if folder.log_kind == "impressions" else sampled,
        counts=dict(sorted(counts.items())),
        first_days={name: splits.date_of(days[0][0] * DAY) for name, days in spans.items()},
        last_days={name: splits.date_of(days[-1][0] * DAY) for name, days in spans.items()},
        log=str(folder.log),
        time_forms=tuple(dict.fromkeys(map(str, folder.times.values()))),
        notes=(*(line for line in folder.told if "ignored" in line), *folder.warnings, *_giant(summary)),
        pool_days=_pool_days(folder, settings, summary.days),
        photo_states=summary.traces[0],
        photo_contents=summary.traces[1],
        photos_decoded=summary.photos[0],
        photos_taken_over=summary.photos[1],
        days_made=sum(day[0] >= summary.first[0] for day in summary.days),
        days_taken_over=sum(day[0] < summary.first[0] for day in summary.days),
        raw=folder.path,
    )


def _giant(summary: _Summary) -> Iterator[str]:
    """A warning of a user who is far larger than the others, and may stand for no user."""
    number, user = summary.largest_user
    share = number / summary.counts["events_used"]
    if share > max(GIANT_SHARE, GIANT_TIMES / summary.counts["users"]):
        yield (
            f"user '{printable(user)}' has {100 * share:.0f} % of the events; if this word stands for no user, add it "
            "to --null-words"
        )


def _pool_days(folder: RawFolder, settings: IngestSettings, days: list[tuple[int, int, int]]) -> int | None:
    if folder.log_kind == "impressions" or settings.negatives != "popularity":
        return None
    return median_reach([(day, events) for day, events, _ in days], settings.negatives_pool_events)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Job:
    """Turn raw logs and photos into TFRecords."""

    raw: str
    """Folder or URI with items, events and photos."""
    target: Place
    """Directory to write, or an address on a store."""
    settings: IngestSettings = IngestSettings()


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs the job alone, without the chain. Errors of this project end it with one line and exit code 1."""
    try:
        options = list(parsing.options_of(_Job))
        given, rest = parsing.parse(options, sys.argv[1:] if arguments is None else arguments)
        unknown, beams = split_beam_options(rest)
        if unknown:
            parsing.refuse(unknown, options, "courier ingest --help")
        job = parsing.build(_Job, given)
        made_by = MadeBy(
            INGEST,
            dataclasses.asdict(job.settings),
            {"raw": fingerprint_of_raw(job.raw, job.settings)},
        )
        ingest(job.raw, job.target, job.settings, made_by, beams)
    except (ValueError, RuntimeError) as error:
        if type(error).__module__.partition(".")[0] not in ("courier_tf", "beam_jobs"):
            raise
        sys.exit(f"ingest: {error}")


if __name__ == "__main__":
    main()
