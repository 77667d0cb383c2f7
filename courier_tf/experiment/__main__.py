"""The process of one run of a grid: `python -m courier_tf.experiment RUN_FILE`, started by `run_grid.py`."""

import logging
import signal
import sys
from pathlib import Path

from courier_tf.process import prepare


def main() -> None:
    """Executes the run that RUN_FILE, a `run.Run` as JSON, describes."""
    # SIGTERM raises SystemExit, so that the stages note the seconds that they took until then.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    prepare()
    from courier_tf.experiment.execute import execute
    from courier_tf.experiment.run import Run

    execute(Run.from_json(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()
