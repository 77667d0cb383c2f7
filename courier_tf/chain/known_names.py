"""Names in the settings that stand for nothing are refused before any stage begins."""

from courier_tf.settings import PretrainSettings, Settings, SettingsError

HEAD = "head"  # The value of `trainable` with which the backbone is frozen.


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

    require_objective(settings.pretrain)
    require_backbone(settings.pretrain)
    Distillation.check(settings.pretrain)
    require_known(settings.rank.rank_modes)
    if settings.pretrain.trainable == HEAD:
        _require_features(settings.pretrain)


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
