"""The scenario document: everything that defines a twin, typed; its YAML has exactly these keys."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ambient_policy.config import StrictModel, merge, parse, read_yaml
from ambient_policy.errors import ConfigError
from sim.tee import Tee

FOLDER = Path(__file__).parent / "scenarios"
Vec2 = tuple[float, float]
Vec3 = tuple[float, float, float]


class Slider(StrictModel):
    """The T that is pushed."""

    bar: Vec2 = (0.1651, 0.04064)
    """Width and depth of the bar [m]."""
    stem: Vec2 = (0.04064, 0.12447)
    """Width and length of the stem [m]."""
    height_m: float = 0.03175
    mass_kg: float = 0.1
    inertia: Literal["uniform", "placeholder"] = "uniform"
    """`uniform`: that of the boxes (3.7e-4 kg m2 about z). `placeholder`: the reference's diag(1e-5)."""
    friction: float = 0.5
    """Against the table."""

    @property
    def tee(self) -> Tee:
        """Plane geometry of this T."""
        return Tee(self.bar, self.stem)


class Pusher(StrictModel):
    """The floating cylinder that stands for an arm with a rod."""

    radius_m: float = 0.015
    length_m: float = 0.175
    mass_kg: float = 0.1
    tip_height_m: float = 0.015
    friction: float = Field(default=1 / 3, gt=0)
    """Of the pair pusher-T (the reference's 0.25 against 0.5, combined as Drake does: 2ab/(a+b))."""
    stiffness_n_m: float = 2000.0
    damping_ns_m: float = 100.0


class Physics(StrictModel):
    """How contact is computed."""

    time_step_s: float = Field(default=0.01, gt=0)
    contact: Literal["spheres", "hydroelastic"] = "spheres"
    """`spheres`: the T rides on 28 points, true to quasi-statics and fast. `hydroelastic`: pressure field."""
    approximation: Literal["lagged", "sap", "similar"] = "lagged"


class Camera(StrictModel):
    """One colour camera; intrinsics as calibrated at `calibrated_size`, rendered `scale` times that size."""

    parent: Literal["world", "flange"]
    rpy: Vec3
    """Roll, pitch, yaw [rad] of the optical frame (z forward, y down) in the parent."""
    xyz: Vec3
    """Position in the parent [m]. `flange` is link 7 of the reference's arm: 0.22 m above the tip, z down."""
    fx: float = 616.704
    fy: float = 616.777
    cx: float = 318.05
    cy: float = 244.107
    calibrated_size: tuple[int, int] = (640, 480)
    scale: float = Field(default=1.0, gt=0, le=1)
    shadows: bool = False


class Light(StrictModel):
    """A directional light in the world."""

    position: Vec3
    """It shines from here towards the origin."""
    colour: Vec3 = (1.0, 1.0, 1.0)
    intensity: float = 1.0


class Look(StrictModel):
    """Colours and lights; RGB in [0, 1]."""

    slider: Vec3 = (0.15, 0.15, 0.15)
    pusher: Vec3 = (1.0, 0.345, 0.1)
    table: Vec3 = (0.7, 0.7, 0.7)
    background: Vec3 = (0.55, 0.45, 0.35)
    lights: tuple[Light, ...] = ()
    """None: one white light at each camera."""


class Task(StrictModel):
    """Goal, starts, and what counts as success."""

    goal: Vec3 = (0.587, -0.0355, 0.0)
    tool_home: Vec2 = (0.587, 0.150)
    start_box: Vec2 = (0.4, 0.3)
    """The whole T starts inside this box [m], centred at the goal."""
    start_reach_m: float = Field(default=1.0, gt=0)
    """Its centre starts at most this far from the goal along each axis."""
    start_yaw_deg: float = Field(default=180.0, gt=0, le=180)
    """The T starts turned by at most this from its goal."""
    position_tolerance_m: float = 0.015
    yaw_tolerance_deg: float = 3.5
    home_tolerance_m: float = 0.04
    delay_s: float = 1.0
    """The tool rests at home this long before the clock of a trial starts."""
    time_limit_s: float = Field(default=75.0, gt=0)
    hold_s: float = 1.0
    """How long the goal must be kept for the stricter score."""


class Limits(StrictModel):
    """What the robot's own controller accepts of a target, in the world frame."""

    workspace_min: Vec2 = (0.25, -0.36)
    workspace_max: Vec2 = (0.85, 0.33)
    max_speed_m_s: float = 0.5


class Scenario(StrictModel):
    """A twin and its task."""

    name: str
    seed: int = 0
    """Only for things drawn when the station is built; starts have seeds of their own."""
    control_period_s: float = 0.01
    """A target is held and tracked this long; part of the twin's definition, since the T feels it."""
    policy_period_s: float = 0.1
    """Camera frames and action steps."""
    slider: Slider = Slider()
    pusher: Pusher = Pusher()
    physics: Physics = Physics()
    cameras: dict[str, Camera]
    look: Look = Look()
    task: Task = Task()
    limits: Limits = Limits()

    @model_validator(mode="after")
    def _periods_divide(self) -> Scenario:
        for slow, fast, names in (
            (self.policy_period_s, self.control_period_s, "policy_period_s / control_period_s"),
            (self.control_period_s, self.physics.time_step_s, "control_period_s / physics.time_step_s"),
        ):
            if fast <= 0 or abs(slow / fast - round(slow / fast)) > 1e-9 or slow < fast:
                raise ValueError(f"{names} = {slow} / {fast} must be a whole number of 1 or more")
        return self


def load_scenario(name: str | Path, overrides: dict[str, Any] | None = None) -> Scenario:
    """Read a scenario by the name of a shipped one, or from a YAML file.

    A file may begin with `extends: NAME`: it then holds only what differs from that scenario.

    Raises:
        ConfigError: no such scenario (lists the shipped ones), or a key or value that does not fit.
    """
    path = _find(name)
    data = read_yaml(path)
    if base := data.pop("extends", None):
        data = merge(read_yaml(_find(base)), data)
    return parse(merge(data, overrides or {}), Scenario, str(path))


def _find(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ConfigError(
            f"scenario {str(name)!r} not found at {path}; shipped scenarios: {known}; or give a .yaml file"
        )
    return path
