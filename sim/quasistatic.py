"""Quasi-static pushing of the T: an ellipsoidal limit surface and a sticking contact give closed-form arcs.

A force through a contact point fixes the direction of the slider's body twist; with a contact that sticks,
the pusher moves with the body, so a push along a constant force direction is the exponential of a constant
twist.
Source: Lynch, Maekawa & Tanie 1992; Howe & Cutkosky 1996.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sim.se2 import Array
from sim.tee import Shape


@dataclass(frozen=True)
class Pushes:
    """A table of n elementary pushes in the slider's frame; twists are per metre travelled by the pusher."""

    point: Array
    """(n, 2) contact point on the outline [m]."""
    normal: Array
    """(n, 2) unit normal into the body."""
    twist: Array
    """(n, 3) body twist of the slider when the contact point moves at unit speed."""
    face: NDArray[np.intp]
    """(n,) which of the T's faces is touched."""
    along_m: Array
    """(n,) distance of the contact point from the start of that face."""
    slope: Array
    """(n,) tangential over normal force."""

    def __len__(self) -> int:
        return len(self.point)

    def tool_at_contact(self, index: int, radius_m: float) -> Array:
        """Return where the pusher's axis is when it touches (2,)."""
        return self.point[index] - self.normal[index] * radius_m


@dataclass(frozen=True)
class LimitSurface:
    """An ellipsoid: which twist answers a force through a contact point.

    Attributes:
        radius_m: largest friction moment over largest friction force, its half-axis.
        centre_m: where the model puts the centre of friction, in the body's frame.
    """

    radius_m: float
    centre_m: tuple[float, float] = (0.0, 0.0)

    def twist(self, point: Array, force: Array) -> Array:
        """Return the body twist (..., 3) for a force (..., 2) at a body point (..., 2), of any scale."""
        x, y = self.centre_m
        moment = (point[..., 0] - x) * force[..., 1] - (point[..., 1] - y) * force[..., 0]
        spin = moment / self.radius_m**2
        return np.stack([force[..., 0] + spin * y, force[..., 1] - spin * x, spin], -1)


def contact_spans(
    tee: Shape, radius_m: float, *, margin_m: float = 0.0, share: tuple[float, float] = (0.0, 1.0)
) -> list[tuple[float, float]]:
    """Return from where to where each face may be touched, metres from its start; empty when low > high.

    Args:
        margin_m, share: distance kept from a face's ends, and the part of its length that may be touched. At
            the inner corners a pusher of `radius_m` and a little room to approach must fit as well.
    """
    inner, faces = radius_m + 0.012, tee.faces
    # Going round counter-clockwise, the outline turns right at an inner corner.
    turns = [
        a.tangent[0] * b.tangent[1] - a.tangent[1] * b.tangent[0]
        for a, b in zip(faces, (*faces[1:], faces[0]), strict=True)
    ]
    spans = []
    for k, face in enumerate(faces):
        low = max(inner if turns[k - 1] < 0 else margin_m, share[0] * face.length_m)
        high = min(
            face.length_m - (inner if turns[k] < 0 else margin_m),
            share[1] * face.length_m,
        )
        spans.append((low, high))
    return spans


def elementary_pushes(
    tee: Shape,
    friction: float,
    radius_m: float,
    *,
    cone: float = 0.6,
    spacing_m: float = 0.018,
    margin_m: float = 0.010,
    share: tuple[float, float] = (0.0, 1.0),
    surface: LimitSurface | None = None,
) -> Pushes:
    """Enumerate contact points along every face and three force directions in the friction cone.

    Args:
        cone: share of the friction cone that is used; 1 would be on the verge of slipping.
        margin_m, share: as of `contact_spans`.
        surface: that of a uniform pressure when None.
    """
    surface = surface or LimitSurface(tee.friction_radius_m)
    points, normals, twists, places = [], [], [], []
    spans = contact_spans(tee, radius_m, margin_m=margin_m, share=share)
    for k, (face, (low, high)) in enumerate(zip(tee.faces, spans, strict=True)):
        if high < low:
            continue
        for s in np.linspace(low, high, max(2, round((high - low) / spacing_m) + 1)):
            p = face.start + s * face.tangent
            for slope in (-cone * friction, 0.0, cone * friction):
                force = face.normal + slope * face.tangent
                twist = surface.twist(p, force)
                speed = np.linalg.norm(twist[:2] + twist[2] * np.array([-p[1], p[0]]))
                points.append(p)
                normals.append(face.normal)
                twists.append(twist / speed)
                places.append((k, s, slope))
    where, along, slopes = zip(*places, strict=True)
    return Pushes(
        *(np.array(column) for column in (points, normals, twists, where, along, slopes)),
    )
