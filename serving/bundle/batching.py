"""Which requests a server joins into batches: photos and ids, where a bad row costs nobody else its answer.

TensorFlow Serving joins per model, for all of its signatures, what `PARAMETERS_FILE` in the folder of a version says,
and nothing where there is none. `ctr_ranker` has none: joined, requests would be padded to the longest list of
candidates, and fail together where one of them is refused.
"""

from pathlib import Path

from google.protobuf import text_format

from courier_tf import schema
from courier_tf.workdir.atomic import write_file
from serving.bundle.server_config_pb2 import BatchingParameters
from serving.client.contract import MOST_ROWS as MOST_ROWS

PARAMETERS_FILE = "batching_params.pbtxt"  # The name is TensorFlow Serving's.
JOINED_MODELS = (schema.IMAGE_EMBEDDER, schema.SIMILAR_ITEMS)


def write_parameters(version: Path, model: str) -> None:
    """Writes what a server joins into the folder of a version; nothing for a model that is not to be joined."""
    if model not in JOINED_MODELS:
        return
    # Never padded: photos and ids are scalars, and pixels or embeddings of another size would be answered wrongly.
    # Those fail with what they are joined with; their senders are the shop's own programs.
    parameters = BatchingParameters(pad_variable_length_inputs=False)
    parameters.max_batch_size.value = MOST_ROWS
    parameters.batch_timeout_micros.value = 1000
    parameters.max_enqueued_batches.value = 100
    write_file(version / PARAMETERS_FILE, text_format.MessageToString(parameters))


def threads() -> str:
    """The file of the whole server. With parameters per model TensorFlow Serving takes the threads alone from it."""
    parameters = BatchingParameters()
    parameters.num_batch_threads.value = 4
    return (
        "# Of all models that are joined; how, stands in the folders of their versions. "
        "num_batch_threads: the cores of the server.\n" + text_format.MessageToString(parameters)
    )
