"""What `courier predict` says of ids that training did not know; the answer itself is the served one."""

import dataclasses
import json
import shutil

import numpy as np

from courier_tf.commands.predict import NEW_ITEM, NEW_USER, NOT_IN_CATALOGUE, KnownIds, predict
from courier_tf.exporting.versions import newest_version
from courier_tf.ranking.ranker_files import load_plan
from courier_tf.workdir.artefacts import ARTEFACT_FILE
from serving.bundle.graph_model import GraphModel
from tests.sealing import seal_description
from tests.served_shop import loaded_once, shop, workdir  # noqa: F401 (fixtures)


def test_items_and_users_that_training_did_not_know_are_marked(shop, capsys, monkeypatch):  # noqa: F811 (fixture)
    monkeypatch.setenv("COLUMNS", "80")
    found = predict(shop.workdir, "u11", ["i001", "no\x1b[2Jpe"], ["i002", "gone", "[b]"])
    printed = capsys.readouterr().out
    assert all(len(line) <= 80 for line in printed.splitlines()) and "\x1b" not in printed
    words = " ".join(printed.replace("│", " ").split())
    row = next(line for line in printed.splitlines() if "i001" in line)
    assert row.split("│")[3].strip() == "", "training knew it"
    assert NOT_IN_CATALOGUE.partition(":")[0] in words and r"no\x1b[2Jpe" in printed and NEW_USER in words
    assert "2 of 3 history items are not in the catalogue: gone, [b]" in words
    served = GraphModel(newest_version(shop.workdir / "models" / "ctr_ranker"))
    history = np.array([[b"i002", b"gone", b"[b]"]] * 2, object)
    answer = served(user_id=np.array([b"u11"] * 2, object), history_item_ids=history, item_id=[b"i001", b"no\x1b[2Jpe"])
    np.testing.assert_array_equal(found, answer["probability"])
    predict(shop.workdir, "u1", ["i001"], ["i002"])
    assert "unknown" not in capsys.readouterr().out


def test_an_item_without_an_embedding_of_its_own_is_known_by_its_columns(shop):  # noqa: F811 (fixture)
    plan = load_plan(shop.stages.ranker)
    codes = plan.catalogue.codes.copy()
    codes[3, plan.catalogue.names.index("item")] = 0
    known = KnownIds.of(plan._replace(catalogue=dataclasses.replace(plan.catalogue, codes=codes)))
    notes = [known.item_note(item) for item in ("i002", "i003", "i003 ", "")]
    assert notes == ["", NEW_ITEM, NOT_IN_CATALOGUE, NOT_IN_CATALOGUE]
    assert known.knows_user("u1") and not known.knows_user("u9")
    hashed = dataclasses.replace(plan.architecture, user_buckets=50)
    assert KnownIds.of(plan._replace(architecture=hashed)).knows_user("u9"), "nobody can tell"


def test_nothing_is_marked_by_what_another_ranker_knew(workdir, capsys, caplog):  # noqa: F811 (fixture)
    file = workdir / "rank" / ARTEFACT_FILE
    file.write_text(json.dumps(json.loads(file.read_text()) | {"fingerprint": "another"}))
    seal_description(file.parent)
    predict(workdir, "u11", ["nope"], [])
    assert "of another rank stage" in caplog.text and "catalogue" not in capsys.readouterr().out
    shutil.rmtree(workdir / "rank")
    predict(workdir, "u11", ["nope"], [])
    assert "rank holds no finished result" in caplog.text
