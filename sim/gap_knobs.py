"""The gaps themselves: what each knob changes, at the magnitudes of the reference where it has them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from sim.look import Vec3
from sim.scenario import Scenario

Kind = Literal["visual", "physics", "action", "task"]
Overlay = Mapping[str, Any]
"""Nested keys of a scenario that differ."""


@dataclass(frozen=True)
class Level:
    """One magnitude of a gap."""

    text: str
    change: Overlay | Callable[[Scenario], Overlay]

    def overlay(self, scenario: Scenario) -> Overlay:
        """Return what to lay over this scenario."""
        return self.change(scenario) if callable(self.change) else self.change


@dataclass(frozen=True)
class Gap:
    """One way in which a source of data differs from the target, by level from 1 on."""

    kind: Kind
    about: str
    levels: tuple[Level, ...]
    source: str = "ours"
    """`reference`: the magnitudes are those of Wei et al. 2025 (arXiv 2503.22634) and its configs."""


ORBIT_CENTRE = (0.611, -0.0744)
"""The reference's shifted cameras lie on a circle of 0.3 m round this point [m]."""


def _shifted(nominal: Vec3, distance: float, tag: int) -> Vec3:
    """Move a colour by exactly `distance` in a direction that depends on `tag` alone and stays a colour."""
    rng = np.random.default_rng([0xC0105, tag])
    while True:
        direction = rng.standard_normal(3)
        r, g, b = np.asarray(nominal) + distance * direction / np.linalg.norm(direction)
        if min(r, g, b) >= 0 and max(r, g, b) <= 1:
            return float(r), float(g), float(b)


def _colour_shift(distance: float) -> Callable[[Scenario], Overlay]:
    def change(scenario: Scenario) -> Overlay:
        look = scenario.look
        parts = ("slider", "pusher", "table", "background")
        shifted = {part: _shifted(getattr(look, part), distance, tag) for tag, part in enumerate(parts)}
        cameras = {
            name: {"background": _shifted(camera.background, distance, 3)}
            for name, camera in scenario.cameras.items()
            if camera.background is not None
        }
        return {"look": shifted, "cameras": cameras}

    return change


def _orbit(angle_rad: float) -> Callable[[Scenario], Overlay]:
    def change(scenario: Scenario) -> Overlay:
        camera = scenario.cameras["overhead"]
        c, s = np.cos(-angle_rad), np.sin(-angle_rad)
        d = np.asarray(camera.xyz[:2]) - ORBIT_CENTRE
        x, y = np.asarray(ORBIT_CENTRE) + [c * d[0] - s * d[1], s * d[0] + c * d[1]]
        roll, pitch, yaw = camera.rpy
        return {
            "cameras": {
                "overhead": {
                    "xyz": (float(x), float(y), camera.xyz[2]),
                    "rpy": (roll, pitch, yaw - angle_rad),
                }
            }
        }

    return change


def _every_camera(**change: Any) -> Callable[[Scenario], Overlay]:
    return lambda scenario: {"cameras": dict.fromkeys(scenario.cameras, change)}


def _lamps(*lights: Mapping[str, Any]) -> Callable[[Scenario], Overlay]:
    def change(scenario: Scenario) -> Overlay:
        return {
            "look": {"lights": lights},
            "cameras": {name: {"lights": None} for name in scenario.cameras},
        }

    return change


def _source_look(scenario: Scenario) -> Overlay:
    from sim.scenario import load_scenario

    source = load_scenario("source")
    data = source.model_dump()
    visual = ("camera_m", "camera_deg", "cameras", "background_radius", "colour_radius")
    return {
        "look": {k: v for k, v in data["look"].items() if k != "effects"},
        "cameras": {
            name: {k: v for k, v in camera.items() if k != "scale"}
            for name, camera in data["cameras"].items()
            if name in scenario.cameras
        },
        "randomise": {key: data["randomise"][key] for key in visual},
    }


def _goal_shift(distance_m: float) -> Callable[[Scenario], Overlay]:
    def change(scenario: Scenario) -> Overlay:
        x, y, yaw = scenario.task.goal
        return {"task": {"goal": (x, y - distance_m, yaw)}}

    return change


def _set(text: str, **change: Any) -> Level:
    return Level(text, change)


def _levels(section: str, key: str, text: str, *values: Any) -> tuple[Level, ...]:
    return tuple(Level(text.format(value), {section: {key: value}}) for value in values)


def _centre_of_mass(from_bar_m: float) -> Level:
    # The reference counts from the bar's centre along the stem; a uniform T has it at -0.0355 m.
    def change(scenario: Scenario) -> Overlay:
        y_bar = scenario.slider.tee.boxes[0].centre[1]
        return {"slider": {"centre_of_mass_m": (0.0, from_bar_m + y_bar)}}

    return Level(f"{from_bar_m:+.4f} m from the bar's centre", change)


