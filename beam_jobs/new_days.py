"""New days on their way to their files: a large day is cut into parts."""

import apache_beam as beam
from apache_beam.pvalue import AsSingleton
from apache_beam.typehints.decorators import no_annotations

from beam_jobs.checks import DAY
from beam_jobs.day_files import WriteDays
from beam_jobs.file_numbers import impression_bytes
from beam_jobs.packing import unpack
from beam_jobs.page_views import PretrainingRows
from beam_jobs.stable import stable_hash
from beam_jobs.user_days import PackedView, unpacked
from courier_tf.settings import IngestSettings


class WriteNewDays(beam.PTransform):
    """Writes the files of new days, and gives their `DayPart`s.

    Takes {"views": `PackedView`s with their negatives, "users": (user, packed `UserDay`), "unknown": (day, [(name of
    the file, row, item)])}.

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
            | "Bytes of page views" >> beam.Map(lambda view: (view[1] // DAY, impression_bytes(unpacked(view))))
            | "Bytes of new days" >> beam.CombinePerKey(sum)
            | "All bytes of new days" >> beam.combiners.ToDict()
            | "Parts of days" >> beam.Map(parts_of_days, self.most)
        )
        contents = {
            "views": inputs["views"] | "Key page views" >> beam.Map(_view_into_part, parts),
            "users": inputs["users"] | "Key users" >> beam.Map(_user_into_part, parts),
            "unknown": inputs["unknown"] | "Key unknown" >> beam.MapTuple(lambda day, rows: ((day, 0), rows)),
        }
        return contents | "Join days" >> beam.CoGroupByKey() | "Write days" >> beam.ParDo(self.write, parts)


def _view_into_part(view: PackedView, parts: dict[int, int]) -> tuple[tuple[int, int], PackedView]:
    return into_part(view[1] // DAY, view[0], parts), view


def _user_into_part(user_day: tuple[str, bytes], parts: dict[int, int]) -> tuple[tuple[int, int], tuple[str, bytes]]:
    return into_part(unpack(user_day[1])[0], stable_hash(user_day[0]), parts), user_day


def parts_of_days(sizes: dict[int, int], most: int) -> dict[int, int]:
    """Day -> number of its parts, of which none is much larger than `most`.

    Args:
        sizes: day -> bytes of its impressions.
        most: bytes.
    """
    return {day: -(-size // most) for day, size in sizes.items() if size > most}


def into_part(day: int, key: int, parts: dict[int, int]) -> tuple[int, int]:
    """(day, number of the part) that something belongs to."""
    return day, key % parts.get(day, 1)
