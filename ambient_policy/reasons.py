"""Reasons of holds, told apart by their words: ages and counts in them change from one tick to the next."""

from __future__ import annotations

import re
from collections.abc import Callable


def without_numbers(reason: str) -> str:
    """Return the kind of a reason."""
    return re.sub(r"\d+(\.\d+)?", "#", reason)


class Once:
    """Says each kind of reason once: a hold that lasts would otherwise fill the screen.

    Args:
        say: takes the text, such as a logger's `warning`.
    """

    def __init__(self, say: Callable[[str], object]) -> None:
        self._say = say
        self._said: set[str] = set()

    def __call__(self, reason: str) -> None:
        """Say a reason unless its kind has been said since `forget`."""
        if (kind := without_numbers(reason)) not in self._said:
            self._said.add(kind)
            self._say(f"{reason} (said once)")

    def forget(self) -> None:
        """Start anew, as at the next trial."""
        self._said.clear()
