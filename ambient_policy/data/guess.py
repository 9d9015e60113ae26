"""A first draft of a mapping, with its doubts. It is printed, never used unasked."""

from __future__ import annotations

import re

from ambient_policy.data.mapping import ImageField, Mapping, Vector
from ambient_policy.data.portable import Field, Foreign
from ambient_policy.errors import EpisodeError

STATE = (
    "observation.state",
    "state",
    "agent_pos",
    "obs/state",
    "obs/robot0_eef_pos",
    "robot_eef_pose",
    "robot0_eef_pos",
)
ACTION = ("action", "actions")
POSES = ("slider_state", "slider_pose", "obs/slider_pose", "privileged_slider_pose")


def guess(foreign: Foreign) -> tuple[Mapping, list[str]]:
    """Return a mapping for a foreign dataset, and what about it is doubtful.

    Raises:
        EpisodeError: no field could be a state or an action.
    """
    doubts: list[str] = []
    state = _pick(foreign, STATE, "state")
    action = _pick(foreign, ACTION, "action")
    rules = {}
    for what, key in (("state", state), ("action", action)):
        field = foreign.keys[key]
        wide = field.shape[0] if field.shape else 1
        if wide != 2:
            names = f" ({', '.join(field.names)})" if field.names else ""
            doubts.append(f"{what}: {key} has {wide} columns{names}; columns 0 and 1 are taken for x and y")
        rules[what] = Vector(key=key)
    if re.search("delta|vel", action) or (action == "actions" and foreign.format == "hdf5"):
        rules["action"] = Vector(key=action, relative_to="state")
        doubts.append("action: taken for a step relative to the state, as robomimic's usually are, in metres")
    else:
        doubts.append(
            "action: taken for a place in the world [m], not a step; units are not recorded in the file"
        )
    period_s = foreign.period_s
    if period_s is None:
        period_s = 0.1
        doubts.append("period_s: not recorded in the file; 0.1 s is a guess")
    cameras, used = {}, set[str]()
    for key in foreign.cameras:
        name = re.sub(r"\W+", "_", re.sub(r"(_image|_camera)$", "", re.split(r"[./]", key)[-1])) or "camera"
        name = name if re.match("[A-Za-z]", name) else f"camera_{name}"
        while name in used:
            name += "_"
        used.add(name)
        cameras[name] = ImageField(key=key)
    if cameras:
        doubts.append("cameras: no intrinsics in the file; the focal length is taken as the image's width")
    extra = {}
    for key, field in foreign.keys.items():
        if key in POSES and field.shape == (3,):
            extra["privileged_slider_pose"] = key
            doubts.append(f"extra: {key} taken for x, y [m] and yaw [rad] of the object")
            break
    if foreign.lossy:
        doubts.append("images: the file's videos are lossy; what is imported is what they decode to here")
    mapping = Mapping(
        state=rules["state"], action=rules["action"], cameras=cameras, extra=extra, period_s=period_s
    )
    return mapping, doubts


def _pick(foreign: Foreign, names: tuple[str, ...], what: str) -> str:
    flat = {key: field for key, field in foreign.keys.items() if _number(field)}
    for name in names:
        if name in flat and flat[name].shape and flat[name].shape[0] >= 2:
            return name
    for key, field in flat.items():
        if what in key and field.shape and field.shape[0] >= 2:
            return key
    have = ", ".join(f"{key} {field.shape}" for key, field in foreign.keys.items()) or "none"
    raise EpisodeError(
        f"no field of {foreign.origin} could be the {what} (two columns or more of numbers); it has "
        f"{have}. Name it in "
        "a mapping: --mapping FILE"
    )


def _number(field: Field) -> bool:
    return len(field.shape) == 1 and field.dtype not in ("string", "bool")
