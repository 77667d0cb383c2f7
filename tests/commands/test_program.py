"""The command line: words that make no sense, presets, what is started at once."""

import json
import os
import subprocess
import sys

import pytest

from courier_tf.commands import program
from courier_tf.commands.registry import COMMANDS
from courier_tf.settings.presets import PRESETS


@pytest.mark.parametrize(
    "words, code, answer",
    [
        (["rum"], 2, "courier: there is no command 'rum'. Did you mean 'run'?"),
        (["--rum"], 2, "courier: there is no option '--rum' before the command"),
        (
            ["run", "--raw", "x", "--workdir", "y", "--cluster", "5"],
            2,
            "courier: there is no option '--cluster'. Did you mean '--clusters'?\n",
        ),
        (["rank", "--workdri", "y"], 2, "there is no option '--workdri'. Did you mean '--workdir'?"),
        (["rank", "--workdir", "y", "--rank-category-gat"], 2, "Did you mean '--rank-category-gate'?"),
        (["rank", "--workdir", "y", "--xyz", "1"], 2, "there is no option '--xyz'. 'courier rank --help'"),
        (["cluster", "--workdir", "y", "5"], 2, "'5' belongs to no option"),
        (["cluster"], 2, "courier: --workdir must be given"),
        (["run", "--final"], 2, "courier: --workdir, --raw must be given"),
        (["experiment", "--workdir", "y", "--raw", "x"], 2, "courier: GRID must be given"),
        (["shop"], 2, "courier: OUT must be given"),
        (["cluster", "--workdir", "y", "--clusters"], 2, "--clusters: expected one argument"),
        (["cluster", "--workdir", "y", "--clusters", "many"], 2, "--clusters: 'many' is not a whole number"),
        (["cluster", "--workdir", "y", "--stay", "long"], 2, "--stay: 'long' is not a number"),
        (["cluster", "--workdir", "y", "--search", "scan"], 2, "--search: there is no 'scan'. Did you mean 'scann'?"),
        (["cluster", "--workdir", "y", "--preset", "dem"], 2, "Did you mean 'demo'? Choices: tiny, demo"),
        (["cluster", "--workdir", "y", "--clusters", "1e99"], 2, "--clusters: '1e99' is not a whole number"),
        (["cluster", "--workdir", "y", "--clusters", "٣"], 2, "--clusters: '٣' is not a whole number"),
        (
            ["cluster", "--workdir", "y", "--clusters", "9" * 9999],
            2,
            "999... (9,999 characters)' is not a whole number",
        ),
        (["cluster", "--workdir", ""], 2, "--workdir: the value is empty"),
        (["similar", "--workdir", "y", "--items"], 2, "--items: expected at least one argument"),
        (["similar", "--workdir", "y", "--items", ""], 2, "--items: the value is empty"),
        (["predict", "--workdir", "y", "--user", "a\udcff", "--candidates", "b"], 2, "--user: 'a\\udcff' is no UTF-8"),
        (["shop", ""], 2, "OUT: the value is empty"),
        (["cluster\x1b[2J"], 2, "there is no command 'cluster\\x1b[2J'"),
        (["cluster", "--workdir", "y", "--log-level", "warn"], 2, "--log-level: there is no 'warn'. Did you mean"),
        (["cluster", "--workdir", "{}", "--clusters", "9" * 20], 1, "clusters must lie between 1 and 1000000"),
        (
            ["cluster", "--workdir", "{}", "--stay", "nan"],
            1,
            "stay must lie between 0.0 and 1.0, but is nan (option --stay)",
        ),
        (["pretrain", "--workdir", "{}", "--temperature", "inf"], 1, "temperature must lie between"),
        (["rank", "--workdir", "{}", "--seed", "-1"], 1, "seed must lie between 0 and"),
        (["rank", "--workdir", "{}\x1b[2J*"], 1, "in a path for a pattern"),
        (["ingest", "--raw", "x", "--workdir", "{}", "--shards", "10000000"], 1, "shards must lie between 1 and 10000"),
        (["ingest", "--raw", "x", "--workdir", "{}", "--valid-from", "9999-99-99"], 1, "is not a date YYYY-MM-DD"),
        (["ingest", "--raw", "x", "--workdir", "{}", "--valid-from", "2020-W01-1"], 1, "is not a date YYYY-MM-DD"),
        (["ingest", "--raw", "x", "--workdir", "{}", "--test-from", "２０２０-01-01"], 1, "is not a date YYYY-MM-DD"),
        (
            ["ingest", "--raw", "x", "--workdir", "{}", "--valid-from", "2020-01-02", "--test-from", "2020-01-02"],
            1,
            "valid_from=2020-01-02 must be before test_from=2020-01-02",
        ),
        (["similar", "--workdir", "{}", "--items", "x", "--number", "-1"], 1, "--number must lie between 1 and"),
        (["serve", "--workdir", "{}", "--port", "99999"], 1, "--port must lie between 1 and 65535"),
        (["load-test", "--workdir", "{}", "--rate", "nan"], 1, "--rate must lie between 0.001 and"),
        (["load-test", "--workdir", "{}", "--seconds", "1e99"], 1, "--seconds must lie between 0.1 and"),
        (["experiment", "clusters", "--raw", "x", "--workdir", "{}", "--parallel", "0"], 1, "--parallel must lie"),
        (["shop", "{}", "--items", "1000000000000"], 1, "items must lie between 1 and 1000000"),
        (["run", "--raw", "nowhere", "--workdir", "{}"], 1, "nowhere is empty or does not exist"),
        (["run", "--raw", "{}/..", "--workdir", "{}"], 1, "lies in the raw folder"),
        (["ingest", "--raw", "{}", "--workdir", "{}"], 1, "lies in the raw folder"),
        (["rank", "--workdir", "{}[1]"], 1, "in a path for a pattern"),
        (["run", "--raw", "x", "--workdir", "{}", "--history-kept", "9"], 1, "rank_history_length=20, but histories"),
        (["cluster", "--workdir", "{}"], 1, "Run 'courier ingest' first"),
        (["shop", "{}", "--visual-signal", "7"], 1, "visual_signal must lie between 0 and 1"),
        (["pretrain", "--workdir", "{}", "--checkpoint-every", "0"], 1, "checkpoint_every must lie between 1 and"),
        (["pretrain", "--workdir", "{}", "--objective", "simcse", "--drop-path", "0"], 1, "drop_path must be above 0"),
        (
            ["pretrain", "--workdir", "{}", "--trainable", "all", "--features", "pixels", "colour", "--head", "mlp"],
            1,
            "features=pixels colour, head=mlp have no effect: trainable=all trains an encoder of photos",
        ),
        (
            ["pretrain", "--workdir", "{}", "--recompute", "--head-first-steps", "3"],
            1,
            "recompute=True, head_first_steps=3 have no effect: trainable=head trains a head on frozen features",
        ),
        (["rank", "--workdir", "{}", "--rank-modes", "cluster_id_permuted"], 1, "rank_modes must name a mode that can"),
        (["rank", "--workdir", "{}", "--rank-modes", "none", "cluster_id+x"], 1, "there is no mode 'cluster_id+x'"),
    ],
)
def test_wrong_words_get_one_line(tmp_path, capsys, words, code, answer):
    with pytest.raises(program.ProgramExit) as stopped:
        program.main([word.format(tmp_path / "w") for word in words])
    printed = capsys.readouterr().err
    assert stopped.value.code == code
    assert answer in printed and printed.startswith("courier: ") and printed.count("\n") == 1


