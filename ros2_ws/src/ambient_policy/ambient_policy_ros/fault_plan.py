"""Fault plans: what goes wrong between the twin and the nodes, when and how badly; a YAML file.

    title: The overhead camera freezes
    seed: 0
    faults:
      - {fault: freeze, channel: camera/overhead/color/image_raw, from_s: 3, until_s: 4}

Times are seconds of a trial: 0 is its first control tick. A channel is the name of a topic, and a `*` in it
stands for every camera.
"""

from __future__ import annotations

from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from ambient_policy.config import StrictModel, load_yaml, nearest
from ambient_policy.errors import ConfigError
from ambient_policy_ros.launch_find import ROS_NAME, share_directory

CLOCK = "/clock"
POSE, JOINTS, TARGET = "tool/pose", "joint_states", "tool/target"
NODES = ("policy", "servo")


def image_channel(camera: str) -> str:
    """Name the topic of a camera's images."""
    return f"camera/{camera}/color/image_raw"


def info_channel(camera: str) -> str:
    """Name the topic of a camera's calibration."""
    return f"camera/{camera}/color/camera_info"


class Window(StrictModel):
    """When a fault is on."""

    from_s: float = Field(default=0.0, ge=0)
    until_s: float | None = Field(default=None, gt=0)
    """None: to the end of the trial."""

    @model_validator(mode="after")
    def _ordered(self) -> Window:
        if self.until_s is not None and self.until_s <= self.from_s:
            raise ValueError(f"until_s is {self.until_s}, needs more than from_s, which is {self.from_s}")
        return self

    def covers(self, time_s: float) -> bool:
        """Return whether the fault is on; a tick that falls on `until_s` is beyond it."""
        eps_s = 1e-6
        return time_s >= self.from_s - eps_s and (self.until_s is None or time_s < self.until_s - eps_s)


class ChannelFault(Window):
    """A fault of one topic."""

    channel: str


class Latency(ChannelFault):
    """Every message comes `delay_s` late."""

    fault: Literal["latency"]
    delay_s: float = Field(gt=0)
    restamp: bool = False
    """False: with its true stamp. True: stamped so much later, as by a driver that stamps what comes."""


class Jitter(ChannelFault):
    """Every message comes late by a time drawn evenly from 0 to `max_s`; their order is kept."""

    fault: Literal["jitter"]
    max_s: float = Field(gt=0)


class Drop(ChannelFault):
    """Messages never come."""

    fault: Literal["drop"]
    probability: float = Field(default=1.0, gt=0, le=1)
    at_s: tuple[float, ...] | None = None
    """Drop just the first message at or after each of these times, whatever the probability."""


class Freeze(ChannelFault):
    """The last message before the window comes again and again."""

    fault: Literal["freeze"]
    restamp: bool = True
    """True: with present stamps, as of a camera whose sensor hangs; False: with its own. /clock: its own."""


class Reorder(ChannelFault):
    """A message is overtaken by the next one."""

    fault: Literal["reorder"]
    probability: float = Field(default=1.0, gt=0, le=1)


class Nan(ChannelFault):
    """The numbers of a message are not numbers."""

    fault: Literal["nan"]
    probability: float = Field(default=1.0, gt=0, le=1)


class Black(ChannelFault):
    """An image is black."""

    fault: Literal["black"]
    probability: float = Field(default=1.0, gt=0, le=1)


class ClockJump(ChannelFault):
    """/clock is wrong by `by_s`; the stamps of everything else stay true."""

    fault: Literal["clock_jump"]
    channel: str = CLOCK
    by_s: float

    @field_validator("by_s")
    @classmethod
    def _not_zero(cls, by_s: float) -> float:
        if by_s == 0:
            raise ValueError("needs a number other than 0, such as 1.0 or -1.0")
        return by_s


class Offset(ChannelFault):
    """A measured pose is beside the true one, as of a robot that lost a reference."""

    fault: Literal["offset"]
    channel: str = POSE
    by_m: tuple[float, float]
    """Along x and y of the world."""


