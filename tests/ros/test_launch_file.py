"""The launch file reader: ROS 2's meaning, and errors that name line, key and the nearest known one."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

pytest.importorskip("ambient_policy_ros")
from ambient_policy.errors import AmbientPolicyError
from ambient_policy_ros import launch_cli
from ambient_policy_ros.launch_file import declared_arguments, describe
from ambient_policy_ros.launch_process import Process
from ambient_policy_ros.launch_substitutions import Context, LaunchError, evaluate

CONTEXT = Context({"robot": "twin", "n": "3"}, {"HOME": "/data/me"}, Path("/ws/launch/x.launch.yaml"))


def read(tmp_path: Path, text: str, **arguments: str) -> list[Process]:
    path = tmp_path / "job.launch.yaml"
    path.write_text("launch:\n" + text)
    return describe(path, arguments, tmp_path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$(var robot)", "twin"),
        ("a-$(var robot)-$(var n)", "a-twin-3"),
        ("$(var missing fallback)", "fallback"),
        ("$(var $(var other robot))", "twin"),
        ("$(env HOME)/x", "/data/me/x"),
        ("$(env NONE 'two words')", "two words"),
        ("$(dirname)/y", "/ws/launch/y"),
        ("$(equals $(var robot) twin)", "true"),
        ("$(equals $(var robot) none)", "false"),
        ("$(not-equals 1 1.0)", "false"),
        ("$(equals TRUE 1)", "true"),
        ("$(not $(equals $(var n) 3))", "false"),
        ("$(and true $(or false 1))", "true"),
        (r"cost: \$(var robot)", "cost: $(var robot)"),
    ],
)
def test_substitutions(text: str, value: str) -> None:
    assert evaluate(text, CONTEXT) == value


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("$(vra robot)", r"\$\(vra ...\) is unknown; did you mean `var`"),
        ("$(eval 1 + 1)", r"\$\(eval ...\) is not run by this launcher"),
        ("$(command ls)", "is not run by this launcher"),
        ("$(var robto)", r"\$\(var robto\): not declared; did you mean `robot`"),
        ("$(env NONE)", r"\$\(env NONE\): not set; export it"),
        ("$(var robot", "is not closed"),
        ("$(var robot ", "is not closed"),
        ("$(var 'robot)", "not closed by '"),
        ("$(not maybe)", "is 'maybe', needs true, false, 1 or 0"),
        ("$(equals 1)", r"has 1 arguments, needs 2"),
        ("$( var x)", "a name must follow"),
        ("$(find-pkg-share no_such_package)", "ROS package 'no_such_package' is not installed"),
    ],
)
def test_wrong_substitutions_say_why(text: str, complaint: str) -> None:
    with pytest.raises(AmbientPolicyError, match=complaint):
        evaluate(text, CONTEXT)


def test_arguments_have_defaults_choices_and_order(tmp_path: Path) -> None:
    text = """
  - arg: {name: robot, default: twin, choice: [{value: twin}, {value: none}]}
  - arg: {name: label, default: the-$(var robot)}
  - let: {name: both, value: $(var label)+$(var robot)}
  - set_env: {name: SET, value: $(var both)}
  - executable: {cmd: echo $(var both)}
  - set_env: {name: SET, value: later}
"""
    (process,) = read(tmp_path, text, robot="none")
    assert process.command == ["echo", "the-none+none"]
    assert process.environment["SET"] == "the-none+none", "an action sees what came before it"
    with pytest.raises(LaunchError, match=r"line 3, `arg`: argument robot:=nil is not one of: twin, none"):
        read(tmp_path, text, robot="nil")
    with pytest.raises(LaunchError, match=r"job.launch.yaml has no argument 'robto'; did you mean `robot`"):
        read(tmp_path, text, robto="none")


def test_an_argument_without_default_must_be_given(tmp_path: Path) -> None:
    text = "  - arg: {name: policy}\n  - executable: {cmd: echo $(var policy)}\n"
    with pytest.raises(LaunchError, match="argument 'policy' has no default: give policy:=VALUE"):
        read(tmp_path, text)
    assert read(tmp_path, text, policy="two words")[0].command == ["echo", "two words"]


def test_conditions(tmp_path: Path) -> None:
    text = """
  - arg: {name: robot, default: twin}
  - executable: {cmd: echo a, if: $(equals $(var robot) twin)}
  - executable: {cmd: echo b, unless: $(equals $(var robot) twin)}
  - group:
      if: "false"
      children:
        - executable: {cmd: echo c}
