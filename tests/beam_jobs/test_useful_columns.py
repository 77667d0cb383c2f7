"""The columns that are worth learning from, counted in parts."""

import random

from beam_jobs import useful_columns as module
from beam_jobs.checks import Item
from beam_jobs.splits import Splits


def item(available_from, **columns):
    return Item("i", "", "", available_from, columns, ("f", 1))


def test_values_are_those_of_a_plain_count(monkeypatch):
    monkeypatch.setattr(module, "MOST_VALUES", 20)
    rng = random.Random(0)
    sizes = {"category": 1, "few": 3, "some": 19, "most": 20, "many": 21, "id": 400, "empty": 1}
    rows = [
        {name: str(rng.randrange(size)) if name != "empty" else "" for name, size in sizes.items()} for _ in range(300)
    ]
    rows += [{**dict.fromkeys(sizes, ""), "most": str(n), "many": str(n)} for n in range(21) if n < 20]
    rows += [{"many": "20"}]
    combine = module.CountValues()
    parts = [combine.create_accumulator() for _ in range(7)]
    for row in rows:
        n = rng.randrange(7)
        parts[n] = combine.add_input(parts[n], row)
    assert all(len(values) <= 21 for _, columns in parts for values in columns.values())
    items, counted = combine.extract_output(combine.merge_accumulators(parts))
    assert items == len(rows)
    for name in sizes:
        assert counted[name] == min(21, len({row.get(name, "") for row in rows} - {""}))
    assert module.useful_columns(sizes, (items, counted)) == ["category", "few", "some", "most"]
    assert module.useful_columns(sizes, (6, counted)) == ["category", "few"]


def test_items_of_train_alone():
    splits = Splits(100, 200)

    def of(available_from, *seconds):
        element = (
            "i",
            {"rows": [item(available_from, brand="b")], "days": [(0, (1, 0, second)) for second in seconds]},
        )
        return list(module.columns_of_train(element, splits))

    assert of(99) == of(None, 99) == of(150, 170, 20) == [{"brand": "b"}]
    assert of(100) == of(None, 100) == of(None) == []
    assert list(module.columns_of_train(("i", {"rows": [item(1)], "days": []}), None)) == []
