"""`courier report`: the page of a workdir. At the end of a run it must not fail, whatever is missing."""

import logging
from pathlib import Path

from courier_tf import tracking
from courier_tf.escaping import LONGEST_PATH, printable, printable_message
from courier_tf.files import transfer
from courier_tf.files.places import StorePlace
from courier_tf.workdir.artefacts import ArtefactError

LOG = logging.getLogger(__name__)


def report(workdir: Path) -> None:
    """Writes the page of a workdir, and says where it is and how large. Warns of stages that cannot be read.

    Raises:
        ArtefactError: there is no such workdir.
    """
    from courier_tf.report.workdir import Workdir

    _write(workdir)
    for reason in Workdir(workdir).unread():
        LOG.warning("the report is not complete: %s", printable_message(reason))


def _write(workdir: Path) -> None:
    from courier_tf.report.page import write_page

    if not workdir.is_dir():
        raise ArtefactError(f"{workdir} is no folder: name the workdir of a run.")
    file = write_page(workdir)
    size = file.stat().st_size / 1e6
    print(f"Report, to be opened in a browser: {printable(file, LONGEST_PATH)} ({size:.1f} MB)")


def report_at_the_end(workdir: Path, place: StorePlace | None = None) -> None:
    """As `report`, at the end of a run. What fails is one line of the log: the run has its results.

    Args:
        workdir: of the run, or the folder of its copies.
        place: the workdir on a store, which gets the page, too.
    """
    try:
        from courier_tf.report.page import PAGE_FILE  # An older installation may lack a package that it needs.

        _write(workdir)
        tracking.file(workdir / PAGE_FILE)
        if place:
            transfer.upload(workdir / PAGE_FILE, place / PAGE_FILE)
            print(f"The same report on the store: {printable(place / PAGE_FILE, LONGEST_PATH)}")
    except Exception as error:
        LOG.warning("the report was not written: %s", printable(f"{type(error).__name__}: {error}", LONGEST_PATH))
