"""Who trains together: options, TF_CONFIG as others write it, and what makes no sense."""

import json

import pytest

from courier_tf.workers.places import Places, WorkersError, places_of


def config(cluster, kind, index, **more):
    return json.dumps({"cluster": cluster, "task": {"type": kind, "index": index}, **more})


@pytest.mark.parametrize("words", [["a:1,b:2,c:3"], ["a:1", "b:2", "c:3"], ["a:1,b:2,", "c:3"]])
def test_options(words):
    assert places_of(words, 2, "unread") == Places(("a:1", "b:2", "c:3"), 2)


def test_nothing_is_a_process_alone():
    for text in (None, "", "{}", config({}, "worker", 0), config({"worker": ["a:1"]}, "worker", 0)):
        assert places_of([], None, text) == Places()
    assert places_of(["a:1"], 0, None).number == 1


def test_tf_config():
    two = {"worker": ["a:1", "b:2"]}
    assert places_of([], None, config(two, "worker", 1)) == Places(("a:1", "b:2"), 1)
    chief = {"worker": ["b:2", "c:3"], "chief": ["a:1"], "evaluator": ["e:9"]}
    assert places_of([], None, config(chief, "chief", 0)) == Places(("a:1", "b:2", "c:3"), 0)
    assert places_of([], None, config(chief, "worker", 1)) == Places(("a:1", "b:2", "c:3"), 2)
    assert places_of([], None, config({"worker": ["[::1]:5", "b:2"]}, "worker", 0)).addresses[0] == "[::1]:5"


@pytest.mark.parametrize(
    ("words", "index", "text", "message"),
    [
        (["a:1,b:2"], None, None, "--workers and --index belong together"),
        ([], 1, None, "--workers and --index belong together"),
        (["a:1,b:2"], 2, None, "index must lie between 0 and 1, but is 2"),
        (["a:1,b:2"], -1, None, "index must lie between 0 and 1, but is -1"),
        (["a:1,b"], 0, None, "'b' is no HOST:PORT"),
        (["a:1,b:0"], 0, None, "'b:0' is no HOST:PORT"),
        (["a:1,a:1"], 0, None, "an address stands twice"),
        ([], None, "{", "TF_CONFIG cannot be read"),
        ([], None, "[1]", "TF_CONFIG cannot be read"),
        ([], None, config({"worker": "a:1"}, "worker", "x"), "TF_CONFIG cannot be read"),
        ([], None, config({"worker": ["a:1", "b:2"], "ps": ["p:1"]}, "worker", 0), "parameter servers"),
        ([], None, config({"worker": ["a:1", "b:2"]}, "evaluator", 0), "the task evaluator 0 is none of those"),
        ([], None, config({"worker": ["a:1", "b:2"]}, "worker", 2), "the task worker 2 is none of those"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(words, index, text, message):
    with pytest.raises(WorkersError, match=message) as error:
        places_of(words, index, text)
    assert "\n" not in str(error.value)
