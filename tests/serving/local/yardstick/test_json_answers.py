"""How answers are written: digits of numbers, strings, bytes, lists, and what has no JSON."""

import json

from tests.serving.local.yardstick.bundle import HALF
from tests.serving.local.yardstick.cases import Case, canonical, cases

PREDICT = f"/v1/models/{HALF}:predict"


def digits(name, signature, values, written):
    return Case(name, (signature, values), written)


DIGITS = [
    digits("whole numbers", "float32", "[3, 999999, -1]", ["3.0", "999999.0", "-1.0"]),
    digits("large whole numbers", "float32", "[9000000, 1e10]", ["9e+06", "1e+10"]),
    digits("six digits", "float32", "[0.5, 0.0003, 0.1, 123456]", ["0.5", "0.0003", "0.1", "123456.0"]),
    digits("small numbers", "float32", "[0.00003, 1e-30]", ["3e-05", "1e-30"]),
    digits("seven digits need nine", "float32", "[555557.5, 0.98265213]", ["555557.5", "0.982652128"]),
    digits("zeros", "float32", "[0.0, -0.0]", ["0.0", "-0.0"]),
    digits("not finite", "float32", "[NaN, Infinity, -Infinity]", ["NaN", "Infinity", "-Infinity"]),
    digits("float64 with six digits", "float64", "[0.1, 2, 1e300]", ["0.1", "2.0", "1e+300"]),
    digits("float64 with seventeen", "float64", "[0.3333333333333333]", ["0.33333333333333331"]),
    digits("a float64 that is not finite", "float64", "[NaN, -Infinity]", ["NaN", "-Infinity"]),
    digits("integers", "int64", "[9223372036854775807]", ["9223372036854775807"]),
    digits("unsigned integers", "uint64", "[18446744073709551615]", ["18446744073709551615"]),
]


@cases("JSON of answers", DIGITS)
def test_digits(server, case):
    signature, values = case.asked
    body = f'{{"signature_name": "{signature}", "inputs": {values}}}'
    reply = server.ask("POST", PREDICT, body.encode())
    found = json.loads(reply.body, parse_float=str, parse_int=str, parse_constant=str)
    assert found == {"outputs": case.answer}


def shaped(name, signature, content, answer):
    return Case(name, f'{{"signature_name": "{signature}", {content}}}', answer)


NAMED = '{"number": %s, "word": %s, "real": %s}'
SHAPES = [
    shaped("three axes in rows", "int32", '"instances": [[[1, 2], [3, 4]]]', {"predictions": [[[1, 2], [3, 4]]]}),
    shaped("three axes in columns", "int32", '"inputs": [[[1, 2], [3, 4]]]', {"outputs": [[[1, 2], [3, 4]]]}),
    shaped("rows of scalars", "int32", '"instances": [1, 2, 5]', {"predictions": [1, 2, 5]}),
    shaped(
        "bytes in a list",
        "bytes",
        '"instances": [["hello", "tf"], ["a", ""]]',
        {"predictions": [[{"b64": "aGVsbG8="}, {"b64": "dGY="}], [{"b64": "YQ=="}, {"b64": ""}]]},
    ),
    shaped(
        "several outputs in rows",
        "named",
        f'"instances": [{NAMED % ("[1, 2]", "[]", "8")}, {NAMED % ("[7, 8]", "[]", "9")}]',
        {
            "predictions": [
                {"number": [1, 2], "word_bytes": [], "real": 8.0},
                {"number": [7, 8], "word_bytes": [], "real": 9.0},
            ]
        },
    ),
    shaped(
        "several outputs in columns",
        "named",
        f'"inputs": {NAMED % ("[[1], [2]]", "[]", "0.5")}',
        {"outputs": {"number": [[1], [2]], "word_bytes": [], "real": 0.5}},
    ),
    shaped("no rows", "int32", '"inputs": []', {"outputs": []}),
    shaped("no rows of several axes", "int32", '"inputs": [[], []]', {"outputs": [[], []]}),
    shaped(
        "text with quotes and controls",
        "string",
        '"inputs": "\\"\\\\ \\n\\u0001\\u007f/"',
        {"outputs": '"\\ \n\x01\x7f/'},
    ),
    shaped("a scalar in columns", "scalar", '"inputs": [1, 2]', {"outputs": 3.0}),
    shaped(
        "outputs of different lengths in columns",
        "uneven",
        '"inputs": [1, 2]',
        {"outputs": {"y": [1.0, 2.0], "z": [1.0]}},
    ),
    shaped("complex numbers that are none", "to_complex", '"inputs": []', {"outputs": []}),
    shaped("a scalar in rows", "scalar", '"instances": [1, 2]', 400),
    shaped("outputs of two lengths in rows", "uneven", '"instances": [1, 2]', 400),
    shaped("complex numbers", "to_complex", '"inputs": [1]', 400),
    shaped("float16", "to_half", '"instances": [1]', 400),
    shaped("an op that refuses", "refusing", '"instances": [-1]', 400),
]


@cases("JSON of answers", SHAPES)
def test_shapes(server, case):
    reply = server.ask("POST", PREDICT, case.asked.encode())
    if case.answer == 400:
        assert reply.status == 400 and json.loads(reply.body)["error"]
    else:
        assert canonical(json.loads(reply.body)) == canonical(case.answer)


@cases(
    "JSON of answers",
    [Case("text that is no UTF-8", b'"\xff"', b'"\xff"'), Case("an umlaut", b'"\\u00fc"', "ü".encode())],
)
def test_text_is_written_as_it_is(server, case):
    reply = server.ask("POST", PREDICT, b'{"signature_name": "string", "inputs": %s}' % case.asked)
    assert reply.status == 200 and case.answer in reply.body


@cases(
    "JSON of answers",
    [Case("an error with quotes", 'no "model"', None), Case("an error with apostrophes", "no 'model'", None)],
)
def test_errors_are_json(server, case):
    body = json.dumps({"signature_name": case.asked, "inputs": 1}).encode()
    assert list(json.loads(server.ask("POST", PREDICT, body).body)) == ["error"]