"""
    assert [p.command[1] for p in read(tmp_path, text)] == ["a"]
    assert [p.command[1] for p in read(tmp_path, text, robot="none")] == ["b"]


def test_a_group_keeps_its_settings_to_itself(tmp_path: Path) -> None:
    text = """
  - let: {name: x, value: outer}
  - group:
      - let: {name: x, value: inner}
      - set_env: {name: GROUPED, value: $(var x)}
      - executable: {cmd: echo $(var x)}
  - executable: {cmd: echo $(var x)}
"""
    inner, outer = read(tmp_path, text)
    assert (inner.command[1], inner.environment["GROUPED"]) == ("inner", "inner")
    assert outer.command[1] == "outer"
    assert "GROUPED" not in outer.environment


def test_include_passes_arguments(tmp_path: Path) -> None:
    (tmp_path / "part.launch.yaml").write_text(
        "launch:\n  - arg: {name: who}\n  - executable: {cmd: echo $(var who)}\n"
    )
    text = """
  - include:
      file: $(dirname)/part.launch.yaml
      arg: [{name: who, value: me}]
"""
    assert read(tmp_path, text)[0].command == ["echo", "me"]
    with pytest.raises(LaunchError, match=r"write \$\(dirname\)/part.launch.yaml"):
        read(tmp_path, "  - include: {file: part.launch.yaml}\n")
    with pytest.raises(LaunchError, match="only YAML launch files run here"):
        read(tmp_path, "  - include: {file: $(dirname)/part.launch.py}\n")


def test_a_mistake_in_an_included_file_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "part.launch.yaml").write_text("launch:\n  - executable: {comd: echo}\n")
    with pytest.raises(
        LaunchError, match=r"^part.launch.yaml line 2: unknown key 'comd' in `executable`; did you"
    ):
        read(tmp_path, "  - include: {file: $(dirname)/part.launch.yaml}\n")


def test_a_node_becomes_a_command_with_ros_arguments(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("{}")
    text = """
  - node:
      pkg: ambient_policy
      exec: servo_node
      name: servo
      namespace: left
      args: --verbose
      param:
        - {from: $(dirname)/config.yaml}
        - {name: rate_hz, value: 100.0}
        - {name: label, value: "10", type: str}
        - {name: count, value: $(var n), type: int}
        - {name: use_sim_time, value: $(equals 1 1)}
      remap: [{from: tool/pose, to: /arm/pose}]
      env: [{name: EXTRA, value: "1"}]
      respawn: "true"
      respawn_delay: 0.5
