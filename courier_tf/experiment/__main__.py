"""The process of one run of a grid: `python -m courier_tf.experiment RUN_FILE`, started by `run_grid.py`."""

import signal
import sys
from pathlib import Path

from courier_tf.process import prepare, shown_logs


def main() -> None:
    """Executes the run that RUN_FILE, a `run.Run` as JSON, describes."""
    # Signals raise SystemExit, so that the stages note the seconds that they took until then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    prepare()
    with shown_logs():
        from courier_tf.experiment.execute import execute
        from courier_tf.experiment.run import Run

        execute(Run.from_json(Path(sys.argv[1]).read_text()))


if __name__ == "__main__":
    main()
