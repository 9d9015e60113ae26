"""Blank and frozen pictures are told, and a resting tool is no fault."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.image_checks import ImageChecks

CAMERAS = ("overhead", "wrist")
SCENE = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)


def at(x_m: float) -> np.ndarray:
    return np.array([x_m, 0.0])


@pytest.mark.parametrize("value", [0, 128, 255])
def test_one_colour_all_over_shows_nothing(value: int) -> None:
    noise = np.random.default_rng(1).integers(0, 3, SCENE.shape)
    image = np.clip(value + noise - 1, 0, 255).astype(np.uint8)
    fault = ImageChecks(2.0, 0.02, ()).fault({"wrist": image, "overhead": SCENE}, at(0))
    assert fault.startswith("camera `wrist` shows nothing")
    assert "overhead" not in fault


def test_a_dim_scene_is_still_a_scene() -> None:
    assert ImageChecks(2.0, 0.02, ()).fault({"wrist": SCENE // 20}, at(0)) == ""


def test_the_same_picture_is_frozen_once_the_tool_has_moved() -> None:
    checks = ImageChecks(2.0, 0.02, CAMERAS)
    faults = [checks.fault({"wrist": SCENE.copy()}, at(x_m)) for x_m in (0.5, 0.5, 0.51, 0.519, 0.521, 0.53)]
    assert faults[:4] == [""] * 4
    assert faults[4] == "camera `wrist` is frozen: the same picture since the tool moved by 0.021 m"
    changed = SCENE.copy()
    changed[3, 5, 1] ^= 1
    assert checks.fault({"wrist": changed}, at(0.6)) == "", "one bit is a change"
    assert checks.fault({"wrist": changed}, at(0.615)) == "", "and counts from there"
    assert "0.025 m" in checks.fault({"wrist": changed}, at(0.625))


def test_each_camera_counts_for_itself() -> None:
    checks = ImageChecks(2.0, 0.02, CAMERAS)
    checks.fault({"wrist": SCENE, "overhead": SCENE}, at(0))
    fault = checks.fault({"wrist": SCENE[::-1], "overhead": SCENE}, at(0.05))
    assert fault.startswith("camera `overhead` is frozen")
    assert "wrist" not in fault


def test_a_camera_that_is_not_named_may_show_the_same_for_ever() -> None:
    checks = ImageChecks(2.0, 0.02, ["overhead"])
    assert [checks.fault({"wrist": SCENE}, at(x_m)) for x_m in (0.0, 0.5)] == ["", ""]


def test_checks_can_be_switched_off() -> None:
    checks = ImageChecks(0.0, 0.02, ())
    blank = np.zeros_like(SCENE)
    assert [checks.fault({"wrist": blank}, at(x_m)) for x_m in (0.0, 1.0)] == ["", ""]
