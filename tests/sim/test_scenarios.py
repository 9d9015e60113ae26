"""The shipped scenarios against the reference's numbers, and what is drawn anew for every episode."""

from __future__ import annotations

import multiprocessing
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import pytest

from ambient_policy.config import dump_yaml
from ambient_policy.errors import ConfigError
from sim.bodies import slider_inertia
from sim.effects import apply_effects
from sim.look import ImageEffects
from sim.randomise import Randomise
from sim.scenario import Scenario, load_scenario
from sim.starts import Start, sample_start
from sim.station import Station
from sim.tee import BoxUnion, Tee

pytestmark = pytest.mark.sim
TARGET, SOURCE = load_scenario("target"), load_scenario("source")
GOAL, HOME = np.array(TARGET.task.goal), np.array(TARGET.task.tool_home)


def test_target_and_source_have_the_numbers_of_the_reference():
    for scenario in (TARGET, SOURCE):
        slider, task = scenario.slider, scenario.task
        assert (slider.bar, slider.stem) == ((0.1651, 0.04064), (0.04064, 0.12447))
        assert (slider.height_m, slider.mass_kg, slider.friction) == (0.03175, 0.1, 0.5)
        assert (task.goal, task.tool_home) == ((0.587, -0.0355, 0.0), (0.587, 0.15))
        assert (task.position_tolerance_m, task.yaw_tolerance_deg, task.home_tolerance_m) == (
            0.015,
            3.5,
            0.04,
        )
        assert (task.time_limit_s, task.delay_s, scenario.policy_period_s) == (75.0, 1.0, 0.1)
        assert (scenario.pusher.radius_m, scenario.pusher.length_m) == (0.015, 0.175)
        for camera in scenario.cameras.values():
            assert (camera.fx, camera.fy, camera.cx, camera.cy) == (616.704, 616.777, 318.05, 244.107)
            assert camera.calibrated_size == (640, 480)
        assert scenario.cameras["wrist"].xyz == (-0.0825, -0.024, 0.0575)
    assert TARGET.physics.contact == "hydroelastic"
    assert TARGET.pusher.friction == pytest.approx(2 * 0.25 * 0.5 / (0.25 + 0.5))
    assert (TARGET.pusher.tip_height_m, SOURCE.pusher.tip_height_m) == (0.015, 0.0125)
    assert (SOURCE.pusher.friction, SOURCE.physics.contact) == (0.1, "quasistatic")
    assert TARGET.cameras["overhead"].shadows
    assert not TARGET.cameras["wrist"].shadows
    assert not any(camera.shadows for camera in SOURCE.cameras.values())
    assert (TARGET.look.slider, SOURCE.look.slider) == ((0.15,) * 3, (0.1,) * 3)
    assert not TARGET.randomise.active


def test_extends_follows_a_chain_and_refuses_a_circle(tmp_path):
    (tmp_path / "near.yaml").write_text("extends: pushing_near_goal\nname: near\npusher: {friction: 0.2}\n")
    (tmp_path / "far.yaml").write_text("extends: near.yaml\nname: far\n")
    far = load_scenario(tmp_path / "far.yaml")
    assert (far.name, far.pusher.friction, far.task.start_yaw_deg) == ("far", 0.2, 15.0)
    assert far.cameras == load_scenario("pushing").cameras
    (tmp_path / "near.yaml").write_text("extends: far.yaml\n")
    with pytest.raises(ConfigError, match="goes round in a circle: far.yaml -> near.yaml -> far.yaml"):
        load_scenario(tmp_path / "far.yaml")


@pytest.mark.parametrize("name", ["target", "source", "source_dynamic"])
def test_a_scenario_survives_its_yaml(name, tmp_path):
    scenario = load_scenario(name)
    (tmp_path / "copy.yaml").write_text(dump_yaml(scenario))
    assert load_scenario(tmp_path / "copy.yaml") == scenario


def test_nothing_random_is_drawn_as_itself():
    assert TARGET.drawn(7) is TARGET


def test_a_draw_depends_on_the_seed_alone_and_has_nothing_left_to_draw():
    first = SOURCE.drawn(3)
    assert first == SOURCE.drawn(3)
    assert first != SOURCE.drawn(4)
    assert first.drawn(5) is first


