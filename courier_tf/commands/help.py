"""The help texts: the commands on one screen, the options of one command on one screen, all options with all words."""

import dataclasses
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Mapping

import courier_tf
from courier_tf.commands.chain_commands import Cluster, Embed, Ingest, Pretrain, Rank, Run
from courier_tf.commands.command import Command, Stage
from courier_tf.commands.registry import GROUPS
from courier_tf.escaping import printable
from courier_tf.settings import (
    ClusterSettings,
    EmbedSettings,
    IngestSettings,
    PretrainSettings,
    PreviousSettings,
    PromotionSettings,
    RankSettings,
    Settings,
)
from courier_tf.settings.monitoring import CanarySettings, DataDriftSettings, DriftSettings
from courier_tf.settings.parsing import Option, options_of
from courier_tf.settings.raw import RawSettings
from courier_tf.settings.shop import ShopSettings

WIDEST = 120
INDENT = "  "
MOST_CHOICES = 20  # Characters of choices that stand beside the name of an option.

#: Settings of a stage -> heading -> fields, in the order of the help. Fields that stand nowhere come first, under the
#: name of the stage.
HEADINGS: dict[type, dict[str, tuple[str, ...]]] = {
    IngestSettings: {
        "raw data: formats, and limits of what may be lost": (
            "items_table",
            "events_table",
            "users_table",
            "columns",
            "context_columns",
            "positive_events",
            "other_events",
            "timestamp_format",
            "timezone",
            "null_words",
            "page_view_gap",
            "duplicate_items",
            "follow_links",
            "max_reject_fraction",
            "max_unknown_item_fraction",
            "max_anonymous_fraction",
            "max_missing_photo_fraction",
            "max_merged_fraction",
        ),
        "negatives of a positives-only log": (
            "negatives",
            "negatives_per_positive",
            "negatives_pool_events",
            "negatives_seed",
        ),
    },
    PretrainSettings: {
        "the objective courier": (
            "reconstruction",
            "attention_scale",
            "contrast_with",
            "courier_losses",
            "history_length",
            "projection_head",
            "copied_targets",
            "accidental_negatives",
        ),
        "supervised pre-training": (
            "teacher",
            "supervised_steps",
            "supervised_batch_size",
            "supervised_learning_rate",
        ),
        "training": (
            "pretrain_steps",
            "pretrain_passes",
            "pretrain_batch_rows",
            "pretrain_learning_rate",
            "backbone_learning_rate_factor",
            "head_first_steps",
            "weight_decay",
            "checkpoint_every",
            "encode_chunk",
            "recompute",
            "precision",
            "replicas",
        ),
    },
    RankSettings: {
        "training": (
            "rank_epochs",
            "rank_batch_size",
            "rank_learning_rates",
            "rank_starts",
            "rank_checkpoint_every",
            "rank_precision",
            "rank_replicas",
        ),
    },
}
PREVIOUS = "start from a previous run"
#: Fields of any stage that say what it starts from.
PREVIOUS_FIELDS = ("previous", "previous_encoder", "previous_clusters", "previous_rankers", "init", "stay")
#: Command -> the fields of `PreviousSettings` that concern it.
OWN_PREVIOUS: dict[type[Command], tuple[str, ...]] = {
    Pretrain: ("previous", "previous_encoder"),
    Cluster: ("previous", "previous_clusters"),
    Rank: ("previous", "previous_rankers"),
}

