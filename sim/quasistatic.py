"""Quasi-static pushing of the T: an ellipsoidal limit surface and a sticking contact give closed-form arcs.

A force through a contact point fixes the direction of the slider's body twist; with a contact that sticks,
the pusher moves with the body, so a push along a constant force direction is the exponential of a constant
twist.
Source: Lynch, Maekawa & Tanie 1992; Howe & Cutkosky 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim.se2 import Array
from sim.tee import Tee


@dataclass(frozen=True)
class Pushes:
    """A table of n elementary pushes in the slider's frame; twists are per metre travelled by the pusher."""

    point: Array
    """(n, 2) contact point on the outline [m]."""
    normal: Array
    """(n, 2) unit normal into the body."""
    twist: Array
    """(n, 3) body twist of the slider when the contact point moves at unit speed."""

    def __len__(self) -> int:
        return len(self.point)

    def tool_at_contact(self, index: int, radius_m: float) -> Array:
        """Return where the pusher's axis is when it touches (2,)."""
        return self.point[index] - self.normal[index] * radius_m


def elementary_pushes(
    tee: Tee,
    friction: float,
    radius_m: float,
    *,
    cone: float = 0.6,
    spacing_m: float = 0.018,
    margin_m: float = 0.010,
) -> Pushes:
    """Enumerate contact points along every face and three force directions in the friction cone.

    Args:
        cone: share of the friction cone that is used; 1 would be on the verge of slipping.
        margin_m: distance kept from a face's ends. At the two inner corners a pusher of `radius_m` and a
            little room to approach must fit as well.
    """
    faces = tee.faces
    inner = radius_m + 0.012
    corner_room = {1: (margin_m, inner), 2: (inner, margin_m), 4: (margin_m, inner), 5: (inner, margin_m)}
    points, normals, twists = [], [], []
    for k, face in enumerate(faces):
        low, high = corner_room.get(k, (margin_m, margin_m))
        low, high = low, face.length_m - high
        if high < low:
            continue
        for s in np.linspace(low, high, max(2, round((high - low) / spacing_m) + 1)):
            p = face.start + s * face.tangent
            for slope in (-cone * friction, 0.0, cone * friction):
                force = face.normal + slope * face.tangent
                moment = p[0] * force[1] - p[1] * force[0]
                twist = np.array([force[0], force[1], moment / tee.friction_radius_m**2])
                speed = np.linalg.norm(twist[:2] + twist[2] * np.array([-p[1], p[0]]))
                points.append(p)
                normals.append(face.normal)
                twists.append(twist / speed)
    return Pushes(np.array(points), np.array(normals), np.array(twists))
