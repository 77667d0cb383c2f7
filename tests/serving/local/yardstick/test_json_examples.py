"""Classify and regress by REST: what features may hold, and how results are written."""

import json

from tests.serving.local.yardstick.bundle import HALF
from tests.serving.local.yardstick.cases import Case, canonical, cases

GROUP = "JSON of examples"


def sums(name, examples, answer, context=None):
    """What `sums` finds in the features: x, 1,000 n, and a million for each byte of s."""
    context = f', "context": {context}' if context else ""
    return Case(name, f'{{"signature_name": "sums", "examples": {examples}{context}}}', answer)


FEATURES = [
    sums("floats", '[{"x": [8.0, 0.5]}]', [8.5]),
    sums("a float without a list", '[{"x": 6.5}]', [6.5]),
    sums("integers", '[{"n": [1, 2]}, {"n": 5}]', [3000.0, 5000.0]),
    sums("booleans are integers", '[{"n": [1, true, false]}]', [2000.0]),
    sums("strings and bytes", '[{"s": ["foo", {"b64": "aGVsbG8="}]}]', [8e6]),
    sums("infinite numbers", '[{"x": [1.5, Infinity]}, {"x": -Infinity}]', [float("inf"), -float("inf")]),
    sums("a number that is none", '[{"x": [NaN]}]', [float("nan")]),
    sums("an integer of more than 64 bits is a float", '[{"x": 36893488147419103232}]', [3.68934881e19]),
    sums("an empty list", '[{"x": 1.5, "n": []}]', [1.5]),
    sums("no feature", "[{}]", [0.0]),
    sums("features that the model lacks", '[{"x": 1.5, "other": "ignored"}]', [1.5]),
    sums("a context", '[{"x": 1.5}, {"x": 2.5}]', [2001.5, 2002.5], '{"n": 2}'),
    sums("a feature over the context's", '[{"x": 1.5}, {}]', [1.5, 4.5], '{"x": 4.5}'),
    sums("of equal names the last", '[{"x": 1.5, "x": 2.5}]', [2.5]),
    sums("null in a list", '[{"n": [1, null]}]', 400),
    sums("null", '[{"n": null}]', 400),
    sums("an integer and a fraction", '[{"x": [1, 2.5]}]', 400),
    sums("a string and a number", '[{"s": ["a", 1]}]', 400),
    sums("a boolean and a string", '[{"s": [true, "a"]}]', 400),
    sums("an object", '[{"n": [10, {"test": 10}]}]', 400),
    sums("a list in a list", '[{"n": [[10], 20]}]', 400),
    sums("an integer beyond int64", '[{"n": [20, 18446744073709551603]}]', 400),
    sums("no base64", '[{"s": {"b64": "?"}}]', 400),
    sums("examples that are no list", '{"x": 1.5}', 400),
    sums("no examples", "[]", 400),
    sums("an example that is a list", '[[{"x": 1.5}]]', 400),
    sums("a context that is a list", '[{"x": 1.5}]', 400, '[{"x": 1.5}]'),
    Case("no key examples", '{"signature_name": "sums"}', 400),
    Case("a list for the signature", '{"signature_name": ["sums"], "examples": [{}]}', 400),
    Case("an unknown signature", '{"signature_name": "none", "examples": [{}]}', 400),
]


@cases(GROUP, FEATURES)
def test_features(server, case):
    reply = server.ask("POST", f"/v1/models/{HALF}:regress", case.asked.encode())
    if case.answer == 400:
        assert reply.status == 400 and json.loads(reply.body)["error"]
    else:
        assert reply.status == 200, reply.body
        assert canonical(json.loads(reply.body)) == canonical({"results": case.answer})


RESULTS = [
    Case("values", ("regress", "regress"), [42.0, 3.0]),
    Case("values in a column", ("regress", "column"), [42.0, 3.0]),
    Case("scores alone", ("classify", "classify"), [[["", 42.0]], [["", 3.0]]]),
    Case("classes alone", ("classify", "classes"), [[["42.0", 0.0]], [["3.0", 0.0]]]),
    Case(
        "classes and scores",
        ("classify", "both"),
        [[["car", 42.0], ["bike", 0.0238095243]], [["car", 3.0], ["bike", 0.333333343]]],
    ),
    Case("two values for each", ("regress", "wide"), 400),
    Case("fewer values than examples", ("regress", "short"), 400),
    Case("classes and scores of different shapes", ("classify", "unlike"), 400),
    Case("to classify by a signature for regress", ("classify", "regress"), 400),
    Case("to regress by a signature for classify", ("regress", "classify"), 400),
    Case("to classify by a signature for predict", ("classify", "float32"), 400),
]


@cases(GROUP, RESULTS)
def test_results(server, case):
    method, signature = case.asked
    body = json.dumps({"signature_name": signature, "examples": [{"x": 80.0}, {"x": 2.0}]}).encode()
    reply = server.ask("POST", f"/v1/models/{HALF}:{method}", body)
    if case.answer == 400:
        assert reply.status == 400 and json.loads(reply.body)["error"]
    else:
        assert json.loads(reply.body) == {"results": case.answer}
