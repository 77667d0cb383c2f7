"""Names in the settings that stand for nothing, and options without effect, are refused before any stage begins."""

import logging
from collections.abc import Collection

from courier_tf.files.places import Place
from courier_tf.settings import PretrainSettings, Settings, SettingsError
from courier_tf.settings.stages import AUTO_FEATURES

LOG = logging.getLogger(__name__)
HEAD = "head"  # The value of `trainable` with which the backbone is frozen.
#: The pre-training settings that have an effect on heads alone, and those that have one on encoders of photos alone.
OF_HEADS, OF_PHOTOS = ("features", "head"), ("recompute", "head_first_steps", "backbone_learning_rate_factor")
#: The numbers of supervised pre-training, which scripts give together with those of everything else.
OF_SUPERVISED = ("supervised_steps", "supervised_batch_size", "supervised_learning_rate")


def require_known_names(settings: Settings) -> None:
    """Refuses names in the settings that stand for nothing, before any stage begins.

    The settings lie below the rooms that know these names, so they cannot check them.

    Raises:
        SettingsError: names the setting, the value and what is known.
    """
    from courier_tf.pretrain.encoder import require_backbone
    from courier_tf.pretrain.objectives.distillation import Distillation
    from courier_tf.pretrain.objectives.registry import require_objective
    from courier_tf.ranking.visual_features.registry import require_known

    require_backbone(settings.pretrain)
    require_objective(settings.pretrain)  # Some objectives ask the backbone.
    Distillation.check(settings.pretrain)
    require_known(settings.rank.rank_modes)
    if settings.pretrain.trainable == HEAD:
        _require_features(settings.pretrain)


def require_pretrained(settings: PretrainSettings) -> None:
    """Refuses backbones and features whose weights are not on this machine and cannot be fetched.

    Raises:
        SettingsError: names the weights and the way out.
    """
    from courier_tf.backbone.architectures import architecture, is_pretrained
    from courier_tf.backbone.checkpoints import CheckpointError
    from courier_tf.features.sources import PART, candidates_of, sources_of

    names = [settings.backbone]
    if settings.trainable == HEAD:
        names = [name for names in candidates_of(settings.features, settings.backbone) for name in names]
    elif settings.teacher:
        names += sources_of(settings.teacher, "teacher")
    for name in dict.fromkeys(name.partition(PART)[0] for name in names):
        try:
            if is_pretrained(name):
                architecture(name).require_pretrained()
        except CheckpointError as error:
            raise SettingsError(str(error)) from error


def _require_features(settings: PretrainSettings) -> None:
    """Refuses settings of heads that stand for nothing, and those that only encoders of photos have.

    Raises:
        SettingsError: names the setting, the value and the way out.
    """
    from courier_tf.backbone.architectures import is_pretrained
    from courier_tf.features.feature_error import FeatureError
    from courier_tf.features.sources import candidates_of

    default = PretrainSettings().backbone
    if settings.backbone != default and not is_pretrained(settings.backbone):
        raise SettingsError(
            f"backbone={settings.backbone} has to learn, but trainable={HEAD} trains a head on frozen features: add "
            f"--trainable all (--preset swin has settings for it), or leave the backbone at {default}"
        )
    if settings.init:
        raise SettingsError(
            f"init={settings.init} gives a backbone weights to learn on from, but trainable={HEAD} trains a head on "
            "frozen features: add --trainable all"
        )
    try:
        candidates_of(settings.features, settings.backbone)
    except FeatureError as error:
        raise SettingsError(str(error)) from error


def require_effect(settings: Settings, given: Collection[str]) -> None:
    """Refuses options of pre-training that somebody has given although they change nothing, or warns of them.

    Settings of a preset or of a workdir may be there for another choice of `trainable`, so they do not count. The
    default does not count either: it asks for nothing.

    >>> require_effect(Settings(), {"trainable", "head"})
    >>> require_effect(Settings(pretrain=PretrainSettings(head="mlp")), {"trainable", "head"})
    Traceback (most recent call last):
    ...
    courier_tf.settings.checked.SettingsError: head=mlp has no effect: trainable=all trains ...

    Args:
        settings: those of the run.
        given: names of the settings that stand on the command line.

    Raises:
        SettingsError: names the settings, why they have no effect, and the way out.
    """
    pretrain, default = settings.pretrain, PretrainSettings()
    previous = settings.previous.encoder()
    asked = [name for name in given if getattr(pretrain, name, None) != getattr(default, name, None)]
    if pretrain.trainable != HEAD:
        why = f"trainable={pretrain.trainable} trains an encoder of photos, without features: add --trainable {HEAD}"
        _refuse(pretrain, asked, OF_HEADS, why)
    else:
        why = f"trainable={HEAD} trains a head on frozen features, and no backbone: add --trainable all"
        _refuse(pretrain, asked, OF_PHOTOS, why)
        if previous:
            why = f"the head of previous_encoder={previous} names its features: add --previous-encoder none"
            _refuse(pretrain, asked, ("backbone",), why)
        elif AUTO_FEATURES not in pretrain.features:
            named = " ".join(pretrain.features)
            why = f"trainable={HEAD} takes features={named}, whatever the backbone is: name it there"
            _refuse(pretrain, asked, ("backbone",), why)
    if previous:
        why = (
            f"a teacher teaches a new encoder, but previous_encoder={previous} is to go on: add --previous-encoder none"
        )
        _refuse(pretrain, asked, ("teacher",), why)
    useless = [name for name in OF_SUPERVISED if name in asked]
    instead = _instead_of_supervised(pretrain, previous) if useless else None
    if instead:
        LOG.warning("%s: no effect, as %s has no supervised pre-training", ", ".join(useless), instead)


def _instead_of_supervised(settings: PretrainSettings, previous: Place | None) -> str | None:
    """The setting because of which there is no supervised pre-training; None where there is."""
    from courier_tf.backbone.architectures import is_pretrained

    if settings.trainable == HEAD:
        return f"trainable={HEAD}"
    if previous:
        return f"previous_encoder={previous}"
    if settings.init:
        return f"init={settings.init}"
    return f"backbone={settings.backbone}" if is_pretrained(settings.backbone) else None


def _refuse(settings: PretrainSettings, asked: Collection[str], names: Collection[str], why: str) -> None:
    useless = [name for name in names if name in asked]
    if useless:
        values = [getattr(settings, name) for name in useless]
        texts = [" ".join(value) if isinstance(value, tuple) else value for value in values]
        named = ", ".join(f"{name}={text}" for name, text in zip(useless, texts, strict=True))
        has, them = ("has", "it") if len(useless) == 1 else ("have", "them")
        raise SettingsError(f"{named} {has} no effect: {why}, or leave {them} out")
