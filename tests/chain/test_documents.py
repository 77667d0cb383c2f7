"""The commands of the pages on own data and training run, in their order, on a small shop; so does their Python."""

import re
import shlex
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from courier_tf.commands import program
from courier_tf.ranking.image_features.similarity import largest_and_mean
from tests.test_documents import ROOT, commands_in

PAGES = ("docs/own-data.md", "docs/training.md", "docs/in-another-model.md")


def _items(workdir: Path) -> dict[str, np.ndarray]:
    table = pq.read_table(workdir / "embed/items").to_pydict()
    pairs = zip(table["item_id"], table["embedding"], strict=True)
    return {item: np.array(vector) for item, vector in pairs if vector is not None}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_commands_of_a_page_run(page, finished, monkeypatch, capsys):
    """The workdir holds a finished run, so what is asked for is what is new: other clusters, rankers, an export."""
    shop, chain = finished
    first, second, *_ = sorted(_items(chain.workdir))
    monkeypatch.chdir(shop.parent)
    values = {"DIR": str(shop), "W": str(chain.workdir), "U": "u1", "200": "6", "1000": "6"}
    commands = commands_in(page)
    assert commands
    for words in commands:
        words = words.replace("ITEM ITEM", f"{first} {second}").replace("ITEM", first)
        program.main([values.get(word, word) for word in shlex.split(words)[1:]])
    assert "Traceback" not in capsys.readouterr().err


def test_similarity_in_another_model_is_that_of_our_rankers(finished):
    """The function of the page against the one that `simscore` calls, for candidates and histories drawn at random."""
    code = re.findall(r"```python\n(.*?)```", (ROOT / "docs/in-another-model.md").read_text(), re.DOTALL)[0]
    workdir, rng = finished[1].workdir, np.random.default_rng(1)
    page: dict = {}
    exec(code.replace('Path("W")', f"Path({str(workdir)!r})"), page)
    embeddings = _items(workdir)
    for _ in range(5):
        candidate, *history = rng.choice(sorted(embeddings), 5, replace=False)
        cosines = np.array([embeddings[item] @ embeddings[candidate] for item in history])
        deviations = (cosines - page["usual"]) / page["deviation"]
        ours = largest_and_mean(tf.constant(deviations[None, None], tf.float32), tf.ones([1, 1, 4], tf.bool))[0, 0]
        assert page["similarity"](candidate, [*history, "unknown"])[:2] == pytest.approx(
            ours.numpy().tolist(), rel=1e-4
        )
    assert page["similarity"](candidate, ["unknown"]) == (0, 0, 0)
