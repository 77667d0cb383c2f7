"""A bundle of tiny models with inputs and outputs of every type, which our own models lack."""

from pathlib import Path

import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.config.model_server_config_pb2 import ModelServerConfig

from serving.bundle.batching import PARAMETERS_FILE, threads
from serving.bundle.configuration import BATCHING_CONFIG, METRICS_PATH, MODELS_CONFIG, MONITORING_CONFIG
from serving.bundle.server_config_pb2 import BatchingParameters, MonitoringConfig

HALF, JOINED = "half", "joined"  # Every request by itself; up to MOST_ROWS joined.
VERSION, LABEL, MOST_ROWS = 123, "stable", 4
ECHOED = ("float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")
ECHOED += ("string", "float16")


class Model(tf.Module):
    """Signatures that give back what they get, or half of it and two."""

    def __init__(self) -> None:
        super().__init__()
        # A table has to be filled when the model is loaded: so there is a signature that does it.
        keys = tf.lookup.KeyValueTensorInitializer(tf.constant([b"two"]), tf.constant([2.0]))
        self.table = tf.lookup.StaticHashTable(keys, 0.0)

    def half_plus_two(self, x):
        return {"y": 0.5 * x + self.table.lookup(tf.constant(b"two"))}

    def signatures(self):
        """Name -> function."""
        echoes = {name: _function(lambda x: {"y": tf.identity(x)}, x=name) for name in ECHOED}
        return echoes | {
            "serving_default": _function(self.half_plus_two, x="float32"),
            "other": _function(lambda x: {"y": x + 1}, x="float32"),
            "fixed": tf.function(lambda x: {"y": x + 1}, [tf.TensorSpec([None, 1], tf.float32, "x")]),
            "bytes": _function(lambda x: {"y_bytes": tf.identity(x)}, x="string"),
            "named": _function(
                lambda number, word, real: {
                    "number": tf.identity(number),
                    "word_bytes": tf.identity(word),
                    "real": tf.identity(real),
                },
                number="int32",
                word="string",
                real="float64",
            ),
            "nested": _function(lambda b64: {"y": tf.identity(b64)}, b64="float32"),
            "scalar": _function(lambda x: {"y": tf.reduce_sum(x)}, x="float32"),
            "uneven": _function(lambda x: {"y": tf.identity(x), "z": x[:1]}, x="float32"),
            "to_complex": _function(lambda x: {"y": tf.complex(x, x)}, x="float32"),
            "to_half": _function(lambda x: {"y": tf.cast(x, tf.float16)}, x="float32"),
            "refusing": _function(_refusing, x="float32"),
            **{name: tf.function(function, [_EXAMPLES]) for name, function in _OF_EXAMPLES.items()},
        }


_EXAMPLES = tf.TensorSpec([None], tf.string, "inputs")


def _function(function, **dtypes):
    specs = [tf.TensorSpec(None, dtype, name) for name, dtype in dtypes.items()]
    return tf.function(function, specs)


def _refusing(x):
    with tf.control_dependencies([tf.debugging.assert_positive(x)]):
        return {"y": tf.identity(x)}


def _x(examples):
    return 0.5 * tf.io.parse_example(examples, {"x": tf.io.FixedLenFeature([], tf.float32)})["x"] + 2.0


def _sums(inputs):
    """The sum of `x` and 1,000 times that of `n`, and a million for each byte of `s`: shows what a request held."""
    kinds = {name: tf.io.VarLenFeature(dtype) for name, dtype in (("x", tf.float32), ("n", tf.int64), ("s", tf.string))}
    found = tf.io.parse_example(inputs, kinds)
    x, n, s = (tf.sparse.to_dense(found[name]) for name in "xns")
    bytes_of_s = tf.reduce_sum(tf.strings.length(s), axis=1)
    ints = 1000 * tf.reduce_sum(n, axis=1)
    return {"outputs": tf.reduce_sum(x, axis=1) + tf.cast(ints, tf.float32) + 1e6 * tf.cast(bytes_of_s, tf.float32)}


_OF_EXAMPLES = {
    "classify": lambda inputs: {"scores": _x(inputs)[:, None]},
    "classes": lambda inputs: {"classes": tf.strings.as_string(_x(inputs), precision=1)[:, None]},
    "both": lambda inputs: {
        "classes": tf.tile([["car", "bike"]], [tf.size(inputs), 1]),
        "scores": tf.stack([_x(inputs), 1 / _x(inputs)], axis=1),
    },
    "unlike": lambda inputs: {"classes": tf.tile([["car"]], [tf.size(inputs), 1]), "scores": tf.ones([1, 2])},
    "regress": lambda inputs: {"outputs": _x(inputs)},
    "column": lambda inputs: {"outputs": _x(inputs)[:, None]},
    "wide": lambda inputs: {"outputs": tf.stack([_x(inputs)] * 2, axis=1)},
    "short": lambda inputs: {"outputs": _x(inputs)[:1]},
    "sums": _sums,
}


def make_workdir(workdir: Path) -> None:
    """Writes models and bundle as an export leaves them."""
    model, config = Model(), ModelServerConfig()
    signatures = model.signatures()
    few = {name: signatures[name] for name in ("serving_default", "uneven", "classify", "regress", "string")}
    for name, version, wanted in ((HALF, VERSION, signatures), (JOINED, 1, few)):
        tf.saved_model.save(model, str(workdir / "models" / name / str(version)), wanted)
        entry = config.model_config_list.config.add()
        entry.name, entry.base_path, entry.model_platform = name, f"/models/{name}", "tensorflow"
        entry.model_version_policy.specific.versions.append(version)
        entry.version_labels[LABEL] = version
    joining = BatchingParameters()
    joining.max_batch_size.value = MOST_ROWS
    _write(workdir / "models" / JOINED / "1" / PARAMETERS_FILE, joining)
    (workdir / "serving").mkdir()
    (workdir / "serving" / BATCHING_CONFIG).write_text(threads())
    _write(workdir / "serving" / MODELS_CONFIG, config)
    monitoring = MonitoringConfig()
    monitoring.prometheus_config.enable, monitoring.prometheus_config.path = True, METRICS_PATH
    _write(workdir / "serving" / MONITORING_CONFIG, monitoring)


def _write(file: Path, message) -> None:
    file.write_text(text_format.MessageToString(message))
