"""What the seam benchmark says of commands whose smoothness is known."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.seams import Smoothness


def test_steady_motion_is_smooth_and_a_jump_is_seen_at_its_seam() -> None:
    commands = np.column_stack([np.arange(20) * 0.001, np.zeros(20)])  # 0.1 m/s
    stamps = [None] * 2 + [0.0] * 8 + [1.0] * 10
    steady = Smoothness.of(commands, stamps, 0.01)
    assert steady.seam_steps_m_s == pytest.approx((0.0,), abs=1e-9)
    assert steady.jerk_m_s3 == pytest.approx(0.0, abs=1e-6)
    commands[10:] += [0.0, 0.002]  # 2 mm in one tick: to 0.2 m/s and back
    jump = Smoothness.of(commands, stamps, 0.01)
    assert jump.seam_steps_m_s == pytest.approx((0.2,))
    assert jump.largest_step_m_s == pytest.approx(0.2)
    # Third differences of the jump: 1, -2, 1 times 2 mm, over 17 of them.
    assert jump.jerk_m_s3 == pytest.approx(0.002e6 * np.sqrt(6 / 17))
    commands[5:] += [0.0, 0.003]
    assert Smoothness.of(commands, stamps, 0.01).seam_steps_m_s == pytest.approx((0.2,)), "elsewhere"