#: The settings that `courier run --help` shows: those that real data needs first.
FIRST_SETTINGS = (
    "objective",
    "supervised_steps",
    "supervised_learning_rate",
    "clusters",
    "rank_modes",
    "rank_epochs",
    "rank_starts",
    "rank_min_item_impressions",
    "rank_min_user_page_views",
    "history_ties",
    "valid_from",
    "test_from",
)
#: Settings that `--help` leaves to `--help-all`: ablations, and what few change.
SELDOM = (
    "items_table",
    "events_table",
    "users_table",
    "follow_links",
    "shard_megabytes",
    "max_inline_gigabytes",
    "negatives_pool_events",
    "rank_list_columns",
    "rank_list_separator",
    "rank_nearest_items",
    "rank_redraw_ids",
    "rank_listwise_weight",
    "copied_targets",
    "accidental_negatives",
    "projection_head",
    "pretrain_passes",
    "drop_path",
    "weight_decay",
    "backbone_learning_rate_factor",
    "head_first_steps",
    "checkpoint_every",
    "recompute",
)
#: The same of options: few workdirs are on a store, few use MLflow, and few train on several workers.
FOR_FEW = ("local_copies", "mlflow", "workers", "index", "worker_timeout_seconds")
#: Command -> the settings that are its own.
OWN_SETTINGS: dict[type[Command], type] = {
    Ingest: IngestSettings,
    Pretrain: PretrainSettings,
    Embed: EmbedSettings,
    Cluster: ClusterSettings,
    Rank: RankSettings,
}
TITLES: dict[type, str] = {
    RawSettings: "raw data: formats, and limits of what may be lost",
    IngestSettings: "ingest",
    PretrainSettings: "pretrain",
    EmbedSettings: "embed",
    ClusterSettings: "cluster",
    RankSettings: "rank",
    PreviousSettings: PREVIOUS,
    PromotionSettings: "promotion checks",
    CanarySettings: "how much worse the canary may be",
    DriftSettings: "how far a log may be from training",
    DataDriftSettings: "how far data may be from those of the previous run",
    ShopSettings: "shop",
}
LOG_HELP = (
    ("--log-level NAME", "Show messages of this level and above: debug, info, warning, error. (info; -v is debug)"),
    ("--log-json", "Write messages to stderr as JSON, one object per line."),
)


def overview() -> str:
    """What `courier --help` prints: every command with one line."""
    about = f"COURIER {courier_tf.__version__}: visual features for rankers, learned from click logs."
    lines = ["usage: courier COMMAND [options]", "", about]
    left = max(len(name) for name, _ in LOG_HELP)
    for heading, group in GROUPS.items():
        lines += ["", f"{heading}:"]
        rows = [(word, summary_of(command.__doc__ or "")) for word, command in group.items()]
        lines += _table(rows, left)
    lines += ["", "for every command:"]
    lines += _table(
        [
            ("--help", "Show the options of the command."),
            ("--help-all", "Show all options of the command, with their full descriptions."),
            ("--version", "Show the version."),
            *LOG_HELP,
        ],
        left,
    )
    return "\n".join(lines)


def help_of(
    word: str, command: type[Command], defaults: Mapping[str, object], everything: bool, notes: Iterable[str] = ()
) -> str:
    """What `courier COMMAND --help` and `--help-all` print.

    Args:
        word: the command as it stands on the command line.
        command: its class.
        defaults: values by field name that replace the fields' own defaults.
        everything: show all options, with their whole description.
        notes: paragraphs below the options.
    """
    options = list(options_of(command, defaults))
    places = " ".join(option.flag for option in options if option.positional)
    needed = " ".join(
        f"{option.flag} {option.metavar}"
        for option in options
        if option.default is dataclasses.MISSING and not option.positional
    )
    usage = " ".join(part for part in ("usage: courier", word, places, needed, "[options]") if part)
    lines = [usage, "", *_wrapped(" ".join((command.__doc__ or "").split()), _width()), ""]
    shown = options if everything else [option for option in options if _is_own(command, option)]
    left = max(len(_left(option)) for option in shown)
    for heading, group in _grouped(command, shown).items():
        rows = [(_left(option), _right(option, everything)) for option in group]
        lines += [f"{heading}:", *_table(rows, left)]
    for note in notes:
        lines += _wrapped(note, _width())
    beam = " Options of Apache Beam are passed on to it." if command.takes_beam_options else ""
    lines.append(f"Messages: -v, --log-level debug|info|warning|error, --log-json.{beam}")
    if len(shown) < len(options):
        lines.append(f"'courier {word} --help-all' shows more settings, including those of other stages.")
    return "\n".join(lines)


