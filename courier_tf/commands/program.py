"""The command line: words to settings to calls."""

import argparse
import dataclasses
import difflib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro

import courier_tf
from courier_tf import schema
from courier_tf.commands.options import (
    COMMANDS,
    Experiment,
    Export,
    Ingest,
    LoadTest,
    Predict,
    Rank,
    Run,
    Serve,
    Shop,
    Similar,
    Skew,
    Stage,
    command_name,
)
from courier_tf.settings import Settings, SettingsError
from courier_tf.settings.presets import PRESETS


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs one command; without `arguments`, that of this process."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    beams: list[str] = []
    try:
        if arguments[:1] and arguments[0] in ("run", "ingest", "embed"):
            from beam_jobs.options import split_beam_options

            arguments, beams = split_beam_options(arguments)
        command = _parse(arguments)
        if isinstance(command, Stage):
            _require_usable(command.workdir, getattr(command, "raw", None))
        if isinstance(command, Experiment):
            _run_experiment(command, arguments)
        else:
            _run(command, beams)
    except (ValueError, RuntimeError) as error:
        # What the project raises on purpose says what to do; anything else deserves its traceback.
        if type(error).__module__.split(".")[0] not in ("courier_tf", "beam_jobs", "serving"):
            raise
        sys.exit(f"courier: {error}")


def _require_usable(workdir: Path, raw: str | None) -> None:
    workdir = workdir.resolve()
    if set(str(workdir)) & set("*?[]"):
        raise SettingsError(f"the workdir {workdir}: TensorFlow takes *, ?, [ and ] in a path for a pattern")
    # What is written below the raw folder would be other data, to be read anew at each run.
    if raw is not None and Path(raw).resolve() in [workdir, *workdir.parents]:
        raise SettingsError(f"the workdir {workdir} lies in the raw folder {raw}: choose one outside")


def _parse(arguments: list[str]) -> object:
    names = {command_name(command): command for command in COMMANDS}
    if arguments and not arguments[0].startswith("-") and arguments[0] not in names:
        nearest = difflib.get_close_matches(arguments[0], names, 1)
        hint = f" Did you mean '{nearest[0]}'?" if nearest else ""
        sys.exit(f"courier: there is no command '{arguments[0]}'.{hint} Commands: {', '.join(names)}.")
    settings = _defaults(arguments)
    choices = []
    for name, command in names.items():
        default = {"default": command(workdir=tyro.MISSING, settings=settings)} if issubclass(command, Stage) else {}
        about = (command.__doc__ or "").strip()
        choices.append(Annotated[command, tyro.conf.subcommand(name, description=about, **default)])
    union = choices[0]
    for choice in choices[1:]:
        union = union | choice
    return tyro.cli(
        union,
        prog="courier",
        args=arguments,
        description=f"COURIER {courier_tf.__version__}: click logs and product photos to a CTR model that sees.",
    )


def _defaults(arguments: list[str]) -> Settings:
    """The settings that the other options change: of the preset named, else of the workdir, else of `demo`."""
    early = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    early.add_argument("--preset", choices=list(PRESETS))
    early.add_argument("--workdir", type=Path)
    found, _ = early.parse_known_args(arguments[1:])
    if found.preset:
        return PRESETS[found.preset]
    file = found.workdir and found.workdir / "settings.json"
    return Settings.from_json(file.read_text()) if file and file.exists() else PRESETS["demo"]


