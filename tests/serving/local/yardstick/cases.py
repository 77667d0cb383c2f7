"""The cases of TensorFlow Serving's own tests, told anew: groups, cases, and where the local server differs.

Each module of tests declares its cases here, so that `table` counts them. A case says what TensorFlow Serving does; one
that the local server does otherwise has the reason, and fails on it, or the test of it says so.
"""

import json
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pytest

#: What each group follows, in the sources of TensorFlow Serving 2.16.1.
GROUPS = {
    "JSON of requests": "json_tensor_test.cc, json_tensor.cc",
    "JSON of answers": "json_tensor_test.cc, json_tensor.cc",
    "JSON of examples": "json_tensor_test.cc, classifier.cc, regressor.cc",
    "paths, models, versions": "http_rest_api_handler_test.cc, http_rest_api_util_test.cc",
    "HTTP": "evhttp_request_test.cc, evhttp_server_test.cc, http_server.cc",
    "gRPC": "tensorflow_model_server_test, predict_util.cc, server.cc",
}


class Case(NamedTuple):
    """A request, and what comes back.

    Attributes:
        name: what is tried.
        asked: the request.
        answer: what is expected; its kind belongs to the test.
        differs: why the local server does otherwise; empty where it does the same.
    """

    name: str
    asked: Any
    answer: Any
    differs: str = ""


class Counted(NamedTuple):
    """A case of the table."""

    group: str
    name: str
    differs: str


COUNTED: set[Counted] = set()


def cases(group: str, given: Sequence[Case]) -> pytest.MarkDecorator:
    """Parametrises a test by cases."""
    assert group in GROUPS
    for case in given:
        assert Counted(group, case.name, case.differs) not in COUNTED, f"{group}: {case.name} is there twice"
        COUNTED.add(Counted(group, case.name, case.differs))
    return pytest.mark.parametrize("case", given, ids=[case.name for case in given])


def counted(group: str, differs: str = "") -> Callable[[Callable], Callable]:
    """Marks a test as a case of its own, named by the function."""
    assert group in GROUPS

    def mark(test: Callable) -> Callable:
        name = test.__name__.removeprefix("test_").replace("_", " ")
        COUNTED.add(Counted(group, name, differs))
        test.differs = differs  # type: ignore[attr-defined]  # `conftest.py` reads it.
        return test

    return mark


def canonical(value: Any) -> str:
    """JSON as a text to compare: 1 is not 1.0 there, NaN equals NaN, and the order of names means nothing."""
    return json.dumps(value, sort_keys=True)


def table() -> str:
    """The table of the cases, in Markdown."""
    lines = ["| group | follows | cases | agreeing | differing |", "|---|---|---|---|---|"]
    for group, sources in GROUPS.items():
        found = [case for case in COUNTED if case.group == group]
        differing = sum(bool(case.differs) for case in found)
        lines.append(f"| {group} | {sources} | {len(found)} | {len(found) - differing} | {differing} |")
    differing = [case for case in COUNTED if case.differs]
    lines += [f"| all | | {len(COUNTED)} | {len(COUNTED) - len(differing)} | {len(differing)} |", ""]
    lines += [f"- {case.group}, {case.name}: {case.differs}" for case in sorted(differing)]
    return "\n".join(lines)
