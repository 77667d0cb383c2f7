"""Settings of how raw files are read."""

import pytest

from courier_tf import schema
from courier_tf.settings import IngestSettings, SettingsError
from courier_tf.settings.raw import RawSettings


@pytest.mark.parametrize(
    ("values", "part"),
    [
        ({"columns": ("item_id",)}, "'item_id' is not NAME=COLUMN"),
        ({"columns": ("sku=ProductID",)}, "NAME is one of item_id"),
        ({"columns": ("items.clicked=x",)}, "items.clicked=x"),
        ({"columns": ("item_id= ",)}, "is not NAME=COLUMN"),
        ({"columns": ("item_id=a", "item_id=b")}, "names a column twice"),
        ({"timestamp_format": "second"}, "neither a pattern"),
        ({"timezone": "Europe/Atlantis"}, "Europe/Atlantis"),
        ({"timezone": ""}, "timezone=''"),
        ({"timezone": "../passwd"}, "no time zone"),
        ({"page_view_gap": 0}, "page_view_gap"),
        ({"max_missing_photo_fraction": 1.5}, "max_missing_photo_fraction"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values, part):
    with pytest.raises(SettingsError, match=part.replace("(", r"\(")):
        IngestSettings(**values)


def test_a_column_of_one_table_comes_before_that_of_both():
    settings = RawSettings(columns=("item_id=ProductID", "events.item_id=sku", "clicked=none", "title=a=b"))
    assert settings.column(schema.RAW_ITEMS, "item_id") == "ProductID"
    assert settings.column(schema.RAW_EVENTS, "item_id") == "sku"
    assert settings.column(schema.RAW_ITEMS, "title") == "a=b"
    assert settings.column(schema.RAW_EVENTS, "user_id") is None


def test_positive_events_may_be_joined_by_commas():
    assert RawSettings(positive_events=("purchase,add_to_cart", "buy")).positive_events == (
        "purchase",
        "add_to_cart",
        "buy",
    )
