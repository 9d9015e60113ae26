"""`ambient-policy data NAME ...`: every command that works on whole datasets.

The core's own are listed here. A room may bring more as entry points (group `ambient_policy.data_commands`,
name to `main(argv) -> int`): `pack` belongs to training, whose cache it builds.
"""

from __future__ import annotations

import importlib
from importlib.metadata import entry_points

from ambient_policy.config import nearest
from ambient_policy.errors import AmbientPolicyError

GROUP = "ambient_policy.data_commands"

OWN = {
    "inspect": ("draw a page: episodes, trajectories, spectra, starts", "ambient_policy.data.overview"),
    "validate": ("read every file and list what is wrong, with its remedy", "ambient_policy.data.validate"),
    "repair": ("mend what can be mended without guessing; loses nothing", "ambient_policy.data.repair"),
    "merge": ("join folders without a second copy on the disk", "ambient_policy.data.merge"),
    "import": (
        "turn LeRobot, diffusion-policy zarr or robomimic HDF5 into episodes",
        "ambient_policy.data.convert",
    ),
    "export": (
        "turn episodes into LeRobot, diffusion-policy zarr or robomimic HDF5",
        "ambient_policy.data.convert",
    ),
}
OTHERS = {"pack": "build the cache that training reads, ahead of time"}
_FORMATS = {"pyarrow", "zarr", "numcodecs", "h5py"}


def main(argv: list[str]) -> int:
    """Run a command on datasets and return its exit status: 0 done, 1 `validate` found errors."""
    found = {entry.name: entry for entry in entry_points(group=GROUP)}
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(_help(set(found)))
        return 0
    name, *rest = argv
    if name not in OWN and name not in found:
        raise AmbientPolicyError(f"data {name}: unknown command; {nearest(name, {*OWN, *found})}")
    try:
        if name in found:
            return int(found[name].load()(rest))
        module = importlib.import_module(OWN[name][1])
        command = {"import": "main_import", "export": "main_export"}.get(name, "main")
        return int(getattr(module, command)(rest))
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in _FORMATS:
            raise
        raise AmbientPolicyError(
            f"data {name}: {error.name} is not installed; from the repository's root run: "
            "pip install -c constraints.txt -e '.[data]'"
        ) from None


def _help(found: set[str]) -> str:
    said = {name: summary for name, (summary, _) in OWN.items()}
    said |= {name: OTHERS.get(name, "") for name in sorted(found)}
    lines = ["usage: ambient-policy data COMMAND [ARGUMENTS]    (COMMAND --help lists its arguments)", ""]
    return "\n".join([*lines, *(f"  {name:<10} {summary}" for name, summary in said.items())])
