"""What the JSON of a predict request may hold, type by type. The answers show what has arrived in the model."""

import codecs
import json

from tests.serving.local.yardstick.bundle import HALF
from tests.serving.local.yardstick.cases import Case, canonical, cases

PREDICT = f"/v1/models/{HALF}:predict"
NAN, INFINITY = float("nan"), float("inf")
NAMED = '{"number": %s, "word": %s, "real": %s}'
FIRST, SECOND = NAMED % ("[[1, 2]]", '"foo"', "NaN"), NAMED % ("[[3, 4]]", '{"b64": "YmF6"}', "Infinity")
REFUSED, UNIMPLEMENTED = 400, 501


def rows(name, signature, values, answer, differs=""):
    return Case(name, f'{{"signature_name": "{signature}", "instances": {values}}}', {"predictions": answer}, differs)


def columns(name, signature, values, answer, differs=""):
    return Case(name, f'{{"signature_name": "{signature}", "inputs": {values}}}', {"outputs": answer}, differs)


def refused(name, signature, content, status=REFUSED, differs=""):
    return Case(name, f'{{"signature_name": "{signature}", {content}}}', status, differs)


TAKEN = [
    rows("rows of a list", "int32", "[[1, 2], [3, 4], [5, 6]]", [[1, 2], [3, 4], [5, 6]]),
    rows("integers and fractions for float32", "float32", "[7, 2.5, 0.25, 0, 0.0]", [7.0, 2.5, 0.25, 0.0, 0.0]),
    rows("integers and fractions for float64", "float64", "[1.0, 2, 0.625, 0]", [1.0, 2.0, 0.625, 0.0]),
    rows("an integer that float32 rounds", "float32", "[1435774380]", [1.43577434e9]),
    rows("the same with a point", "float32", "[1435774380.0]", [1.43577434e9]),
    rows("beyond float32 is infinite", "float32", "[1.5e308, -1.5e308]", [INFINITY, -INFINITY]),
    rows("below float32 is zero", "float32", "[2.3e-308, -2.3e-308]", [0.0, -0.0]),
    rows("NaN and both infinities", "float64", "[NaN, Infinity, -Infinity]", [NAN, INFINITY, -INFINITY]),
    rows("short and signed forms of these", "float64", "[Inf, -Inf, -NaN]", [INFINITY, -INFINITY, NAN]),
    rows("an integer of more than 64 bits for a float", "float32", "[1208925819614629174706176]", [1.20892582e24]),
    rows("the ends of int64", "int64", "[9223372036854775807, -9223372036854775808]", [2**63 - 1, -(2**63)]),
    rows("the end of uint64", "uint64", "[18446744073709551615, 0]", [2**64 - 1, 0]),
    rows("the end of uint32", "uint32", "[4294967295]", [2**32 - 1]),
    rows("numbers too large for uint8 are cut", "uint8", "[300, 255, -1]", [44, 255, 255]),
    rows("numbers too large for int16 are cut", "int16", "[40000]", [-25536]),
    rows("numbers too large for int8 are cut", "int8", "[200, -3]", [-56, -3]),
    rows("minus zero as an integer", "float32", "[-0]", [0.0]),
    rows("booleans", "bool", "[true, false]", [True, False]),
    rows("strings", "string", '["a", "\\u00fc", ""]', ["a", "ü", ""]),
    rows("bytes as rows", "string", '[{"b64": "aGVsbG8="}, {"b64": "d29ybGQ="}]', ["hello", "world"]),
    rows("bytes in lists", "string", '[[{"b64": "aGVsbG8="}], [{"b64": "d29ybGQ="}]]', [["hello"], ["world"]]),
    rows("a named input of bytes", "string", '[{"x": [[{"b64": "aGVsbG8="}], ["w"]]}]', [[["hello"], ["w"]]]),
    rows("bytes without padding", "string", '[{"b64": "aGVsbG8"}, {"b64": "YQ"}]', ["hello", "a"]),
    rows("bytes with line breaks and blanks", "string", '[{"b64": "aGVs\\nbG8 =\\r\\n"}]', ["hello"]),
    rows("no bytes", "string", '[{"b64": ""}]', [""]),
    rows("rows without elements", "float32", "[[], []]", [[], []]),
    rows(
        "several named inputs",
        "named",
        f"[{FIRST}, {SECOND}]",
        [
            {"number": [[1, 2]], "word_bytes": {"b64": "Zm9v"}, "real": NAN},
            {"number": [[3, 4]], "word_bytes": {"b64": "YmF6"}, "real": INFINITY},
        ],
    ),
    columns("a named column", "int32", '{"x": [[[1, 2], [3, 4]]]}', [[[1, 2], [3, 4]]]),
    columns("a column without its name", "int32", "[[[1, 2], [3, 4]]]", [[[1, 2], [3, 4]]]),
    columns("a scalar", "float32", "3", 3.0),
    columns("a scalar of bytes", "string", '{"b64": "aGVsbG8="}', "hello"),
    columns("a named scalar of bytes", "string", '{"x": {"b64": "aGVsbG8="}}', "hello"),
    columns("an empty list", "float32", "[]", []),
    columns("an input that is named b64", "nested", '{"b64": [1.5]}', [1.5]),
    columns("inputs that the signature lacks", "float32", '{"x": [1.5], "other": "ignored"}', [1.5]),
    columns("of equal names the first", "float32", '{"x": [1.5], "x": [2.5]}', [1.5]),
    columns(
        "columns of several lengths",
        "named",
        NAMED % ("[[1, 2]]", '["a", "b", "c"]', "7"),
        {"number": [[1, 2]], "word_bytes": [{"b64": "YQ=="}, {"b64": "Yg=="}, {"b64": "Yw=="}], "real": 7.0},
    ),
    columns("a pair of surrogates", "string", '["\\ud83d\\ude00"]', ["😀"]),
    Case("the default signature", '{"instances": [2.0]}', {"predictions": [3.0]}),
    Case("an empty signature name", '{"signature_name": "", "instances": [2.0]}', {"predictions": [3.0]}),
    Case("keys that mean nothing", '{"instances": [2.0], "parameters": {}, "id": 7}', {"predictions": [3.0]}),
    Case(
        "the first of two signature names",
        '{"signature_name": "other", "signature_name": "", "inputs": 1}',
        {"outputs": 2.0},
    ),
    Case("the first of two inputs", '{"inputs": 2, "inputs": 9}', {"outputs": 3.0}),
    Case("a byte order mark", codecs.BOM_UTF8 + b'{"inputs": 2}', {"outputs": 3.0}),
    Case("what follows a NUL", b'{"inputs": 2}\0 and more', {"outputs": 3.0}),
    Case("blanks of all kinds", b' \t\r\n{ "inputs" :\n2 }\r\n', {"outputs": 3.0}),
    rows(
        "an input that is there twice in a row",
        "float32",
        '[{"x": 1.5, "x": 2.5}, {"x": 3.5}]',
        [1.5, 2.5],
        differs="there the second value moves into the next row; here the first counts, as everywhere else",
    ),
    columns(
        "forty axes",
        "float32",
        40 * "[" + "1" + 40 * "]",
        json.loads(40 * "[" + "1.0" + 40 * "]"),
        differs="an array of NumPy has at most 32 axes",
    ),
    columns(
        "another shape than the signature's",
        "fixed",
        "[1.0, 2.0]",
        [2.0, 3.0],
        differs="Python's session compares shapes with the signature, the one in C++ does not",
    ),
]
NOT_TAKEN = [
    Case("no text", "", REFUSED),
    Case("no JSON", "instances = [1, 2]", REFUSED),
    Case("half of it", '{"instances": [1', REFUSED),
    Case("something behind it", '{"inputs": 1} 2', REFUSED),
    Case("a comma too many", '{"inputs": [1, ]}', REFUSED),
    Case("a list", "[1]", REFUSED),
    Case("neither rows nor columns", "{}", REFUSED),
    Case("both rows and columns", '{"instances": [1], "inputs": [1]}', REFUSED),
    Case("rows that are no list", '{"instances": 3}', REFUSED),
    Case("no rows", '{"instances": []}', REFUSED),
    Case("a number for the signature", '{"signature_name": 5, "instances": [1]}', REFUSED),
    Case("null for the signature", '{"signature_name": null, "instances": [1]}', REFUSED),
    Case("an unknown signature", '{"signature_name": "none", "instances": [1]}', REFUSED),
    Case("a signature of another case", '{"signature_name": "FLOAT32", "instances": [1]}', REFUSED),
    Case("a number that is too large", '{"inputs": [1e400]}', REFUSED),
    Case("an integer that is too large", f'{{"inputs": [{"9" * 400}]}}', REFUSED),
    Case("leading zeros", '{"inputs": [01]}', REFUSED),
    Case("a plus", '{"inputs": [+1]}', REFUSED),
    Case("a control character in a string", b'{"signature_name": "string", "inputs": "\x01"}', REFUSED),
    Case("half a pair of surrogates", '{"signature_name": "string", "inputs": "\\ud83d"}', REFUSED),
    refused("rows of different lengths", "int32", '"instances": [[1, 2], [3, 4, 5]]'),
    refused("rows of different depths", "int32", '"instances": [[1, 2], [[3, 4]]]'),
    refused("a scalar and a list", "int32", '"instances": [1, [1]]'),
    refused("columns of different depths", "int32", '"inputs": [[1], 2]'),
    refused("strings for integers", "int32", '"instances": [[1, 2], ["a", "b"]]'),
    refused("strings for floats", "float32", '"instances": ["1.5"]'),
    refused("numbers for strings", "string", '"instances": [1]'),
    refused("fractions for integers", "int32", '"instances": [1.0]'),
    refused("booleans for floats", "float32", '"instances": [1.5, true]'),
    refused("booleans for integers", "int64", '"instances": [true]'),
    refused("integers for booleans", "bool", '"instances": [1]'),
    refused("null", "float32", '"instances": [1.0, null]'),
    refused("null for strings", "string", '"inputs": [null]'),
    refused("beyond int32", "int32", '"instances": [2147483648]'),
    refused("beyond int32 for uint8", "uint8", '"instances": [2147483648]'),
    refused("beyond int64", "int64", '"instances": [9223372036854775808]'),
    refused("below zero for uint64", "uint64", '"instances": [-1]'),
    refused("beyond uint32", "uint32", '"instances": [4294967296]'),
    refused("bytes for floats", "float32", '"inputs": {"b64": "aGVsbG8="}'),
    refused("no base64", "string", '"instances": [{"b64": "a?=="}]'),
    refused("base64 that is cut", "string", '"instances": [{"b64": "aGVsb"}]'),
    refused("base64 with too little padding", "string", '"instances": [{"b64": "YQ="}]'),
    refused("bytes that are a number", "string", '"instances": [{"b64": 7}]'),
    refused("bytes and something else", "string", '"instances": [{"b64": "YQ==", "x": "a"}]'),
    refused("float16 in rows", "float16", '"instances": [1.5]'),
    refused("float16 in columns", "float16", '"inputs": [1.5]', UNIMPLEMENTED),
    refused("uint16 in columns", "uint16", '"inputs": [1]', UNIMPLEMENTED),
    refused("a list for several inputs", "named", '"instances": [1, 2]'),
    refused("a column for several inputs", "named", '"inputs": [1, 2]'),
    refused("bytes for several inputs", "named", '"inputs": {"b64": "YQ=="}'),
    refused("a list among named rows", "named", f'"instances": [{FIRST}, [1, 2]]'),
    refused("a named row among lists", "string", '"instances": [["a"], {"x": ["b"]}]'),
    refused("rows of different shapes", "named", f'"instances": [{FIRST}, {FIRST.replace("[[1, 2]]", "[[1]]")}]'),
    refused("a row without an input", "named", f'"instances": [{FIRST}, {{"number": [[1, 2]]}}]'),
    refused("a row with an input too many", "float32", '"instances": [{"x": 1, "z": 2}]'),
    refused("a column that is missing", "named", '"inputs": {"number": 1, "word": "a"}'),
]


