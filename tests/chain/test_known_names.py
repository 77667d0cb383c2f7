"""Options without effect are refused where somebody has given them, and nowhere else."""

import dataclasses

import pytest

from courier_tf.chain.encoder_stages import NOT_OF_HEADS, UNSET_OF_HEADS, settings_of_heads
from courier_tf.chain.known_names import OF_HEADS, OF_PHOTOS, OF_SUPERVISED, require_effect
from courier_tf.settings import PretrainSettings, Settings, SettingsError, with_values
from courier_tf.settings.presets import PRESETS

HEAD, ALL = {"trainable": "head"}, {"trainable": "all"}
PRETRAINED = "efficientnetlite_b0_imagenet"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        (
            ALL | {"features": ("pixels", "colour")},
            "features=pixels colour has no effect: trainable=all .*head, or",
        ),
        (ALL | {"head": "mlp"}, "head=mlp has no effect"),
        ({"trainable": "last_1", "head": "mlp"}, "head=mlp has no effect: trainable=last_1 trains"),
        (HEAD | {"recompute": True}, "recompute=True has no effect: trainable=head .*--trainable all, or leave it out"),
        (
            HEAD | {"head_first_steps": 3, "backbone_learning_rate_factor": 0.5},
            "head_first_steps=3, backbone_learning_rate_factor=0.5 have no effect: .* or leave them out",
        ),
        (HEAD | {"backbone": PRETRAINED, "features": ("pixels",)}, f"backbone={PRETRAINED} .*takes features=pixels"),
        (HEAD | {"backbone": PRETRAINED, "previous_encoder": "P"}, f"backbone={PRETRAINED} .*previous_encoder=P names"),
        (ALL | {"teacher": "pixels", "previous_encoder": "P"}, "teacher=pixels .*previous_encoder=P is to go on"),
        (ALL | {"teacher": "pixels", "previous": "W"}, "teacher=pixels .*previous_encoder=W/pretrain is to go on"),
    ],
)
def test_an_option_without_effect_is_refused_if_it_was_given(values, told):
    settings = with_values(Settings(), values)
    with pytest.raises(SettingsError, match=f"^{told}") as raised:
        require_effect(settings, set(values))
    assert "\n" not in str(raised.value)
    # The workdir or a preset may have them for another choice, which the command line changes.
    require_effect(settings, {"trainable", "previous_encoder", "previous"})


@pytest.mark.parametrize(
    "values",
    [
        HEAD | {"features": ("pixels",), "head": "mlp", "backbone": "nano"},
        HEAD | {"backbone": PRETRAINED},  # `auto` takes it.
        HEAD | {"recompute": False, "head_first_steps": None},
        ALL | {"features": ("auto",), "head": "linear"},
        ALL | {"recompute": True, "head_first_steps": 3, "backbone_learning_rate_factor": 0.5, "supervised_steps": 9},
        ALL | {"teacher": "pixels", "previous": "W", "previous_encoder": "none"},
    ],
)
def test_options_with_an_effect_and_defaults_are_taken(values, caplog):
    require_effect(with_values(Settings(), values), {*values, "seed", "workdir", "clusters"})
    assert not caplog.text


@pytest.mark.parametrize("preset", PRESETS)
def test_no_preset_trips(preset):
    require_effect(PRESETS[preset], {"preset", "workdir", "raw", "trainable"})


@pytest.mark.parametrize(
    ("other", "instead"),
    [
        (HEAD, "trainable=head"),
        (ALL | {"init": "W.pth"}, "init=W.pth"),
        (ALL | {"previous_encoder": "P"}, "previous_encoder=P"),
        (ALL | {"backbone": PRETRAINED}, f"backbone={PRETRAINED}"),
    ],
)
def test_numbers_of_supervised_pre_training_are_warned_of(caplog, other, instead):
    values = other | {"supervised_steps": 9, "supervised_learning_rate": 0.1}
    require_effect(with_values(Settings(), values), set(values))
    told = f"supervised_steps, supervised_learning_rate: no effect, as {instead} has no supervised pre-training"
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [("WARNING", told)]


def test_what_has_no_effect_on_heads_trains_none_again():
    """And the results of earlier versions, which have recorded some of it as not set, stay current."""
    before = settings_of_heads(PretrainSettings())
    assert {name: before[name] for name in UNSET_OF_HEADS} == dict.fromkeys(UNSET_OF_HEADS)
    assert before.keys() == {field.name for field in dataclasses.fields(PretrainSettings)} - set(NOT_OF_HEADS)
    others = {"recompute": True, "head_first_steps": 3, "backbone_learning_rate_factor": 0.5, "supervised_steps": 9}
    assert others.keys() <= {*OF_PHOTOS, *OF_SUPERVISED} and {*OF_PHOTOS, *OF_SUPERVISED} <= {
        *NOT_OF_HEADS,
        *UNSET_OF_HEADS,
    }
    assert settings_of_heads(PretrainSettings(**others)) == before
    for name, value in {"head": "mlp", "features": ("pixels",)}.items():
        assert name in OF_HEADS and settings_of_heads(PretrainSettings(**{name: value})) != before
