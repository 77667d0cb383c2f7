"""Paths of the REST API: which model, version and label they name, and which are malformed."""

import json

from tests.serving.local.yardstick.bundle import HALF, LABEL, VERSION
from tests.serving.local.yardstick.cases import Case, cases, counted

GROUP = "paths, models, versions"
BODY = b'{"instances": [2.0, 4.0]}'
ODD = "%21%23%24%25%26%27%28%29%2A%2B%2C%2F%3A%3B%3D%3F%40%5B%5D"
STATUS = {
    "model_version_status": [
        {"version": str(VERSION), "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    ]
}
PREDICTED = {"predictions": [3.0, 4.0]}

POSTS = [
    Case("predict by the highest version", f"/v1/models/{HALF}:predict", PREDICTED),
    Case("predict by a version", f"/v1/models/{HALF}/versions/{VERSION}:predict", PREDICTED),
    Case("predict by a version with zeros", f"/v1/models/{HALF}/versions/000{VERSION}:predict", PREDICTED),
    Case("predict by a label", f"/v1/models/{HALF}/labels/{LABEL}:predict", PREDICTED),
    Case("predict in capitals but for the verb", f"/V1/Models/{HALF}/VERSIONS/{VERSION}:predict", PREDICTED),
    Case("predict with percent signs", f"/v1/models/%{ord(HALF[0]):x}{HALF[1:]}/labels/%73table:predict", PREDICTED),
    Case("predict by another host's name", f"http://example.com/v1/models/{HALF}:predict", PREDICTED),
    Case("a verb in capitals", f"/v1/models/{HALF}:PREDICT", 400),
    Case("an unknown verb", f"/v1/models/{HALF}:explain", 400),
    Case("no verb", f"/v1/models/{HALF}", 400),
    Case("a query", f"/v1/models/{HALF}:predict?verbose=1", 400),
    Case("a slash at the end", f"/v1/models/{HALF}:predict/", 400),
    Case("post to another resource", "/v1/foo", 400),
    Case("post to no model", "/v1/models", 400),
    Case("post to an empty model", "/v1/models/:predict", 400),
    Case("post to metadata", f"/v1/models/{HALF}/metadata", 400),
    Case("version instead of versions", f"/v1/models/{HALF}/version/{VERSION}:predict", 400),
    Case("label instead of labels", f"/v1/models/{HALF}/label/{LABEL}:regress", 400),
    Case("a version that is no number", f"/v1/models/{HALF}/versions/HELLO:regress", 400),
    Case("a version below zero", f"/v1/models/{HALF}/versions/-1:predict", 400),
    Case("a version of 65 bits", f"/v1/models/{HALF}/versions/18446744073709551615:regress", 400),
    Case("a version and a label", f"/v1/models/{HALF}/versions/{VERSION}/labels/{LABEL}:predict", 400),
    Case("an unknown model", "/v1/models/foo:predict", 404),
    Case("an unknown model and version", "/v1/models/foo/versions/50:predict", 404),
    Case("an unknown version", f"/v1/models/{HALF}/versions/99:predict", 404),
    Case("an unknown label", f"/v1/models/{HALF}/labels/none:predict", 400),
    Case("an unknown model with a label", f"/v1/models/foo/labels/{LABEL}:predict", 400),
    Case("an unknown model of odd letters", f"/v1/models/name{ODD}:predict", 404),
]


@cases(GROUP, POSTS)
def test_posts(server, case):
    if server.local is None and case.asked.startswith("http"):
        return  # An HTTP library would ask that host.
    reply = server.ask("POST", case.asked, BODY)
    if isinstance(case.answer, int):
        assert reply.status == case.answer and json.loads(reply.body)["error"]
    else:
        assert json.loads(reply.body) == case.answer and reply.content_type == "application/json"


GETS = [
    Case("status of all versions", f"/v1/models/{HALF}", STATUS),
    Case("status of a version", f"/v1/models/{HALF}/versions/{VERSION}", STATUS),
    Case("status by a label", f"/v1/models/{HALF}/labels/{LABEL}", STATUS),
    Case("status by an unknown label", f"/v1/models/{HALF}/labels/none", STATUS),
    Case("status by metadata in capitals", f"/v1/models/{HALF}/METADATA", STATUS),
    Case("status of an unknown version", f"/v1/models/{HALF}/versions/99", 404),
    Case("status of an unknown model", "/v1/models/foo", 404),
    Case("status of no model", "/v1/models", 400),
    Case("status of a version of 65 bits", f"/v1/models/{HALF}/versions/18446744073709551615", 400),
    Case("status with a query", f"/v1/models/{HALF}?x=1", 404),
    Case("get another resource", "/v1/foo", 400),
    Case("get a folder", f"/v1/models/{HALF}/name", 400),
    Case("get predict", f"/v1/models/{HALF}:predict", 400),
    Case("get with version instead of versions", f"/v1/models/{HALF}/version/50:predict", 400),
    Case("metadata by an unknown label", f"/v1/models/{HALF}/labels/none/metadata", 400),
    Case("metadata of an unknown version", f"/v1/models/{HALF}/versions/99/metadata", 404),
    Case("metadata of an unknown model", "/v1/models/foo/metadata", 404),
]


@cases(GROUP, GETS)
def test_gets(server, case):
    reply = server.ask("GET", case.asked)
    if isinstance(case.answer, int):
        assert reply.status == case.answer and json.loads(reply.body)["error"]
    else:
        assert json.loads(reply.body) == case.answer and reply.content_type == "application/json"


def metadata(server, path):
    return json.loads(server.ask("GET", f"/v1/models/{HALF}{path}").body)


@cases(
    GROUP,
    [
        Case("metadata of the highest version", "/metadata", None),
        Case("metadata by a label", f"/labels/{LABEL}/metadata", None),
        Case("metadata of a version", f"/versions/{VERSION}/metadata", None),
    ],
)
def test_metadata(server, case):
    found = metadata(server, case.asked)
    assert found["model_spec"] == {"name": HALF, "signature_name": "", "version": str(VERSION)}
    described = found["metadata"]["signature_def"]["signature_def"]["fixed"]
    name = described["inputs"]["x"].pop("name")
    assert name and described["inputs"]["x"] == {
        "dtype": "DT_FLOAT",
        "tensor_shape": {"dim": [{"size": "-1", "name": ""}, {"size": "1", "name": ""}], "unknown_rank": False},
    }
    assert described["method_name"] == "tensorflow/serving/predict" and described["defaults"] == {}


@counted(GROUP)
def test_metadata_of_an_unknown_rank(server):
    described = metadata(server, "/metadata")["metadata"]["signature_def"]["signature_def"]["float32"]
    assert described["inputs"]["x"]["tensor_shape"] == {"dim": [], "unknown_rank": True}


@counted(GROUP)
def test_metadata_name_what_fills_the_tables(server):
    described = metadata(server, "/metadata")["metadata"]["signature_def"]["signature_def"]
    assert described["__saved_model_init_op"]["inputs"] == {}