def _run(command: object, beams: list[str]) -> None:
    if isinstance(command, Shop):
        from courier_tf.shop import make_shop

        print(make_shop(command.out, command.settings))
    elif isinstance(command, Predict):
        from courier_tf.commands.predict import predict

        predict(command.workdir, command.user, command.candidates, command.history)
    elif isinstance(command, Similar):
        from courier_tf.commands.similar import similar

        similar(command.workdir, command.items, command.number, command.search)
    elif isinstance(command, Serve):
        from courier_tf.commands.serve import serve

        folders = (command.workdir / schema.BUNDLE_FOLDER, command.workdir / schema.MODELS_FOLDER)
        serve(*folders, command.port, command.rest_port, command.server)
    elif isinstance(command, LoadTest):
        _load_test(command)
    elif isinstance(command, Skew):
        from courier_tf.commands.skew import skew

        skew(command.workdir, command.log)
    elif isinstance(command, Export) and (command.roll_back or command.withdraw):
        from courier_tf.exporting import promotion

        if command.roll_back:
            promotion.roll_back(command.workdir, command.server)
        if command.withdraw:
            promotion.withdraw(command.workdir, command.server)
    elif isinstance(command, Stage):
        _run_stage(command, beams)


def _run_experiment(command: Experiment, arguments: Sequence[str]) -> None:
    from courier_tf.chain import Chain
    from courier_tf.experiment.claims import ClaimsError, read_claims
    from courier_tf.experiment.grid import grid_of
    from courier_tf.experiment.run_grid import TABLES_FILE, results_folder, run_grid

    grid = grid_of(command.grid)
    claims = read_claims(command.claims, grid) if command.claims else []
    # By their words: a value that is the default is given, too.
    words = {word.partition("=")[0].removeprefix("--").replace("-", "_") for word in arguments if word[:2] == "--"}
    given = {name for name in command.settings.by_name() if words & {name, f"no_{name}"}}
    if given & grid.named():
        raise SettingsError(f"{sorted(given & grid.named())}: the grid names these itself; seeds are given by --seeds")
    Chain(command.workdir, command.settings).write_settings()
    if command.seeds:
        grid = dataclasses.replace(grid, seeds=command.seeds)
    tables = results_folder(command.workdir, grid, command.final) / TABLES_FILE
    try:
        run_grid(
            grid,
            command.raw,
            command.workdir,
            command.settings,
            final=command.final,
            parallel=command.parallel,
            until=command.until,
            claims=claims,
        )
    except ClaimsError:
        print(tables.read_text())
        raise
    print(tables.read_text())


def _load_test(command: LoadTest) -> None:
    from courier_tf.commands import load_test
    from courier_tf.exporting.versions import newest_version

    models = command.workdir / schema.MODELS_FOLDER
    names = load_test.chosen_models(command.workdir / schema.BUNDLE_FOLDER, models, command.models)
    if command.log:
        requests, kind = load_test.logged_requests(command.log, names, command.label), load_test.signature_of
    else:
        versions = [newest_version(models / name) for name in names]
        requests = load_test.warm_up_requests([version for version in versions if version], command.label)
        kind = load_test.kind_of
    settings = (command.rate, command.seconds, command.timeout_seconds)
    server = load_test.server_at(command.target)  # Before it may have broken down.
    sent = load_test.load_test(command.target, requests, *settings, kind=kind)
    out = command.out or command.workdir / schema.BUNDLE_FOLDER / "load_test"
    load_test.report(sent, command.target, server, command.rate, command.seconds, out)


def _run_stage(command: Stage, beams: list[str]) -> None:
    from courier_tf.chain import Chain
    from courier_tf.commands import summary

    chain = Chain(command.workdir, command.settings, beams)
    chain.write_settings()
    stage = type(command).__name__.lower()
    if isinstance(command, Run):
        summary.report(chain.run(command.raw, command.final, command.server), command.workdir)
    elif isinstance(command, Ingest):
        chain.ingest(command.raw)
    else:
        names = ("scann", "server", "warm_up_log") if isinstance(command, Export) else ()
        options = {name: getattr(command, name) for name in names}
        getattr(chain, stage)(**options)
        if isinstance(command, Export) and command.promote:
            from courier_tf.exporting.promotion import promote

            promote(command.workdir, command.gate, command.server, command.promote_withdrawn)
        if isinstance(command, Rank):
            summary.report(chain.report(command.final), command.workdir)
