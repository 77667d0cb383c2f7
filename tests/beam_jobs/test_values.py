"""Ids, labels and words for no value."""

import pytest

from beam_jobs.values import NoValue, form_of_ids, identifier, label, null_words, spellings
from courier_tf import schema
from courier_tf.settings.raw import RawSettings

NULLS = null_words(RawSettings().null_words)


@pytest.mark.parametrize(
    "word",
    ["NULL", "null", "None", "nan", "NaN", "N/A", r"\N", "undefined", "", "  ", "\u00a0", " NULL\u200b", "<NA>", "NaT"],
)
def test_words_for_no_value(word):
    with pytest.raises(NoValue):
        identifier(word, NULLS)
    with pytest.raises(NoValue):
        identifier("missing", null_words(["Missing"]))
    assert identifier("nullable", NULLS) == "nullable"


@pytest.mark.parametrize("blank", [" ", "\t", "\u00a0", "\u200b", "\ufeff", "\u3000", "\u2060", "\r"])
def test_blanks_at_the_ends_are_cut(blank):
    assert identifier(f"{blank}item 0{blank}{blank}", NULLS) == "item 0"


@pytest.mark.parametrize(
    "name, reason",
    [
        ("u1\0", "control"),
        ("u\n1", "control"),
        ("\x1b[2Ju", "control"),
        ("u\x7f", "control"),
        ("u" * 513, "longer"),
        ("é" * 257, "longer"),
        ("1.23457E+12", "rounded"),
        ("9007199254740992.0", "rounded"),
        ("4,00638E+12", "rounded"),
        ("4E+12", "rounded"),
        ("9007199254740992,0", "rounded"),
        ("#REF!", "error of a spreadsheet"),
        ("#NAME?", "error of a spreadsheet"),
        ("#DIV/0!", "error of a spreadsheet"),
        ("#BEZUG!", "error of a spreadsheet"),
        ("#########", "error of a spreadsheet"),
        ("u\u2028x", "control"),
    ],
)
def test_what_cannot_be_an_id(name, reason):
    with pytest.raises(NoValue, match=reason) as refused:
        identifier(name, NULLS)
    assert str(refused.value).isprintable() and len(str(refused.value)) < 400


@pytest.mark.parametrize(
    "name",
    [
        "u" * schema.MAX_ID_BYTES,
        "é" * (schema.MAX_ID_BYTES // 2),
        "12e5",
        "a.b",
        "1000.0",
        "Zoë 🙂",
        "4e12",
        "1,5",
        "#1",
        "#tag",
        "a+b",
    ],
)
def test_what_can_be_one(name):
    assert identifier(name, NULLS) == name


def test_labels():
    for text in ("1", "1.0", "true", "True", "TRUE", "t", "yes", "Y", " 1 ", "1\u00a0", "1.00", "1,0"):
        assert label(text) == 1
    for text in ("0", "0.0", "false", "False", "F", "no", "n", "0.00", "0,0", "0E-10"):
        assert label(text) == 0
    for text in ("", "2", "null", "click", "0.5", "-1"):
        with pytest.raises(NoValue, match="neither 0 nor 1"):
            label(text)


def test_spellings_of_one_id():
    assert spellings(["0012", "12", "12.0", "13", "A", "a"]) == [("0012", "12", "12.0"), ("A", "a")]
    assert [form_of_ids(names) for names in (["7.0", "8.0"], ["007"], ["7", "0"], ["x"])] == [
        "float",
        "padded",
        "plain",
        "",
    ]