def test_a_typing_error_imports_nothing_heavy():
    """Neither TensorFlow nor Beam nor pandas, which take seconds."""
    code = (
        "import sys\n"
        "from courier_tf.commands.program import main\n"
        "try: main(['run', '--raw', 'x', '--workdir', 'y', '--cluster', '5'])\n"
        "except SystemExit: pass\n"
        "sys.exit(str({'numpy', 'pandas', 'tensorflow', 'apache_beam', 'typeguard', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr.splitlines()[-1] == "set()"


def test_no_option_of_beams_is_taken_for_a_misspelling_of_ours():
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.options import _OptionParser
    from courier_tf.settings import parsing

    parser = _OptionParser(allow_abbrev=False, add_help=False)
    for options in PipelineOptions.__subclasses__():
        options._add_argparse_args(parser)
    for command in COMMANDS.values():
        ours = list(parsing.options_of(command))
        if command.takes_beam_options:
            near = {flag: parsing.misspelled(flag, ours) for flag in parser._option_string_actions if flag[:2] == "--"}
            assert {flag: option for flag, option in near.items() if option} == {}


def test_options_of_beam_are_told_apart():
    words = [
        "ingest",
        "--workdir",
        "w",
        "--runner",
        "FlinkRunner",
        "--raw",
        "r",
        "--direct_num_workers=2",
        "--shards",
        "3",
    ]
    command = program.read(words)
    assert command.beam_options == ("--runner", "FlinkRunner", "--direct_num_workers=2")
    assert command.settings.ingest.shards == 3 and command.raw == "r"
    with pytest.raises(program.UsageError, match="no option '--nonsense'"):
        program.read([*words, "--nonsense", "1"])


@pytest.mark.parametrize("command", ["export", "run"])
def test_servers_are_addresses(tmp_path, command):
    """Refused at once, and not after an hour of training."""
    words = [command, "--workdir", str(tmp_path / "w"), *(["--raw", "r"] if command == "run" else []), "--server"]
    assert program.read([*words, "a:8500", "[::1]:8500"]).server == ("a:8500", "[::1]:8500")
    with pytest.raises(SystemExit, match="--server nonsense: write HOST:PORT, such as localhost:8500"):
        program.main([*words, "a:8500", "nonsense"])
    assert not (tmp_path / "w").exists()


def test_every_preset_can_be_chosen(tmp_path):
    """Its settings are valid: the run gets as far as the missing data, and leaves no workdir."""
    for preset in PRESETS:
        words = ["run", "--raw", str(tmp_path / "none"), "--preset", preset, "--workdir", str(tmp_path / preset)]
        with pytest.raises(SystemExit, match="is empty or does not exist"):
            program.main(words)
        assert program.read(words).settings == PRESETS[preset] and not (tmp_path / preset).exists()


def test_a_workdir_keeps_its_settings_until_they_are_changed(tmp_path):
    words = ["cluster", "--workdir", str(tmp_path)]
    command = program.read([*words, "--preset", "tiny", "--clusters", "9", "--init", "None", "--seed", "4"])
    (tmp_path / "settings.json").write_text(command.settings.to_json())
    again = program.read([*words, "--levels=4"])
    assert again.settings.cluster.clusters == 9 and again.settings.seed == 4 and again.settings.pretrain.init is None
    assert again.settings.cluster.levels == 4 and again.given == {"workdir", "levels"}
    assert program.read([*words, "--preset", "demo"]).settings == PRESETS["demo"]


@pytest.mark.parametrize(
    "change, told",
    [
        ({"cluster": {"clusters": "9"}}, "cluster.clusters='9': str is not an instance of int"),
        ({"cluster": {"clusters": 9.5}}, "cluster.clusters=9.5"),
        ({"cluster": {"clusters": True}}, "cluster.clusters=True: bool is not a number"),
        ({"rank": {"rank_modes": "none"}}, "rank.rank_modes='none'"),
        ({"rank": {"rank_modes": ["none", 7]}}, "rank.rank_modes=['none', 7]"),
        ({"rank": {"rank_category_gate": "yes"}}, "rank.rank_category_gate='yes'"),
        ({"rank": {"rank_dim": 0}}, "rank_dim must lie between 1 and"),
        ({"pretrain": {"temperature": float("nan")}}, "temperature must lie between"),
        ({"cluster": {"\x1b[2J": 1}}, "there is no field cluster.\\x1b[2J"),
        ({"cluster": []}, "cluster must be an object, but is []"),
        ({"seed": "0"}, "seed='0': str is not an instance of int"),
        ({"rum": {}}, "there is no field rum"),
        ([], "the settings must be an object, but are []"),
    ],
)
def test_settings_that_were_edited_badly_get_one_line(tmp_path, capsys, change, told):
    content = json.loads(PRESETS["tiny"].to_json())
    for name, values in change.items() if isinstance(change, dict) else ():
        content[name] = content[name] | values if isinstance(values, dict) and name in content else values
    (tmp_path / "settings.json").write_text(json.dumps(content if change else change))
    with pytest.raises(program.ProgramExit) as stopped:
        program.main(["cluster", "--workdir", str(tmp_path)])
    printed = capsys.readouterr().err
    assert stopped.value.code == 1 and told in printed and printed.count("\n") == 1
    assert printed.startswith("courier: ") and "settings.json: " in printed and "--preset" in printed


def test_help_shows_settings_that_were_edited_and_obeys_none(tmp_path, capsys):
    content = json.loads(PRESETS["tiny"].to_json())
    content["pretrain"]["init"] = "x\x1b[2J\u202e"
    (tmp_path / "settings.json").write_text(json.dumps(content))
    program.main(["pretrain", "--help-all", "--workdir", str(tmp_path)])
    printed = capsys.readouterr().out
    assert "(x\\x1b[2J\\u202e)" in printed and not set(printed) & set("\x1b\u202e")


def test_settings_in_a_named_pipe_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "settings.json")
    with pytest.raises(program.ProgramExit, match=r"settings.json: it is no regular file"):
        program.main(["cluster", "--workdir", str(tmp_path)])


