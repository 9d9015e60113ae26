"""`ambient-policy NAME ARGS...`: find the room that owns a subcommand and hand over.

Rooms declare their commands as entry points (group `ambient_policy.commands`, name to `main(argv) -> int`);
the core imports none of them. The table below only knows what to tell a user whose room is not installed.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points

from ambient_policy import __version__
from ambient_policy.config import nearest
from ambient_policy.errors import AmbientPolicyError

GROUP = "ambient_policy.commands"


@dataclass(frozen=True)
class Known:
    """A command of this project: what it does, the modules it needs, the extras that bring them."""

    summary: str
    needs: tuple[str, ...] = ()
    extras: str = "cpu"
    then: str = ""

    @property
    def install(self) -> str:
        """Give the line that installs the room, with the versions that were tested together."""
        return f"pip install -c constraints.txt -e '.[{self.extras}]'{self.then}"


KNOWN = {
    "collect": Known("record demonstrations of the scripted expert in the twin", ("pydrake",), "sim"),
    "gaps": Known("list what can differ between two sims, and by how much", ("pydrake",), "sim"),
    "data": Known("look at, check, mend, join and convert datasets"),
    "analyse": Known("draw spectra and manifolds of clean and corrupt actions"),
    "annotate": Known("find the noise levels that corrupt episodes may teach", ("torch",), "train"),
    "train": Known("train a policy from episodes", ("torch", "onnx"), "train"),
    "sweep": Known("train and evaluate a grid of presets, seeds and settings", ("torch",), "train"),
    "export": Known("turn a checkpoint into a policy bundle", ("torch", "onnx", "onnxruntime"), "train,cpu"),
    "evaluate": Known("run a bundle in the twin without ROS", ("pydrake", "onnxruntime"), "sim,cpu"),
    "quantise": Known(
        "make an int8 bundle of a bundle, smaller and faster on a CPU", ("onnx", "onnxruntime"), then=" onnx"
    ),
    "bench": Known("time a bundle on this machine", ("onnxruntime",)),
    "launch": Known(
        "start the nodes of a job, such as `pushing`",
        ("ambient_policy_ros", "rclpy"),
        "ros,sim,cpu",
        " && pip install --no-deps -e ros2_ws/src/ambient_policy",
    ),
    "calibrate-latency": Known(
        "measure how late robot and cameras are, for the parameters that make up for it",
        ("ambient_policy_ros", "rclpy"),
        "ros,sim,cpu",
        " && pip install --no-deps -e ros2_ws/src/ambient_policy",
    ),
    "replay": Known("turn an episode into a page with a 3-D view", ("pydrake",), "sim"),
    "report": Known("make a page from recorded trials"),
    "inspect": Known("say what a bundle or an episode is, and check it"),
}


def main(argv: list[str] | None = None) -> int:
    """Run a subcommand and return its exit status: 0 done, 2 an error a user can cure, 130 interrupted."""
    argv = sys.argv[1:] if argv is None else argv
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(found))
        return 0
    if argv[0] in ("-V", "--version"):
        print(f"ambient-policy {__version__}")
        return 0
    name, *rest = argv
    try:
        return _load(name, found)(rest)
    except AmbientPolicyError as error:
        print(f"ambient-policy {name}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        # A command may import its heavy needs late. Anything else that is missing is a bug: traceback.
        if (known := KNOWN.get(name)) and (error.name or "").partition(".")[0] in known.needs:
            print(f"ambient-policy {name}: {_cure(name, known)}", file=sys.stderr)
            return 2
        raise
    except KeyboardInterrupt:
        print(f"\nambient-policy {name}: interrupted", file=sys.stderr)
        return 130


def _load(name: str, found: dict[str, EntryPoint]) -> Callable[[list[str]], int]:
    known = KNOWN.get(name)
    if known and _missing(known):
        raise AmbientPolicyError(_cure(name, known))
    if name in found:
        return found[name].load()
    if known:
        raise AmbientPolicyError(_cure(name, known))
    raise AmbientPolicyError(f"unknown command; {nearest(name, {*KNOWN, *found})}")


def _missing(known: Known) -> list[str]:
    return [module for module in known.needs if importlib.util.find_spec(module) is None]


def _cure(name: str, known: Known) -> str:
    missing = ", ".join(_missing(known)) or "its entry point"
    return f"not installed here ({missing} is missing); from the repository's root run: {known.install}"


def _help(found: dict[str, EntryPoint]) -> str:
    ready, absent = [], []
    for name, known in KNOWN.items():
        if name in found and not _missing(known):
            ready.append(f"  {name:<17} {known.summary}")
        else:
            absent += [f"  {name:<17} {known.summary}", f"  {'':<17}   {known.install}"]
    ready += [f"  {name:<17} from {found[name].value}" for name in sorted(set(found) - set(KNOWN))]
    lines = [f"ambient-policy {__version__}: diffusion policies from clean and corrupt demonstrations", ""]
    lines += ["usage: ambient-policy COMMAND [ARGUMENTS]    (COMMAND --help lists its arguments)", "", *ready]
    if absent:
        lines += ["", "not installed here; from the repository's root run the line under each:", *absent]
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