def test_draws_stay_in_their_bounds_and_fill_them():
    draws = [SOURCE.drawn(seed) for seed in range(300)]
    nominal = SOURCE.cameras["overhead"]
    metres = np.array([d.cameras["overhead"].xyz for d in draws]) - nominal.xyz
    degrees = np.rad2deg(np.array([d.cameras["overhead"].rpy for d in draws]) - nominal.rpy)
    goals = np.array([d.task.goal for d in draws]) - SOURCE.task.goal
    for values, bound in (
        (metres, 0.01),
        (degrees, 1.0),
        (goals[:, :2], 0.01),
        (np.rad2deg(goals[:, 2:]), 1.0),
    ):
        assert np.abs(values).max() <= bound + 1e-9
        assert np.all(np.abs(values).max(axis=0) > 0.95 * bound)
        assert np.all(np.abs(values.mean(axis=0)) < 0.15 * bound)
    together = np.corrcoef(np.hstack([metres, goals]).T)[:3, 3:]
    assert np.abs(together).max() < 0.2, "camera and goal are drawn apart"
    for part in ("slider", "pusher", "table"):
        away = np.array([getattr(d.look, part) for d in draws]) - getattr(SOURCE.look, part)
        assert 0.9 * 0.025 < np.linalg.norm(away, axis=1).max() <= 0.025
    away = np.array([d.cameras["overhead"].background for d in draws]) - SOURCE.look.background
    assert 0.9 * 0.05 < np.linalg.norm(away, axis=1).max() <= 0.05
    assert all(d.cameras["wrist"] == SOURCE.cameras["wrist"] for d in draws)


def test_one_draw_does_not_disturb_another():
    only = SOURCE.model_copy(update={"randomise": Randomise(goal_m=0.01, goal_deg=1.0)})
    assert only.drawn(9).task.goal == SOURCE.drawn(9).task.goal
    assert SOURCE.drawn(9, goal=False).task.goal == SOURCE.task.goal
    assert SOURCE.drawn(9, goal=False).cameras == SOURCE.drawn(9).cameras


def _history(scenario: Scenario) -> list[bytes]:
    """State and images along one push; as bytes, so that nothing is rounded on the way."""
    station = Station(scenario)
    seen = []
    for _ in range(2):  # the second time after a reset
        station.reset(Start(GOAL, GOAL[:2] + [0.06, 0.06]))
        for i in range(30):
            station.advance(GOAL[:2] + [0.06, 0.06 - 0.002 * i])
            if i % 10 == 9:
                images = b"".join(image.tobytes() for image in station.images().values())
                seen.append(station.slider_pose().tobytes() + station.tool_xy().tobytes() + images)
    assert seen[:3] == seen[3:], "a reset leaves no trace"
    assert seen[0] != seen[2], "something happened"
    return seen


def test_equal_seeds_give_equal_bits_in_another_process():
    """Target, and a drawn source with every random thing in it, pixel noise included."""
    noisy = load_scenario("source_dynamic", gaps=["noise=1", "lag=1"])
    scenarios = [TARGET, noisy.drawn(5)]
    here = [_history(scenario) for scenario in scenarios]
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(_history, scenarios)) == here
    assert _history(noisy.drawn(6)) != here[1]


def test_quasi_static_scenes_are_placed_and_never_advance():
    station = Station(SOURCE.drawn(1))
    pose = np.array([0.6, -0.02, 0.5])
    station.place(pose, HOME)
    np.testing.assert_allclose(station.slider_pose(), pose, atol=1e-12)
    with pytest.raises(ConfigError, match="physics.contact: quasistatic, so nothing moves"):
        station.advance(HOME)


def test_a_lagging_tool_does_the_same_later():
    prompt, late = (Station(load_scenario("pushing", gaps=g), cameras=False) for g in ((), ("lag=1",)))
    paths = []
    for station in (prompt, late):
        station.reset(Start(GOAL + [0.1, -0.05, 0], HOME))
        path = []
        for i in range(40):
            station.advance(HOME + [0.001 * i, 0])
            path.append(station.tool_xy())
        paths.append(np.array(path))
    np.testing.assert_allclose(paths[1][5:], paths[0][:-5], atol=1e-9)
    np.testing.assert_allclose(paths[1][:5], np.tile(HOME, (5, 1)), atol=1e-9)


def test_lag_is_a_whole_number_of_periods():
    with pytest.raises(
        ConfigError, match=r"actuation.lag_s = 0.015 must be a whole number of control periods"
    ):
        load_scenario("pushing", {"actuation": {"lag_s": 0.015}})


def test_image_effects_do_what_they_say():
    rng = np.random.default_rng(0)
    flat = np.full((96, 128, 3), 60, np.uint8)
    assert apply_effects(flat, ImageEffects(), rng) is flat
    np.testing.assert_array_equal(apply_effects(flat, ImageEffects(exposure_stops=1), rng), 120)
    np.testing.assert_array_equal(apply_effects(flat, ImageEffects(exposure_stops=4), rng), 255)
    noisy = apply_effects(flat, ImageEffects(noise_sigma=0.02), rng).astype(float)
    assert noisy.mean() == pytest.approx(60, abs=0.2)
    assert noisy.std() == pytest.approx(0.02 * 255, rel=0.02)
    # A square of 15 pixels has a variance of (15^2 - 1) / 12 along a row; a blur adds its own.
    square, sigma = np.zeros((101, 101, 3), np.uint8), 3.0
    square[43:58, 43:58] = 255
    spread = apply_effects(square, ImageEffects(blur_width=sigma / 101), rng)[..., 0].astype(float)
    variance = (spread.sum(axis=1) @ (np.arange(101) - 50) ** 2) / spread.sum()
    assert variance - (15**2 - 1) / 12 == pytest.approx(sigma**2, rel=0.05)


