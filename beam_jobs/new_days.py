"""New days on their way to their files: a large day is cut into parts."""

from collections.abc import Callable, Iterator
from typing import Any

import apache_beam as beam
from apache_beam.pvalue import AsSingleton
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.day_files import WriteDays
from beam_jobs.packing import pack, unpack
from beam_jobs.page_views import PageView, PretrainingRows
from beam_jobs.stable import stable_hash
from beam_jobs.user_days import ViewBlock
from courier_tf.settings import IngestSettings


class WriteNewDays(beam.PTransform):
    """Writes the files of new days, and gives their `DayPart`s.

    Takes {"views": `ViewBlock`s with their negatives, "users": (group of users, packed [(user, *`UserDay`)] of a day),
    "unknown": (day, [(name of the file, row, item)])}.

    Args:
        target: folder of the ingest.
        settings: of the stage.
        positives: whether page views hold sampled negatives.
    """

    def __init__(self, target: str, settings: IngestSettings, positives: bool) -> None:
        super().__init__("New days")
        rows = PretrainingRows(settings.page_view_size, settings.history_ties == "log_order", settings.negatives_seed)
        negatives = settings.negatives_per_positive if positives else None
        self.write = WriteDays(target, rows, settings.context_columns, negatives)
        self.most = settings.shard_megabytes << 20

    @no_annotations  # Beam takes annotations for type hints, and knows none for a dict of PCollections.
    def expand(self, inputs: dict[str, beam.PCollection]) -> beam.PCollection:
        parts = AsSingleton(
            inputs["views"]
            | "Bytes of page views" >> beam.Map(lambda block: (block[0], block[1]))
            | "Bytes of new days" >> beam.CombinePerKey(sum)
            | "All bytes of new days" >> beam.combiners.ToDict()
            | "Parts of days" >> beam.Map(parts_of_days, self.most)
        )
        contents = {
            "views": inputs["views"] | "Key page views" >> beam.FlatMap(_views_into_parts, parts),
            "users": inputs["users"] | "Key users" >> beam.FlatMap(_users_into_parts, parts),
            "unknown": inputs["unknown"] | "Key unknown" >> beam.MapTuple(lambda day, rows: ((day, 0), rows)),
        }
        return contents | "Join days" >> beam.CoGroupByKey() | "Write days" >> beam.ParDo(self.write, parts)


def _views_into_parts(block: ViewBlock, parts: dict[int, int]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """((day, part), packed [page view])."""
    return _into_parts(block[0], block[2], lambda view: PageView(*view).key, parts)


def _users_into_parts(days: tuple[int, bytes], parts: dict[int, int]) -> Iterator[tuple[tuple[int, int], bytes]]:
    """((day, part), packed [(user, *`UserDay`)])."""
    day = unpack(days[1])[0][1]
    return _into_parts(day, days[1], lambda user_day: stable_hash(user_day[0]), parts)


def _into_parts(
    day: int, packed: bytes, key: Callable[[Any], int], parts: dict[int, int]
) -> Iterator[tuple[tuple[int, int], bytes]]:
    if day not in parts:
        yield (day, 0), packed
        return
    of_parts: dict[int, list[Any]] = {}
    for row in unpack(packed):
        of_parts.setdefault(key(row) % parts[day], []).append(row)
    for part, rows in of_parts.items():
        yield (day, part), pack(rows)


def parts_of_days(sizes: dict[int, int], most: int) -> dict[int, int]:
    """Day -> number of its parts, of which none is much larger than `most`.

    Args:
        sizes: day -> bytes of its impressions.
        most: bytes.
    """
    return {day: -(-size // most) for day, size in sizes.items() if size > most}
