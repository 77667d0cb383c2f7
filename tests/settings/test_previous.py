"""What a run starts from: one option for all stages, and one for each."""

from pathlib import Path

import pytest

from courier_tf.settings import PreviousSettings, Settings, SettingsError, with_values


def test_one_option_names_all_stages_and_others_take_precedence():
    assert PreviousSettings().directories() == {}
    every = PreviousSettings(previous="W/promoted")
    assert every.directories() == {
        "previous_encoder": Path("W/promoted/pretrain"),
        "previous_clusters": Path("W/promoted/cluster"),
        "previous_rankers": Path("W/promoted/rank"),
    }
    some = PreviousSettings(previous="W", previous_encoder="E", previous_clusters="none")
    assert (some.encoder(), some.clusters(), some.rankers()) == (Path("E"), None, Path("W/rank"))
    assert PreviousSettings(previous_encoder="E").directories() == {"previous_encoder": Path("E")}


@pytest.mark.parametrize("previous", [{"previous": "W"}, {"previous_encoder": "E"}])
def test_an_encoder_does_not_start_from_two_things(previous):
    with pytest.raises(SettingsError, match="init=w.pth and previous_encoder=.*: the encoder starts from one of them"):
        with_values(Settings(), {"init": "w.pth", **previous})
    settings = with_values(Settings(), {"init": "w.pth", **previous, "previous_encoder": "none"})
    assert settings.starts()["init"] == Path("w.pth")


def test_incremental_clusters_need_earlier_ones():
    for previous in ({}, {"previous": "W", "previous_clusters": "none"}):
        with pytest.raises(SettingsError, match="algorithm=incremental needs earlier clusters"):
            with_values(Settings(), {"algorithm": "incremental", **previous})


def test_settings_are_read_as_they_were_written():
    settings = with_values(Settings(), {"previous": "W", "algorithm": "incremental", "rank_modes": ["none", "vector"]})
    assert Settings.from_json(settings.to_json()) == settings
