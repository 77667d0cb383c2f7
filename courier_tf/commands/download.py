"""`courier download`: the photos that a catalogue names by http:// and https://, into the raw folder."""

import dataclasses
import json
import sys
from pathlib import Path

from beam_jobs.downloads import Limits, addresses, download
from beam_jobs.sources import RawFolder
from courier_tf.escaping import printable
from courier_tf.settings.raw import RawSettings

FAILURES_FILE = "download_failures.jsonl"
SHOWN = 5


def download_photos(raw: Path, settings: RawSettings, limits: Limits) -> None:
    """Downloads the photos, writes what failed, and ends the program with 1 where something did.

    Args:
        raw: the raw folder.
        settings: how its files are read.
        limits: how hosts are asked.
    """
    urls = addresses(RawFolder.inspect(str(raw), settings).item_files)
    outcome = download(raw, urls, limits)
    lines = "".join(json.dumps(dataclasses.asdict(failure)) + "\n" for failure in outcome.failures)
    file = raw / FAILURES_FILE
    if not file.exists() or file.read_text() != lines:  # Else the raw folder would look changed.
        file.write_text(lines)
    print(
        f"{len(urls)} photos of items have a web address: {outcome.there} were there, {outcome.downloaded} were "
        f"downloaded, {len(outcome.failures)} failed."
    )
    if outcome.failures:
        for failure in outcome.failures[:SHOWN]:
            print(f"  {printable(failure.url)}: {printable(failure.reason)}")
        print(f"All failures: {file}. The same command tries them again, and leaves alone what is there.")
        sys.exit(1)
