"""Who of several, that should report regularly, is silent or lives in another time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np


class Watch:
    """Keeps when each was heard.

    Args:
        names: who must report.
        timeout_s: one that has said nothing for so long is silent.
        max_clock_error_s: stamps that differ from the time of hearing by more are another clock's.
    """

    def __init__(self, names: Iterable[str], timeout_s: float, max_clock_error_s: float) -> None:
        self._timeout_s, self._max_clock_error_s = timeout_s, max_clock_error_s
        self._heard_s = dict.fromkeys(names, -np.inf)
        # One report may come late on a busy machine; a wrong clock shows in all.
        self._errors_s: dict[str, deque[float]] = {name: deque(maxlen=3) for name in self._heard_s}

    def hear(self, name: str, now_s: float, stamp_error_s: float) -> None:
        """Note a report, heard `now_s` and stamped `stamp_error_s` before that; others' reports count not."""
        if name in self._heard_s:
            self._heard_s[name] = now_s
            self._errors_s[name].append(stamp_error_s)

    def trouble(self, now_s: float) -> str:
        """Return what is wrong, or nothing."""
        for name, heard_s in self._heard_s.items():
            if np.isinf(heard_s):
                return f"nothing has been heard of {name} yet"
            if now_s - heard_s > self._timeout_s:
                return f"{name} has been silent for {now_s - heard_s:.1f} s"
            error_s = min(self._errors_s[name], key=abs)
            if abs(error_s) > self._max_clock_error_s:
                late = "behind" if error_s > 0 else "ahead of"
                return f"the clock of {name} is {abs(error_s):.2f} s {late} the watchdog's; synchronise them"
        return ""