"""
    (process,) = read(tmp_path, "  - arg: {name: n, default: '4'}\n" + text)
    assert process.command[:3] == [sys.executable, "-m", "ambient_policy_ros.servo_node"]
    rest = process.command[3:]
    assert rest[:6] == ["--verbose", "--ros-args", "-r", "__node:=servo", "-r", "__ns:=/left"]
    assert rest[-2:] == ["-r", "tool/pose:=/arm/pose"]
    files = [rest[i + 1] for i, word in enumerate(rest) if word == "--params-file"]
    assert files[0] == str(tmp_path / "config.yaml")
    values = [yaml.safe_load(Path(file).read_text()) for file in files[1:]]
    found = {k: v for value in values for k, v in value["/left/servo"]["ros__parameters"].items()}
    assert found == {"rate_hz": 100.0, "label": "10", "count": 4, "use_sim_time": True}
    assert process.environment["EXTRA"] == "1"
    assert (process.name, process.respawn, process.respawn_delay_s) == ("servo", True, 0.5)


def test_without_a_namespace_parameters_are_for_any_node(tmp_path: Path) -> None:
    """As launch_ros does, so that a params file that names the node wins under both."""
    text = "  - node: {pkg: ambient_policy, exec: servo_node, name: servo, param: [{name: a, value: 1}]}\n"
    (process,) = read(tmp_path, text)
    document = yaml.safe_load(Path(process.command[-1]).read_text())
    assert document == {"/**": {"ros__parameters": {"a": 1}}}


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("  - nod: {}", r"line 2: unknown action 'nod'; did you mean `node`"),
        ("  - node: {pkg: a, exe: b}", r"line 2: unknown key 'exe' in `node`; did you mean `exec`"),
        ("  - node: {pkg: a}", "line 2: `node` lacks 'exec'"),
        ("  - arg: {name: n, default: 10}", r'default is 10, must be text: write default: "10"'),
        ("  - executable: {cmd: ls, if: true}", r'if is True, must be text: write if: "true"'),
        ("  - executable: {cmd: ls, if: maybe}", r"`if` is 'maybe', needs true, false, 1 or 0"),
        ("  - executable: {cmd: ls, if: '1', unless: '1'}", "has both `if` and `unless`"),
        (
            "  - executable: {cmd: ls, respawn_delay: 2}",
            "respawn_delay is 2, needs seconds with a decimal point",
        ),
        ("  - executable: {cmd: ls, on_exit: stop}", "on_exit is 'stop'; its only value is: shutdown"),
        ("  - executable: {cmd: ls, output: scren}", "output is 'scren'; did you mean `screen`"),
        ("  - executable: {cmd: ''}", "`cmd` is empty"),
        ("  - executable: {cmd: ls, cmd: pwd}", "key 'cmd' is written twice"),
        ("  - executable: ls", "`executable` must be a mapping with:"),
        ("  - {arg: {name: a}, let: {name: b}}", "must be a list of actions, each of one key"),
        ("  - node: {pkg: nowhere, exec: x}", "line 2, `node`: ROS package 'nowhere' is not installed"),
        ("  - node: {pkg: ambient_policy, exec: servo_nod}", "has no executable 'servo_nod'"),
        (
            "  - node: {pkg: ambient_policy, exec: servo_node, param: [{from: /no/such}]}",
            "no parameter file at /no/such",
        ),
        (
            "  - node: {pkg: ambient_policy, exec: servo_node, param: [{name: a, value: x, type: int}]}",
            "parameter a is 'x', needs a value of type int",
        ),
        (
            "  - node: {pkg: ambient_policy, exec: servo_node, param: [{name: a, value: 1, type: integer}]}",
            "type 'integer'; did you mean `int`",
        ),
    ],
)
def test_mistakes_name_line_key_and_cure(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(AmbientPolicyError, match=complaint):
        read(tmp_path, text + "\n")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.launch.yaml").write_text("nodes: []\n")
    with pytest.raises(LaunchError, match="one mapping with the single key `launch:`"):
        describe(tmp_path / "x.launch.yaml", {}, tmp_path)
    (tmp_path / "x.launch.yaml").write_text("launch: [\n")
    with pytest.raises(LaunchError, match="is not valid YAML"):
        describe(tmp_path / "x.launch.yaml", {}, tmp_path)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["trials=3"], "launch argument 'trials=3' is not of the form name:=value"),
        (["seed:=1", "seed:=2"], "launch argument 'seed' is given twice: '1' and '2'"),
    ],
)
def test_command_line_mistakes(words: list[str], complaint: str) -> None:
    with pytest.raises(LaunchError, match=complaint):
        launch_cli.parse_arguments(words)


def test_a_value_may_hold_anything() -> None:
    assert launch_cli.parse_arguments(["a:=b:=c", "d:="]) == {"a": "b:=c", "d": ""}


def test_unknown_job_lists_ours() -> None:
    with pytest.raises(AmbientPolicyError, match="no launch file at .*pushin.*; ours: bench, pushing, twin;"):
        launch_cli.main(["pushin"])
    with pytest.raises(AmbientPolicyError, match="unknown option '--shw-args'"):
        launch_cli.main(["pushing", "--shw-args"])


def test_show_args_lists_every_argument(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch_cli.main(["pushing", "--show-args"]) == 0
    shown = capsys.readouterr().out
    for argument in declared_arguments(Path("launch/pushing.launch.yaml").resolve()):
        assert argument.name in shown
        assert argument.description, f"{argument.name} has no description"


def test_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert launch_cli.main(["--help"]) == 0
    assert launch_cli.main([]) == 2
    assert "pushing" in capsys.readouterr().out
