"""Logs of requests: no call fails for them, no log before is lost, and what a crash has cut costs one record."""

import os
import resource
import subprocess
import sys
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis.prediction_log_pb2 import ClassifyLog, PredictionLog

from serving.client.request_log import CallFacts, RequestLog, RequestLogError, read_log


def asked(log, *numbers, size=1):
    for number in numbers:
        log.add("model", "signature", {"x": np.full(size, number, np.int64)}, {"y": np.full(size, -number, np.int64)})


def numbers_in(path):
    records = list(read_log(path))
    assert all((record.request.inputs["x"] == -record.outputs["y"]).all() for record in records)
    return [int(record.request.inputs["x"][0]) for record in records]


def test_tensorflow_reads_a_log(tmp_path):
    log = RequestLog(tmp_path, 1.0)
    asked(log, 5, size=3)
    log.close()
    (record,) = tf.data.TFRecordDataset(str(log.file)).as_numpy_iterator()
    predicted = PredictionLog.FromString(record).predict_log
    assert predicted.request.model_spec.name == "model"
    assert tf.make_ndarray(predicted.request.inputs["x"]).tolist() == [5, 5, 5]
    assert tf.make_ndarray(predicted.response.outputs["y"]).tolist() == [-5, -5, -5]


def test_a_log_that_tensorflow_has_written_is_read(tmp_path):
    log = PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.full(2, 6)))
    log.predict_log.response.outputs["y"].CopyFrom(tf.make_tensor_proto(np.full(2, -6)))
    with tf.io.TFRecordWriter(str(tmp_path / "log")) as writer:
        writer.write(log.SerializeToString())
    assert numbers_in(tmp_path / "log") == [6]
    with tf.io.TFRecordWriter(str(tmp_path / "log")) as writer:
        writer.write(log.SerializeToString())
        writer.write(PredictionLog(classify_log=ClassifyLog()).SerializeToString())
    with pytest.raises(RequestLogError, match="record 2 is no predict log"):
        numbers_in(tmp_path / "log")


@pytest.fixture
def small_disk():
    """Files may have 20 kB, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_ends_the_log_and_no_call(tmp_path, small_disk, caplog):
    log = RequestLog(tmp_path, 1.0)
    asked(log, *range(10), size=300)  # About 5 kB each.
    log.close()
    kept = numbers_in(tmp_path)
    assert kept == list(range(len(kept))) and 0 < len(kept) < 10 and log.dropped == 10 - len(kept)
    assert caplog.text.count("ends here") == 1 and f"lacks {log.dropped} requests" in caplog.text
    assert f"number {len(kept) + 1}, is cut" in caplog.text


def test_a_new_log_leaves_those_before(tmp_path):
    logs = [RequestLog(tmp_path, 1.0), RequestLog(tmp_path, 1.0)]
    for number in range(4):
        asked(logs[number % 2], number)
    for log in logs:
        log.close()
    again = RequestLog(tmp_path, 1.0)
    asked(again, 4)
    again.close()
    assert numbers_in(tmp_path) == [0, 2, 1, 3, 4] and numbers_in(again.file) == [4]


def test_a_process_that_is_killed_has_written_what_it_noted(tmp_path):
    script = (
        "import os, pathlib, sys\n"
        "import numpy as np\n"
        "from serving.client.request_log import RequestLog\n"
        "log = RequestLog(pathlib.Path(sys.argv[1]), 1.0)\n"
        "for n in (1, 2, 3):\n"
        "    log.add('model', 'signature', {'x': np.full(1, n)}, {'y': np.full(1, -n)})\n"
        "os.kill(os.getpid(), 9)\n"
    )
    assert subprocess.run([sys.executable, "-c", script, str(tmp_path)]).returncode == -9
    assert numbers_in(tmp_path) == [1, 2, 3]


def test_a_cut_record_is_left_out_wherever_it_is_cut(tmp_path, caplog):
    log = RequestLog(tmp_path, 1.0)
    asked(log, 1, 2)
    whole = len(log.file.read_bytes())
    asked(log, 3)
    log.close()
    content = log.file.read_bytes()
    for length in range(whole, len(content) + 1):
        caplog.clear()
        log.file.write_bytes(content[:length])
        assert numbers_in(tmp_path) == [1, 2, 3][: 2 + (length == len(content))]
        assert ("number 3, is cut" in caplog.text) == (whole < length < len(content))


def test_a_record_that_is_changed_is_an_error(tmp_path):
    log = RequestLog(tmp_path, 1.0)
    asked(log, 1, 2)
    log.close()
    content = log.file.read_bytes()
    for place in (0, 9, 20, len(content) - 1):
        changed = bytearray(content)
        changed[place] ^= 1
        log.file.write_bytes(changed)
        with pytest.raises(RequestLogError, match="is broken"):
            numbers_in(tmp_path)
    log.file.unlink()
    with pytest.raises(RequestLogError, match="holds no requests-"):
        numbers_in(tmp_path)


def test_what_is_no_regular_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "requests-00001.tfrecord")
    (tmp_path / "zero").symlink_to("/dev/zero")
    for place in (tmp_path, tmp_path / "requests-00001.tfrecord", tmp_path / "zero"):
        with pytest.raises(RequestLogError, match="no regular file"):
            list(read_log(place))


def test_a_log_tells_what_became_of_each_call(tmp_path):
    """Label, version, code, seconds, time and request ID; failed calls come only to those who ask for them."""
    log, before = RequestLog(tmp_path, 1.0), time.time()
    inputs, outputs = {"x": np.zeros(2)}, {"model_version": np.array([7, 7])}
    log.add("m", "s", inputs, outputs, CallFacts("canary", seconds=0.25, request_id="r1"))
    log.add("m", "s", inputs, {}, CallFacts("stable", grpc.StatusCode.DEADLINE_EXCEEDED, 1.5, "r2"))
    log.add("m", "s", inputs, outputs, CallFacts(None))
    log.close()
    assert [logged.request_id for logged in read_log(tmp_path)] == ["r1", ""]
    answered, failed, unlabelled = read_log(tmp_path, with_failed=True)
    assert (answered.label, answered.version, answered.code, answered.seconds) == ("canary", 7, "OK", 0.25)
    assert (failed.label, failed.version, failed.code, failed.seconds) == ("stable", None, "DEADLINE_EXCEEDED", 1.5)
    assert failed.request.inputs["x"].tolist() == [0, 0] and failed.outputs == {} and failed.request_id == "r2"
    assert unlabelled.label is None and before <= answered.unix_seconds <= failed.unix_seconds <= time.time()


def test_a_log_of_an_earlier_version_is_read(tmp_path):
    log = PredictionLog()
    log.predict_log.request.inputs["x"].CopyFrom(tf.make_tensor_proto(np.full(2, 6)))
    log.predict_log.response.outputs["model_version"].CopyFrom(tf.make_tensor_proto([4, 4]))
    with tf.io.TFRecordWriter(str(tmp_path / "log")) as writer:
        writer.write(log.SerializeToString())
    (logged,) = read_log(tmp_path / "log")
    assert (logged.label, logged.version, logged.code, logged.seconds) == (None, 4, "OK", None)
