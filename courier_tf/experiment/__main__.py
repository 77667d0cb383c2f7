"""One run of a grid as a program: `python -m courier_tf.experiment SPEC`, called by `run.py`."""

import json
import signal
import sys
from pathlib import Path

from courier_tf.process import prepare


def main() -> None:
    """Runs what the file SPEC, a `cell.Spec` as JSON, says."""
    # So that what its stages have used until then is noted.
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    prepare()
    from courier_tf.experiment.grid_run import Spec, run_cell

    run_cell(Spec(**json.loads(Path(sys.argv[1]).read_text())))


if __name__ == "__main__":
    main()