def test_weights_in_a_named_pipe_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "weights.pth")
    words = ["pretrain", "--workdir", str(tmp_path / "w"), "--init", str(tmp_path / "weights.pth")]
    words += ["--trainable", "all"]
    with pytest.raises(program.ProgramExit, match=r"init=.*weights.pth is no regular file"):
        program.main(words)


def test_words_of_all_kinds():
    words = ["rank", "--workdir", "w", "--rank_modes", "none", "vector", "--no-rank-category-gate", "--final"]
    command = program.read([*words, "--rank-learning-rates", "1e-3", "2e-3", "--item-columns", "--rank-columns", "a"])
    assert command.final and not command.settings.rank.rank_category_gate
    assert command.settings.rank.rank_modes == ("none", "vector")
    assert command.settings.rank.rank_learning_rates == (1e-3, 2e-3)
    assert command.settings.ingest.item_columns == () and command.settings.rank.rank_columns == ("a",)


def test_messages_are_set_before_or_after_the_command(tmp_path, capsys):
    (tmp_path / "settings.json").write_text("{")
    for words in (
        ["--log-json", "cluster", "--workdir", str(tmp_path)],
        ["cluster", "--workdir", str(tmp_path), "--log-json"],
    ):
        with pytest.raises(SystemExit):
            program.main(words)
        printed = capsys.readouterr().err
        assert '"level": "error", "logger": "courier", "message": "' in printed
        assert "settings.json: it is no JSON" in printed
