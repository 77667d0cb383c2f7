"""Whether a photo that an item names has changed since the ingest, found out without reading all photos.

The workers look up size and time of each photo that the catalogue names. Only where one of them differs, they read
photos and compare their contents.
"""

import json
from collections.abc import Iterable, Iterator, Sequence

import apache_beam as beam

from beam_jobs import tables
from beam_jobs.checks import Item
from beam_jobs.early import readable
from beam_jobs.items import BuildItems, Trace, trace_of
from beam_jobs.running import run
from beam_jobs.sources import RawFolder
from courier_tf.files import transfer
from courier_tf.files.places import Place, place_of
from courier_tf.settings import IngestSettings
from courier_tf.workdir.facts import IngestFacts

_MODULUS = 2**63
_ANSWER = ".photo_check.json"  # Beside the stage, while the job runs.


class SumTraces(beam.CombineFn):
    """Adds `Trace`s: the sum is the same in any order, and another one where a photo is another one."""

    def create_accumulator(self) -> Trace:
        return 0, 0

    def add_input(self, whole: Trace, trace: Trace) -> Trace:
        return (whole[0] + trace[0]) % _MODULUS, (whole[1] + trace[1]) % _MODULUS

    def merge_accumulators(self, parts: Iterable[Trace]) -> Trace:
        whole = self.create_accumulator()
        for part in parts:
            whole = self.add_input(whole, part)
        return whole

    def extract_output(self, whole: Trace) -> Trace:
        return whole


def photos_differ(
    raw: str, stage: Place, facts: IngestFacts, settings: IngestSettings, beam_options: Sequence[str] = ()
) -> bool:
    """Whether the photos that the catalogue names are others than those that an ingest has read.

    Args:
        raw: the raw folder, whose tables are those of the ingest.
        stage: directory of the ingest.
        facts: what it tells.
        settings: of the ingest.
        beam_options: Beam's own command-line options.

    Raises:
        RawDataError: the raw folder cannot be read.
        EngineError: the engine failed.
    """
    folder, answer = readable(raw, settings), stage.with_name(_ANSWER)
    states, _ = _summed(folder, answer, settings, beam_options, whole=False)
    if states == facts.photo_states:
        return False
    _, contents = _summed(folder, answer, settings, beam_options, whole=True)
    return contents != facts.photo_contents


def _summed(
    folder: RawFolder, answer: Place, settings: IngestSettings, beam_options: Sequence[str], whole: bool
) -> Trace:
    def build(pipeline: beam.Pipeline) -> None:
        _ = (
            tables.items(pipeline, folder, settings).main
            | beam.ParDo(_TracePhotos(folder.path, settings.follow_links, whole))
            | beam.CombineGlobally(SumTraces())
            | beam.Map(_write, str(answer))
        )

    try:
        run(build, beam_options, answer.parent, "Looking for changed photos")
        states, contents = json.loads(transfer.read_bytes(answer))
    finally:
        transfer.remove(answer)
    return states, contents


def _write(traces: Trace, file: str) -> None:
    transfer.write_bytes(place_of(file), json.dumps(traces).encode())


class _TracePhotos(beam.DoFn):
    """Turns an Item into the `Trace` of its photo; that of its content counts only with `whole`."""

    def __init__(self, raw: str, follow_links: bool, whole: bool) -> None:
        self.reader, self.whole = BuildItems(raw, 0, 0, follow_links), whole

    def setup(self) -> None:
        self.reader.setup()

    def process(self, item: Item) -> Iterator[Trace]:
        if item.image and item.photo is None:
            photo = self.reader.read(item, self.whole)
            yield trace_of(item.item_id, photo.state, photo.digest)
