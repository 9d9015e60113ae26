"""The scenario document: everything that defines a twin, typed; its YAML has exactly these keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from ambient_policy.config import StrictModel, merge, nearest, parse, read_yaml
from ambient_policy.errors import ConfigError
from sim.actuation import Actuation
from sim.look import Camera as Camera
from sim.look import Light as Light
from sim.look import Look as Look
from sim.look import Vec2, Vec3
from sim.randomise import Randomise, draw
from sim.tee import BoxUnion, Shape, Tee

FOLDER = Path(__file__).parent / "scenarios"


class Slider(StrictModel):
    """The T that is pushed, or another body made of boxes."""

    bar: Vec2 = (0.1651, 0.04064)
    """Width and depth of the bar [m]."""
    stem: Vec2 = (0.04064, 0.12447)
    """Width and length of the stem [m]."""
    parts: tuple[tuple[float, float, float, float], ...] = ()
    """Boxes (centre x, centre y, width, depth) [m] that take the place of bar and stem. They must touch, and
    not overlap. Any origin will do: the body's frame is put at their common centre of area."""
    height_m: float = 0.03175
    centre_of_mass_m: Vec2 = (0.0, 0.0)
    """Where the centre of mass is in the frame of the uniform body; for the T, y runs from stem to bar."""
    mass_kg: float = 0.1
    inertia: Literal["uniform", "placeholder"] = "uniform"
    """`uniform`: that of the boxes (3.7e-4 kg m2 about z). `placeholder`: the reference's diag(1e-5)."""
    friction: float = 0.5
    """Against the table."""

    @model_validator(mode="after")
    def _is_a_body(self) -> Slider:
        if not self.tee.carries(self.centre_of_mass_m):
            raise ValueError(f"centre_of_mass_m {self.centre_of_mass_m} lies beside the body: it would tip")
        return self

    @property
    def tee(self) -> Shape:
        """Plane geometry of this body."""
        return _shape(self.bar, self.stem, self.parts)


@lru_cache(maxsize=64)
def _shape(bar: Vec2, stem: Vec2, parts: tuple[tuple[float, float, float, float], ...]) -> Shape:
    return BoxUnion(parts) if parts else Tee(bar, stem)


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


Vec7 = tuple[float, float, float, float, float, float, float]


class Posture(StrictModel):
    """What an arm does with the freedoms that the tip leaves it."""

    nominal: tuple[float, ...] = (0.6202, 1.0135, -0.5873, -1.4182, 0.6449, 0.8986, -0.1536)
    """Posture [rad] from which inverse kinematics starts and to which it returns where the task leaves it
    free. The reference's, with joint 7 half a turn on: so the camera heads as on the floating pusher."""
    centring_per_s: float = Field(default=1.0, ge=0)
    """Rate at which joints return to `nominal` as far as the tip is not moved by it."""
    heading_per_s: float = Field(default=5.0, ge=0)
    """Rate at which the last joint turns the wrist camera back to its heading, within its limits."""


class Arm(Posture):
    """An arm of seven joints, base at the world's origin, that carries the pusher's rod (docs/arm.md)."""

    nominal: Vec7 = (0.6202, 1.0135, -0.5873, -1.4182, 0.6449, 0.8986, -0.1536)
    update_s: float = Field(default=0.005, gt=0)
    """Period of the joint commands and of the joint states (200 Hz)."""
    stiffness_nm_rad: float = Field(default=4000.0, gt=0)
    damping_nms_rad: float = Field(default=200.0, gt=0)