W, D = 0.1651, 0.04064
_ARM = W / 2 - D / 2
SHAPES: dict[str, Overlay] = {
    "snake": {
        "parts": (
            (0.0, 0.0, D, 0.165),
            (D / 4 + 0.165 / 4, 0.165 / 2 - D / 2, 0.165 / 2 - D / 2, D),
            (-D / 4 - 0.165 / 4, D / 2 - 0.165 / 2, 0.165 / 2 - D / 2, D),
        ),
        "height_m": 0.040875,
    },
    "cross": {"parts": ((0.0, 0.0, W, D), (0.0, W / 4 + D / 4, D, _ARM), (0.0, -W / 4 - D / 4, D, _ARM))},
    "sugar box": {"parts": ((0.0, 0.0, 0.089, 0.175),), "height_m": 0.038},
    "L": {"parts": ((0.0, 0.0, W, D), ((W - D) / 2, -D / 2 - 0.12447 / 2, D, 0.12447))},
    "T with its stem off centre": {"parts": ((0.0, 0.0, W, D), (0.03, -D / 2 - 0.12447 / 2, D, 0.12447))},
    "larger T": {"bar": (0.2, 0.05), "stem": (0.05, 0.15), "height_m": 0.05, "mass_kg": 0.153},
}
"""Bodies other than the T. The snake and the larger T are the reference's own."""

