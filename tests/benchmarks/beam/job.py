"""One ingest job in a process of its own: python job.py RAW OUT. Prints its figures as JSON.

It is run as a file, so that PYTHONPATH says of which tree the job is.
"""

import json
import resource
import sys
import time
from pathlib import Path

from beam_jobs.ingest import ingest
from courier_tf.settings import IngestSettings
from courier_tf.workdir.provenance import MadeBy

if __name__ == "__main__":
    started, wall = time.process_time(), time.perf_counter()
    ingest(sys.argv[1], Path(sys.argv[2]), IngestSettings(), MadeBy("ingest", {}, {}))
    print(
        json.dumps(
            {
                "seconds": time.process_time() - started,
                "wall": time.perf_counter() - wall,
                "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
            }
        )
    )