def asked(server, case):
    body = case.asked if isinstance(case.asked, bytes) else case.asked.encode()
    return server.ask("POST", PREDICT, body)


@cases("JSON of requests", TAKEN)
def test_what_is_taken(server, case):
    reply = asked(server, case)
    assert reply.status == 200, reply.body
    assert canonical(json.loads(reply.body)) == canonical(case.answer)


@cases("JSON of requests", NOT_TAKEN)
def test_what_is_refused(server, case):
    reply = asked(server, case)
    assert reply.status == case.answer, reply.body
    assert json.loads(reply.body)["error"] and reply.content_type == "application/json"


BYTES = [
    Case("bytes that are no UTF-8", b'"\xff\xfe"', b"\xff\xfe"),
    Case("half a pair of surrogates as bytes", b'"\xed\xa0\xbd"', b"\xed\xa0\xbd"),
    Case("the second half of a pair alone", b'"\\udc80"', b"\xed\xb2\x80"),
    Case("the same behind a backslash", b'"\\\\udc80"', b"\\udc80"),
]


@cases("JSON of requests", BYTES)
def test_strings_that_are_no_text(server, case):
    reply = server.ask("POST", PREDICT, b'{"signature_name": "bytes", "inputs": %s}' % case.asked)
    assert codecs.decode(json.loads(reply.body)["outputs"]["b64"].encode(), "base64") == case.answer
