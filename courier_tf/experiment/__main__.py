"""The process of one run of a grid: `python -m courier_tf.experiment RUN_FILE`, started by `run_grid.py`.

With `--workers` several such processes execute a run together. The chief's alone has a RUN_FILE, and tells the others
what stands in it. Without a RUN_FILE it tells them that there are no more runs.
"""

import argparse
import signal
import sys
from pathlib import Path

from courier_tf.process import prepare, program_line, shown_logs


def main() -> None:
    """Executes the run that RUN_FILE, a `run.Run` as JSON, describes, or all runs that the chief tells of."""
    # Signals raise SystemExit, so that the stages note the seconds that they took until then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
    parser = argparse.ArgumentParser()
    parser.add_argument("run_file", nargs="?", type=Path)
    parser.add_argument("--workers", default="")
    parser.add_argument("--index", type=int)
    parser.add_argument("--worker-timeout-seconds", type=float, default=600.0)
    arguments = parser.parse_args()
    prepare()
    with shown_logs():
        from courier_tf.experiment.execute import execute
        from courier_tf.experiment.run import Run
        from courier_tf.training import TrainingError
        from courier_tf.workdir.damage import damage_named
        from courier_tf.workers.connection import joined, start_again, surviving
        from courier_tf.workers.places import places_of
        from courier_tf.workers.workers import ChiefError

        places = places_of([arguments.workers], arguments.index, None)
        try:
            with surviving(places):
                workers = joined(places, arguments.worker_timeout_seconds, {"command": "experiment"})
                text = workers.chief_says(lambda: arguments.run_file.read_text() if arguments.run_file else None)
                if text is None:
                    return
                with damage_named():
                    execute(Run.from_json(text), workers)
                workers.wait()
        except ChiefError as error:
            print(program_line(f"{error}. This worker waits for the next run"), file=sys.stderr)
        except TrainingError as error:  # A worker that is missing, or unlike the others, is no fault of the code.
            sys.exit(program_line(str(error)))
        if not workers.is_chief:
            start_again()


if __name__ == "__main__":
    main()
