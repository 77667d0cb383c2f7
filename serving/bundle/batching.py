"""How a server joins requests into batches.

TensorFlow Serving joins requests per model, for all of its signatures, as `PARAMETERS_FILE` in the folder of a version
says. It joins none where that file is missing. The descriptor of a served model says whether its requests are joined.
"""

from pathlib import Path

from google.protobuf import text_format

from courier_tf.workdir.atomic import write_file
from serving.bundle.server_config_pb2 import BatchingParameters

PARAMETERS_FILE = "batching_params.pbtxt"  # The name is TensorFlow Serving's.
MOST_BATCHES_OF_A_REQUEST = 16  # A request of more rows is refused: its batches would fill the queue.


def most_rows_of_a_request(most_rows: int) -> int:
    """The most rows of a request to a model whose batches have up to `most_rows`.

    >>> most_rows_of_a_request(64)
    1024
    """
    return MOST_BATCHES_OF_A_REQUEST * most_rows


def write_parameters(version: Path, most_rows: int) -> None:
    """Writes into the folder of a version that a server joins its requests, up to `most_rows` in a batch.

    A larger request is split into several batches, up to `most_rows_of_a_request`. A server refuses more by
    INVALID_ARGUMENT.
    """
    # Nothing is padded: what is joined are scalars, one for each row.
    parameters = BatchingParameters(pad_variable_length_inputs=False)
    parameters.enable_large_batch_splitting.value = True
    parameters.max_execution_batch_size.value = most_rows
    parameters.max_batch_size.value = most_rows_of_a_request(most_rows)  # Where requests are split: of a request.
    parameters.batch_timeout_micros.value = 1000
    parameters.max_enqueued_batches.value = 100
    write_file(version / PARAMETERS_FILE, text_format.MessageToString(parameters))


def threads() -> str:
    """The text of the file for the whole server.

    Where models have parameters of their own, TensorFlow Serving takes only the threads from this file.
    """
    parameters = BatchingParameters()
    parameters.num_batch_threads.value = 4
    return (
        "# Threads for the batches of all models. The folders of their versions say how requests are joined.\n"
        "# num_batch_threads: the cores of the server.\n" + text_format.MessageToString(parameters)
    )