def _is_own(command: type[Command], option: Option) -> bool:
    """Whether `--help` shows an option of a command, rather than `--help-all` alone."""
    if option.name in FOR_FEW:
        return False
    if not issubclass(command, Stage) or option.name == "seed" or option.owner not in _STAGE_SETTINGS:
        return True
    if command is Run:
        return option.name in (*FIRST_SETTINGS, *PREVIOUS_FIELDS)
    is_often_needed = option.owner is OWN_SETTINGS.get(command) and option.name not in SELDOM
    return is_often_needed or option.name in OWN_PREVIOUS.get(command, ())


_STAGE_SETTINGS = (IngestSettings, PretrainSettings, EmbedSettings, ClusterSettings, RankSettings, PreviousSettings)


def _grouped(command: type[Command], options: Iterable[Option]) -> dict[str, list[Option]]:
    """Heading -> options, both in the order of the help."""
    groups: dict[str, list[Option]] = {}
    for option in sorted(options, key=lambda option: _order(command, option)):
        groups.setdefault(_heading(command, option), []).append(option)
    return groups


def _heading(command: type[Command], option: Option) -> str:
    if option.owner is command or issubclass(command, option.owner) or option.owner is Settings:
        return "workdir" if issubclass(command, Stage) else "options"
    if option.name in PREVIOUS_FIELDS:
        return PREVIOUS
    if command is Run and option.name in FIRST_SETTINGS:
        return "first settings to consider on real data"
    for heading, names in HEADINGS.get(option.owner, {}).items():
        if option.name in names:
            return heading if OWN_SETTINGS.get(command) is option.owner else f"{TITLES[option.owner]}: {heading}"
    return TITLES[option.owner]


def _order(command: type[Command], option: Option) -> tuple[int, ...]:
    """The place of an option in the help: its own options, settings by stage, and last what a run starts from."""
    if option.name in PREVIOUS_FIELDS:
        return (2, PREVIOUS_FIELDS.index(option.name))
    if issubclass(command, option.owner) or option.owner is Settings:
        return (0, option.default is not dataclasses.MISSING)
    headings = [name for names in HEADINGS.get(option.owner, {}).values() for name in names]
    place = headings.index(option.name) + 1 if option.name in headings else 0
    return (1, list(TITLES).index(option.owner), place)


def _left(option: Option) -> str:
    if option.default is True:
        return option.flag.replace("--", "--[no-]", 1)
    return f"{option.flag} {_value(option)}".rstrip()


def _value(option: Option) -> str:
    """What stands for the value: the choices where they are short, else a placeholder."""
    choices = "|".join(option.choices)
    return choices if choices and len(choices) <= MOST_CHOICES else option.metavar


def _right(option: Option, everything: bool) -> str:
    parts = [option.text if everything else summary_of(option.text)]
    if option.choices and _value(option) == option.metavar and not all(name in parts[0] for name in option.choices):
        parts.append(f"One of {', '.join(option.choices)}.")
    default = option.default
    told = default is None or default == () or isinstance(default, bool) or "Default:" in parts[0]
    if default is not dataclasses.MISSING and not told:
        shown = " ".join(map(str, default)) if isinstance(default, tuple) else default
        parts.append(f"({printable(shown)})")  # It may come from the settings of a workdir.
    return " ".join(parts)


def summary_of(text: str) -> str:
    """The first sentence, in one line."""
    words = " ".join(text.split())
    first, stop, rest = words.partition(". ")
    return first + "." if stop else words


def _table(rows: Iterable[tuple[str, str]], left: int) -> Iterator[str]:
    """Two columns, the left one as wide as given, the right one wrapped."""
    for name, text in rows:
        first, *others = _wrapped(text, _width() - left - 2 * len(INDENT)) or [""]
        yield f"{INDENT}{name:<{left}}{INDENT}{first}".rstrip()
        yield from (" " * (left + 2 * len(INDENT)) + line for line in others)


def _wrapped(text: str, width: int) -> list[str]:
    return textwrap.wrap(text, max(width, 20), break_long_words=False, break_on_hyphens=False)


def _width() -> int:
    return min(shutil.get_terminal_size().columns, WIDEST)