class Kill(StrictModel):
    """A node is killed outright, or stopped: it is there and says nothing."""

    fault: Literal["kill"]
    node: Literal["policy", "servo"]
    at_s: float = Field(ge=0)
    signal: Literal["KILL", "STOP"] = "KILL"
    for_s: float | None = Field(default=None, gt=0)
    """How long the node is away; None: to the end. STOP: it goes on then. KILL: something must start it
    again, such as `respawn:=true` of the bench's launch file; in lock-step the twin then waits for it."""

    @property
    def from_s(self) -> float:
        """Begin of the fault."""
        return self.at_s

    @property
    def until_s(self) -> float | None:
        """End of the fault, None for the end of the trial."""
        return None if self.for_s is None else self.at_s + self.for_s


OnChannel = Latency | Jitter | Drop | Freeze | Reorder | Nan | Black | ClockJump | Offset
Fault = Annotated[OnChannel | Kill, Field(discriminator="fault")]

_IMAGES, _INFOS = image_channel("*"), info_channel("*")
FITS: dict[str, tuple[str, ...]] = {
    "nan": (POSE, JOINTS, TARGET, _INFOS),
    "black": (_IMAGES,),
    "clock_jump": (CLOCK,),
    "offset": (POSE,),
}
"""Channels that can have a fault; every channel can have the others."""
KINDS = ("latency", "jitter", "drop", "freeze", "reorder", "nan", "black", "clock_jump", "offset", "kill")


class FaultPlan(StrictModel):
    """Everything that goes wrong in every trial of a run."""

    title: str = ""
    seed: int = Field(default=0, ge=0)
    """Of whatever is drawn; each trial and each fault has its own stream."""
    faults: tuple[Fault, ...]

    @field_validator("faults", mode="before")
    @classmethod
    def _known_kinds(cls, faults: Any) -> Any:
        for number, fault in enumerate(faults if isinstance(faults, (list, tuple)) else ()):
            kind = fault.get("fault") if isinstance(fault, dict) else None
            if isinstance(fault, dict) and kind not in KINDS:
                raise ValueError(f"number {number} has `fault: {kind}`; {nearest(str(kind), KINDS)}")
        return faults

    def on(self, channel: str, channels: Collection[str]) -> list[tuple[int, OnChannel]]:
        """Return (number in the plan, fault) of every fault of one of the `channels`.

        Raises:
            ConfigError: a fault of the plan names no such channel, or cannot befall the one it names.
        """
        found: list[tuple[int, OnChannel]] = []
        for number, fault in enumerate(self.faults):
            if isinstance(fault, Kill):
                continue
            pattern = _plain(fault.channel)
            hit = [name for name in channels if fnmatchcase(_plain(name), pattern)]
            if not hit:
                raise ConfigError(
                    f"fault {number} of the plan is on channel {fault.channel!r}, which is none; "
                    f"{nearest(fault.channel, channels)}; `*` stands for every camera"
                )
            fits = FITS.get(fault.fault, ("*",))
            if unfit := [name for name in hit if not any(fnmatchcase(name, fit) for fit in fits)]:
                raise ConfigError(
                    f"fault {number} of the plan: channel {unfit[0]} cannot have `{fault.fault}`, only: "
                    f"{', '.join(fits)}"
                )
            if channel in hit:
                found.append((number, fault))
        return found


def _plain(channel: str) -> str:
    return channel.removeprefix("/")


def load_plan(name: str) -> FaultPlan:
    """Read a plan: the path of a YAML file, or the name of a shipped one such as `freeze`."""
    if name.endswith((".yaml", ".yml")) or "/" in name:
        return load_yaml(name, FaultPlan)
    if name not in (known := shipped_plans()):
        raise ConfigError(
            f"no fault plan named {name!r}; {nearest(name, known)}; or give the path of a YAML file"
        )
    return load_yaml(known[name], FaultPlan)


def shipped_plans() -> dict[str, Path]:
    """List the plans that come with the package: name -> file."""
    return {path.stem: path for path in sorted((share_directory(ROS_NAME) / "faults").glob("*.yaml"))}