GAPS: dict[str, Gap] = {
    "source_look": Gap(
        "visual",
        "the source sim's cameras, lights, colours and their spread",
        (Level("all of the source scenario's look", _source_look),),
        "reference",
    ),
    "colour_shift": Gap(
        "visual",
        "every colour moved by an RGB distance, in a direction of its own",
        tuple(Level(f"{d}", _colour_shift(d)) for d in (0.05, 0.2, 0.5)),
        "reference",
    ),
    "colour_random": Gap(
        "visual",
        "colours of slider, pusher and table drawn anew for every episode",
        (
            _set("within 0.1", randomise={"colour_radius": 0.1}),
            _set("within 0.5", randomise={"colour_radius": 0.5}),
            _set("any colour", randomise={"colour_radius": "any"}),
        ),
        "reference",
    ),
    "camera_orbit": Gap(
        "visual",
        "the overhead camera carried round the table",
        tuple(Level(f"pi/{n}", _orbit(np.pi / n)) for n in (16, 8, 4)),
        "reference",
    ),
    "camera_jitter": Gap(
        "visual",
        "the overhead camera placed anew for every episode, uniform about its nominal pose",
        tuple(
            _set(
                f"{n} cm and {n} deg",
                randomise={"camera_m": 0.01 * n, "camera_deg": n, "cameras": ["overhead"]},
            )
            for n in (1.0, 2.0, 4.0)
        ),
        "reference (level 1)",
    ),
    "lights": Gap(
        "visual",
        "other lamps",
        (
            Level("one white lamp at each camera", _lamps()),
            Level("one lamp from the side", _lamps({"position": (0.9, 0.8, 0.6), "intensity": 1.0})),
            Level(
                "one dim, cold lamp above",
                _lamps({"position": (0.0, 0.0, 1.0), "colour": (0.7, 0.85, 1.0), "intensity": 0.4}),
            ),
        ),
    ),
    "shadows": Gap(
        "visual",
        "who casts shadows",
        (
            Level("no camera sees any", _every_camera(shadows=False)),
            Level("both cameras see them", _every_camera(shadows=True)),
        ),
        "reference (level 1)",
    ),
    "blur": Gap(
        "visual",
        "Gaussian blur, standard deviation as a share of the image's width",
        tuple(
            _set(f"{v} ({text} of 128)", look={"effects": {"blur_width": v}})
            for v, text in ((0.004, "half a pixel"), (0.008, "one pixel"), (0.016, "two pixels"))
        ),
    ),
    "noise": Gap(
        "visual",
        "noise on every pixel, standard deviation as a share of full scale",
        tuple(_set(f"{v}", look={"effects": {"noise_sigma": v}}) for v in (0.02, 0.05, 0.1)),
    ),
    "exposure": Gap(
        "visual",
        "a darker or brighter picture",
        tuple(_set(f"{v:+} stops", look={"effects": {"exposure_stops": v}}) for v in (-0.5, -1.0, 1.0)),
    ),
    "quasistatic": Gap(
        "physics",
        "no dynamics: a plan on a limit surface says where the T is",
        (_set("poses written by the plan", physics={"contact": "quasistatic"}),),
        "reference",
    ),
    "contact": Gap(
        "physics",
        "another contact model or solver",
        (
            _set(
                "point contact on 28 spheres, 10 ms",
                physics={"contact": "spheres", "approximation": "lagged", "time_step_s": 0.01},
            ),
            _set(
                "hydroelastic, SAP, 1 ms (the reference's solver)",
                physics={"contact": "hydroelastic", "approximation": "sap", "time_step_s": 0.001},
            ),
            _set(
                "hydroelastic, SAP, 5 ms (depends on the step)",
                physics={"contact": "hydroelastic", "approximation": "sap", "time_step_s": 0.005},
            ),
        ),
    ),
    "friction": Gap(
        "physics",
        "Coulomb friction between pusher and T (target: 1/3)",
        _levels("pusher", "friction", "{}", 0.1, 0.05, 0.6),
        "reference (levels 1 and 2)",
    ),
    "table_friction": Gap(
        "physics",
        "Coulomb friction between T and table (target: 0.5)",
        _levels("slider", "friction", "{}", 0.4, 0.25, 1.0),
    ),
    "mass": Gap(
        "physics", "mass of the T (target: 0.1 kg)", _levels("slider", "mass_kg", "{} kg", 0.05, 0.2, 0.5)
    ),
    "inertia": Gap(
        "physics",
        "the moment of inertia of the T",
        (_set("placeholder: 1e-5 kg m2 about every axis", slider={"inertia": "placeholder"}),),
        "reference",
    ),
    "centre_of_mass": Gap(
        "physics",
        "the T's centre of mass moved along its stem (uniform: -0.0355 m)",
        tuple(_centre_of_mass(y) for y in (-0.0055, -0.0655, -0.0955)),
        "reference",
    ),
    "tip_height": Gap(
        "physics",
        "how high the pusher's tip glides (target: 15 mm)",
        (_set("12.5 mm", pusher={"tip_height_m": 0.0125}), _set("25 mm", pusher={"tip_height_m": 0.025})),
        "reference (level 1)",
    ),
    "pusher_radius": Gap(
        "physics",
        "another tool: radius of the pusher (target: 15 mm)",
        _levels("pusher", "radius_m", "{} m", 0.010, 0.020, 0.025),
    ),
    "lag": Gap(
        "action",
        "a command is carried out late",
        _levels("actuation", "lag_s", "{} s", 0.05, 0.1, 0.2),
    ),
    "gains": Gap(
        "action",
        "a softer position controller of the tool (target: 2000 N/m, 100 Ns/m)",
        tuple(
            _set(f"{k:.0f} N/m, {d:.0f} Ns/m", pusher={"stiffness_n_m": k, "damping_ns_m": d})
            for k, d in ((500.0, 40.0), (200.0, 20.0), (100.0, 10.0))
        ),
    ),
    "goal_shift": Gap(
        "task",
        "the goal lies further from the tool's home, along -y",
        tuple(Level(f"{100 * d:g} cm", _goal_shift(d)) for d in (0.025, 0.05, 0.1)),
        "reference",
    ),
    "goal_noise": Gap(
        "task",
        "each demonstration ends at a goal of its own, uniform about the right one",
        tuple(
            _set(f"{n:g} cm and {n:g} deg", randomise={"goal_m": 0.01 * n, "goal_deg": n})
            for n in (1.0, 2.0, 4.0)
        ),
        "reference (level 1)",
    ),
    "starts": Gap(
        "task",
        "where the T starts (target: a box of 0.4 m x 0.3 m)",
        (
            _set("0.35 m x 0.5 m, the planner's", task={"start_box": (0.35, 0.5)}),
            _set("0.5 m x 0.35 m, the operator's", task={"start_box": (0.5, 0.35)}),
        ),
        "reference",
    ),
    "shape": Gap(
        "task",
        "another object is pushed",
        tuple(Level(name, {"slider": overlay}) for name, overlay in SHAPES.items()),
        "reference (in kind: six objects)",
    ),
}

COMBINATIONS: dict[str, tuple[str, dict[str, int]]] = {
    "reference": (
        "all that the reference's source sim does otherwise; on `target` this gives `source`",
        {"source_look": 1, "quasistatic": 1, "friction": 1, "tip_height": 1, "goal_noise": 1, "starts": 1},
    ),
    "reference_dynamic": (
        "the same with dynamics; on `target` this gives `source_dynamic`",
        {"source_look": 1, "contact": 1, "friction": 1, "tip_height": 1, "goal_noise": 1, "starts": 1},
    ),
    "hard": (
        "all four kinds, strong: look, camera, colours, friction, centre of mass, lag, soft gains, goal",
        {
            "source_look": 1,
            "colour_shift": 3,
            "camera_orbit": 2,
            "contact": 1,
            "friction": 2,
            "centre_of_mass": 3,
            "lag": 2,
            "gains": 2,
            "goal_shift": 2,
        },
    ),
}
"""Names for several gaps at once, with one line on each."""
