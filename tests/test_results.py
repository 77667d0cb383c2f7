"""The tables and the plot of the documents are those that `make results` makes from docs/results."""

from pathlib import Path

import pandas as pd
import pytest

from docs import gains_plot, tables

RESULTS = Path(__file__).parent.parent / "docs/results"


@pytest.mark.parametrize("document", tables.documents(), ids=lambda file: file.name)
def test_tables_of_documents_are_those_of_the_results(document):
    text = document.read_text()
    assert tables.rendered(text) == text, "run `make results`"


def test_the_plot_is_that_of_the_results():
    assert gains_plot.PLOT.read_text() == gains_plot.plot(), "run `make results`"


@pytest.mark.parametrize("name", tables.TABLES)
def test_every_table_stands_in_a_document(name):
    assert any(f"<!-- results: {name} -->" in file.read_text() for file in tables.documents())


@pytest.mark.parametrize("file", sorted(RESULTS.rglob("gains.csv")), ids=lambda file: "/".join(file.parts[-3:-1]))
def test_gains_are_the_means_of_the_seeds(file):
    """An oracle of their own: AUCs of single seeds in results.csv. Old files have two decimals of a point.

    What is pooled over several spans lies between the means of the spans, which have different numbers of clicks.
    """
    results = pd.read_csv(file.parent / "results.csv").fillna({"origin": "one span"})
    aucs = results.set_index(["variant", "mode", "seed", "origin"]).sort_index()
    gains = pd.read_csv(file)
    assert (gains["low"] < gains["gain"]).all() and (gains["gain"] < gains["high"]).all()
    for row in gains.itertuples():
        column = row.figure if row.part == "all" else f"{row.figure} {row.part}"
        ours, theirs = aucs.loc[(row.variant, row.mode), column], aucs.loc[(row.less_variant, row.less_mode), column]
        of_spans = (ours - theirs).groupby("origin").mean()
        assert of_spans.min() - 5.1e-5 <= row.gain <= of_spans.max() + 5.1e-5, row