class Physics(StrictModel):
    """How contact is computed."""

    time_step_s: float = Field(default=0.01, gt=0)
    contact: Literal["spheres", "hydroelastic", "quasistatic"] = "spheres"
    """`spheres`: the T rides on 28 points, true to quasi-statics and fast. `hydroelastic`: pressure field.
    `quasistatic`: no dynamics at all; a plan says where the T is, and `Station.place` puts it there."""
    approximation: Literal["lagged", "sap", "similar"] = "lagged"


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
    """What may be asked of the robot, in the world frame; see `ambient_policy.limits`."""

    workspace_min: Vec2 = (0.25, -0.36)
    workspace_max: Vec2 = (0.85, 0.33)
    max_speed_m_s: float = 0.5
    max_acceleration_m_s2: float | None = None
    max_jerk_m_s3: float | None = None


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
    arm: Arm | None = None
    """None: the pusher floats."""
    physics: Physics = Physics()
    actuation: Actuation = Actuation()
    cameras: dict[str, Camera]
    look: Look = Look()
    task: Task = Task()
    limits: Limits = Limits()
    randomise: Randomise = Randomise()
    applied_gaps: Mapping[str, int] = {}
    """Gaps (sim/gaps.py) that made this scenario what it is; a record, they are not applied again."""

    def drawn(self, seed: int, *, goal: bool = True) -> Scenario:
        """Return the scenario of the episode of `seed`: `randomise` carried out. Itself if nothing is random.

        Args:
            goal: False leaves the goal where it is meant to be, as a trial of a policy wants it.
        """
        return draw(self, seed, goal=goal)

    @model_validator(mode="after")
    def _periods_divide(self) -> Scenario:
        step_s = self.physics.time_step_s
        pairs = [
            (self.policy_period_s, self.control_period_s, "policy_period_s / control_period_s"),
            (self.control_period_s, step_s, "control_period_s / physics.time_step_s"),
        ]
        if self.arm is not None:
            pairs += [
                (self.control_period_s, self.arm.update_s, "control_period_s / arm.update_s"),
                (self.arm.update_s, step_s, "arm.update_s / physics.time_step_s"),
            ]
        for slow, fast, names in pairs:
            if fast <= 0 or abs(slow / fast - round(slow / fast)) > 1e-9 or slow < fast:
                raise ValueError(f"{names} = {slow} / {fast} must be a whole number of 1 or more")
        lag = self.actuation.lag_s / self.control_period_s
        if abs(lag - round(lag)) > 1e-9:
            raise ValueError(
                f"actuation.lag_s = {self.actuation.lag_s} must be a whole number of control periods "
                f"({self.control_period_s} s)"
            )
        return self

    @model_validator(mode="after")
    def _randomised_cameras_exist(self) -> Scenario:
        moving = self.randomise.camera_m or self.randomise.camera_deg or self.randomise.background_radius
        for name in self.randomise.cameras:
            if moving and name not in self.cameras:
                raise ValueError(f"randomise.cameras names {name!r}; {nearest(name, self.cameras)}")
        return self


def load_scenario(
    name: str | Path,
    overrides: dict[str, Any] | None = None,
    *,
    gaps: Sequence[str] | Mapping[str, int] = (),
) -> Scenario:
    """Read a scenario by the name of a shipped one, or from a YAML file.

    A file may begin with `extends: NAME`: it then holds only what differs from that scenario. It may name
    gaps under `gaps:`, which are laid over all that the file says.

    Args:
        overrides: nested mapping laid over the file, before the gaps.
        gaps: more gaps, as {"camera_orbit": 2} or ["camera_orbit=2"].

    Raises:
        ConfigError: no such scenario (lists the shipped ones) or gap, or a key or value that does not fit.
    """
    from sim.gaps import apply_gaps, parse_gaps  # they are laid over scenarios, so they come after them

    path = _find(name)
    data = merge(_read(path), overrides or {})
    wanted = {**parse_gaps(data.pop("gaps", None) or {}, where=str(path)), **parse_gaps(gaps)}
    return apply_gaps(parse(data, Scenario, str(path)), wanted)


def _read(path: Path, below: tuple[Path, ...] = ()) -> dict[str, Any]:
    """Read a file and all that it extends, the one furthest down first."""
    data = read_yaml(path)
    base = data.pop("extends", None)
    if base is None:
        return data
    file = _find(base, beside=path)
    if file in (*below, path):
        chain = " -> ".join(p.name for p in (*below, path, file))
        raise ConfigError(f"{path}: `extends` goes round in a circle: {chain}")
    return merge(_read(file, (*below, path)), data)


def _find(name: str | Path, beside: Path | None = None) -> Path:
    path = Path(name)
    if path.suffix not in (".yaml", ".yml"):
        path = FOLDER / f"{name}.yaml"
    elif beside is not None:
        path = beside.parent / path
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise ConfigError(
            f"scenario {str(name)!r} not found at {path}; shipped scenarios: {known}; or give a .yaml file"
        )
    return path
