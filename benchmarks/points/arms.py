"""What a study trains: one arm a line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Arm:
    """One way to learn: presets of the trainer, settings laid over them, and the sources it is given.

    Attributes:
        sources: folders under the study's data, in the order of the config's sources.
        annotation: whether it takes levels from the annotation of the same data.
    """

    name: str
    sources: tuple[str, ...]
    preset: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    annotation: bool = False