def test_shadows_darken_the_table_beside_the_t():
    lit = TARGET.cameras["overhead"].model_copy(update={"shadows": False})
    plain = TARGET.model_copy(update={"cameras": {**TARGET.cameras, "overhead": lit}})
    pictures = []
    for scenario in (TARGET, plain):
        station = Station(scenario)
        station.place(GOAL, HOME)
        pictures.append(station.images())
    darker = pictures[1]["overhead"].astype(int) - pictures[0]["overhead"]
    assert (darker.max(axis=2) > 20).mean() > 0.005
    assert darker.min() > -20
    np.testing.assert_array_equal(pictures[0]["wrist"], pictures[1]["wrist"])


def test_a_steady_push_in_the_target_takes_the_friction_force():
    """Coulomb: mu m g. A target at every time step, so that the tool's lag is force over stiffness."""
    period = TARGET.physics.time_step_s
    scenario = TARGET.model_copy(update={"control_period_s": period})
    target = GOAL[:2] + [0, TARGET.slider.tee.boxes[0].bounds()[3] + TARGET.pusher.radius_m]
    station = Station(scenario, cameras=False)
    station.reset(Start(GOAL, target))
    forces = []
    for _ in range(400):
        target = target - [0, 0.02 * period]
        station.advance(target)
        forces.append((station.tool_xy()[1] - target[1]) * TARGET.pusher.stiffness_n_m)
    assert np.mean(forces[-100:]) == pytest.approx(0.5 * 0.1 * 9.81, rel=0.02)


def test_an_outline_of_boxes_is_that_of_the_t():
    tee = Tee(TARGET.slider.bar, TARGET.slider.stem)
    union = BoxUnion(((0.3, 0.1, *tee.bar), (0.3, 0.1 - (tee.bar[1] + tee.stem[1]) / 2, *tee.stem)))
    start = int(np.argmin(np.linalg.norm(union.outline - tee.outline[0], axis=1)))
    np.testing.assert_allclose(np.roll(union.outline, -start, axis=0), tee.outline, atol=1e-9)
    assert union.friction_radius_m == pytest.approx(tee.friction_radius_m)
    for a, b in zip(union.boxes, tee.boxes, strict=True):
        np.testing.assert_allclose(a.centre, b.centre, atol=1e-12)


@pytest.mark.parametrize(
    ("parts", "complaint"),
    [
        ([[0, 0, 0.1, 0.1], [0.05, 0, 0.1, 0.1]], "overlap"),
        ([[0, 0, 0.1, 0.1], [0.3, 0, 0.1, 0.1]], "several outlines"),
        ([[0, 0, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1]], "meet in a single point"),
        ([[0, 0, 0.1, -0.1]], "positive width"),
    ],
)
def test_a_body_in_pieces_is_refused(parts, complaint):
    with pytest.raises(ConfigError, match=complaint):
        load_scenario("pushing", {"slider": {"parts": parts}})


def test_the_centre_of_mass_lies_where_the_slider_says():
    slider = load_scenario("target", gaps=["centre_of_mass=3"]).slider
    inertia = slider_inertia(slider)
    bar_y = slider.tee.boxes[0].centre[1]
    np.testing.assert_allclose(inertia.get_com(), [0, bar_y - 0.0955, 0], atol=1e-12)
    # Steiner: moved by d, the moment about the frame grows by m d^2.
    plain = slider_inertia(TARGET.slider).CalcRotationalInertia().get_moments()
    moved = inertia.CalcRotationalInertia().get_moments()
    d = bar_y - 0.0955
    np.testing.assert_allclose(moved - plain, [0.1 * d**2, 0, 0.1 * d**2], atol=1e-12)
    with pytest.raises(ConfigError, match="it would tip"):
        load_scenario("pushing", {"slider": {"centre_of_mass_m": [0.0, 0.06]}})


def test_starts_follow_a_goal_that_was_moved():
    drawn = SOURCE.drawn(2)
    start = sample_start(drawn, 2)
    assert np.all(np.abs(start.slider_pose[:2] - drawn.task.goal[:2]) <= np.array(drawn.task.start_box) / 2)
