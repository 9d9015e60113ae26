"""Every gap changes what it says, by as much as it says, and nothing else."""

from __future__ import annotations

import numpy as np
import pytest

from ambient_policy.errors import ConfigError
from sim import se2
from sim.cameras import camera_pose
from sim.gap_knobs import COMBINATIONS, GAPS, ORBIT_CENTRE
from sim.gaps import apply_gaps, expand, main, parse_gaps
from sim.quasistatic import elementary_pushes
from sim.scenario import Scenario, load_scenario
from sim.starts import Start, clearance_m, sample_start
from sim.station import Station

pytestmark = pytest.mark.sim
TARGET = load_scenario("target")
EVERY = [(name, level) for name, gap in GAPS.items() for level in range(1, len(gap.levels) + 1)]
TOUCHES = {
    "source_look": {"look", "cameras", "randomise"},
    "colour_shift": {"look", "cameras"},
    "colour_random": {"randomise"},
    "camera_orbit": {"cameras"},
    "camera_jitter": {"randomise"},
    "lights": {"look", "cameras"},
    "shadows": {"cameras"},
    "blur": {"look"},
    "noise": {"look"},
    "exposure": {"look"},
    "quasistatic": {"physics"},
    "contact": {"physics"},
    "friction": {"pusher"},
    "table_friction": {"slider"},
    "mass": {"slider"},
    "inertia": {"slider"},
    "centre_of_mass": {"slider"},
    "tip_height": {"pusher"},
    "pusher_radius": {"pusher"},
    "lag": {"actuation"},
    "gains": {"pusher"},
    "goal_shift": {"task"},
    "goal_noise": {"randomise"},
    "starts": {"task"},
    "shape": {"slider"},
}


def changed(a: Scenario, b: Scenario) -> set[str]:
    return {key for key in Scenario.model_fields if getattr(a, key) != getattr(b, key)} - {
        "name",
        "applied_gaps",
    }


@pytest.mark.parametrize(("name", "level"), EVERY)
def test_a_gap_changes_its_own_part_alone_and_leaves_its_name(name, level):
    scenario = load_scenario("target", gaps={name: level})
    assert changed(scenario, TARGET)
    assert changed(scenario, TARGET) <= TOUCHES[name]
    assert scenario.name == f"target+{name}={level}"
    assert scenario.applied_gaps == {name: level}


def test_levels_of_a_gap_differ():
    for name, gap in GAPS.items():
        scenarios = [load_scenario("target", gaps={name: i}) for i in range(1, len(gap.levels) + 1)]
        for i, a in enumerate(scenarios):
            assert all(changed(a, b) for b in scenarios[i + 1 :]), f"two levels of {name} are the same"


@pytest.mark.parametrize(("level", "distance"), [(1, 0.05), (2, 0.2), (3, 0.5)])
def test_colours_move_by_the_distance_of_their_level(level, distance):
    look = load_scenario("target", gaps={"colour_shift": level})
    pairs = [
        (getattr(look.look, p), getattr(TARGET.look, p)) for p in ("slider", "pusher", "table", "background")
    ]
    pairs += [(look.cameras[n].background, TARGET.cameras[n].background) for n in look.cameras]
    for shifted, nominal in pairs:
        assert np.linalg.norm(np.subtract(shifted, nominal)) == pytest.approx(distance)
        assert min(shifted) >= 0
        assert max(shifted) <= 1


def test_magnitudes_are_the_references():
    """Wei et al. 2025, figure on gaps: goal 2.5, 5, 10 cm; mass centre; friction; colour radius."""

    def values(name: str, of) -> list:
        return [of(load_scenario("target", gaps={name: i + 1})) for i in range(len(GAPS[name].levels))]

    x, y, yaw = TARGET.task.goal
    shifted = [(x, y - d, yaw) for d in (0.025, 0.05, 0.1)]
    np.testing.assert_allclose(values("goal_shift", lambda s: s.task.goal), shifted, atol=1e-12)
    bar = TARGET.slider.tee.boxes[0].centre[1]
    masses = [(0, bar - d) for d in (0.0055, 0.0655, 0.0955)]
    np.testing.assert_allclose(
        values("centre_of_mass", lambda s: s.slider.centre_of_mass_m), masses, atol=1e-12
    )
    assert values("friction", lambda s: s.pusher.friction)[:2] == [0.1, 0.05]
    assert values("colour_random", lambda s: s.randomise.colour_radius) == [0.1, 0.5, "any"]
    noise = values("goal_noise", lambda s: (s.randomise.goal_m, s.randomise.goal_deg))
    assert noise[0] == (0.01, 1.0)


@pytest.mark.parametrize(("level", "angle"), [(1, np.pi / 16), (2, np.pi / 8), (3, np.pi / 4)])
def test_an_orbit_is_a_turn_of_the_camera_about_the_table(level, angle):
    """As a rigid motion: R_z(-angle) about the vertical through the centre, whatever the pose was."""
    before, after = (
        camera_pose(s.cameras["overhead"])
        for s in (TARGET, load_scenario("target", gaps={"camera_orbit": level}))
    )
    c, s = np.cos(-angle), np.sin(-angle)
    R = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]])
    centre = np.array([*ORBIT_CENTRE, 0])
    np.testing.assert_allclose(after.translation(), centre + R @ (before.translation() - centre), atol=1e-12)
    np.testing.assert_allclose(after.rotation().matrix(), R @ before.rotation().matrix(), atol=1e-12)


@pytest.mark.parametrize(
    ("level", "xy", "yaw"),
    [(1, (0.9042355841, -0.1329362566), 1.349889165), (3, (0.8221320344, -0.2865411944), 0.760840542)],
)
def test_orbits_of_the_source_camera_are_the_references(level, xy, yaw):
    """Poses from the public configs of the reference's camera shift, levels 1 and 3."""
    camera = load_scenario("source", gaps={"camera_orbit": level}).cameras["overhead"]
    np.testing.assert_allclose(camera.xyz[:2], xy, atol=0.002)
    assert camera.rpy[2] == pytest.approx(yaw, abs=1e-4)


def test_the_reference_combination_makes_the_source_of_the_target():
    for name, combination in (("source", "reference"), ("source_dynamic", "reference_dynamic")):
        made, source = load_scenario("target", gaps=[combination]), load_scenario(name)
        assert changed(made, source) <= {"physics"}
        assert made.physics.contact == source.physics.contact
        assert made.name == f"target+{combination}"


def test_a_combination_gives_way_to_a_gap_named_by_itself():
    assert expand({"friction": 3, "reference": 1})["friction"] == 3
    assert expand({"reference": 1, "friction": 3})["friction"] == 3
    kinds = {GAPS[name].kind for name in COMBINATIONS["hard"][1]}
    assert kinds == {"visual", "physics", "action", "task"}


def test_the_order_in_which_gaps_are_named_does_not_matter():
    a = apply_gaps(TARGET, {"camera_orbit": 2, "source_look": 1})
    b = apply_gaps(TARGET, {"source_look": 1, "camera_orbit": 2})
    assert changed(a, b) == set()


def test_gaps_in_a_scenario_file_and_on_the_command_line_add_up(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("extends: target\nname: mine\ngaps: {camera_orbit: 2, lag: 1}\n")
    scenario = load_scenario(path, gaps=["lag=3", "mass"])
    assert scenario.applied_gaps == {"camera_orbit": 2, "lag": 3, "mass": 1}
    assert scenario.name == "mine+camera_orbit=2+lag=3+mass=1"
    assert scenario.actuation.lag_s == 0.2
    path.write_text("extends: target\ngaps: [camera_orbt=2]\n")
    with pytest.raises(
        ConfigError, match=r"mine.yaml: unknown gap 'camera_orbt'; did you mean `camera_orbit`"
    ):
        load_scenario(path)


@pytest.mark.parametrize(
    ("gaps", "complaint"),
    [
        (["frction"], "unknown gap 'frction'; did you mean `friction`"),
        (["camera_orbit=4"], r"no level 4; its levels are 1 \(pi/16\), 2 \(pi/8\), 3 \(pi/4\)"),
        (["camera_orbit=0"], "no level 0"),
        (["lag=often"], "level 'often' is no whole number; write `lag=1`"),
        ({"lag": True}, "no level True"),
        ({"reference": 2}, "no level 2; its levels are 1"),
        ("lag=1", "need `name: level` lines or a list"),
    ],
)
def test_a_wrong_gap_is_answered_with_what_there_is(gaps, complaint):
    with pytest.raises(ConfigError, match=complaint):
        parse_gaps(gaps)


def test_a_gap_that_does_not_fit_names_scenario_and_gap():
    tiny = load_scenario("target", {"slider": {"parts": [[0, 0, 0.05, 0.05]]}})
    with pytest.raises(ConfigError, match=r"scenario target with gap centre_of_mass=3 .*\n.*it would tip"):
        apply_gaps(tiny, {"centre_of_mass": 3})


@pytest.mark.parametrize("level", range(1, 7))
def test_every_object_can_be_pushed_round(level):
    """At every contact point the pusher touches and does not overlap; the object stands flat and still."""
    scenario = load_scenario("pushing", gaps={"shape": level})
    tee, radius = scenario.slider.tee, scenario.pusher.radius_m
    rng = np.random.default_rng(0)
    area = np.concatenate(
        [
            np.array(b.centre) + rng.uniform(-0.5, 0.5, (round(2e8 * np.prod(b.size) / 1e2), 2)) * b.size
            for b in tee.boxes
        ]
    )
    np.testing.assert_allclose(area.mean(axis=0), 0, atol=1e-3)
    assert tee.friction_radius_m == pytest.approx(np.hypot(*area.T).mean(), rel=0.01)
    pushes = elementary_pushes(tee, scenario.pusher.friction, radius)
    for i in range(len(pushes)):
        gap = clearance_m(scenario, np.zeros(3), pushes.tool_at_contact(i, radius))
        assert gap == pytest.approx(0, abs=1e-9)
    station = Station(scenario, cameras=False)
    station.reset(sample_start(scenario, 1))
    station.advance(np.array(scenario.task.tool_home), 20)
    np.testing.assert_allclose(station.slider_pose(), sample_start(scenario, 1).slider_pose, atol=1e-4)
    assert station.slider_height() == pytest.approx(scenario.slider.height_m / 2, abs=1e-4)


def test_a_heavier_end_lags_behind_a_push_through_the_middle():
    """Pushed sideways through the uniform centre, a T with its mass towards the stem turns bar first."""
    turns = []
    for gaps in ((), ("centre_of_mass=3",), ("centre_of_mass=1",)):
        scenario = load_scenario("pushing", gaps=gaps)
        goal = np.array(scenario.task.goal)
        half = scenario.slider.stem[0] / 2
        contact = np.array([half + scenario.pusher.radius_m, -0.005])
        station = Station(scenario, cameras=False)
        station.reset(Start(goal, se2.to_world(goal, contact + [0.001, 0])))
        for i in range(60):
            station.advance(se2.to_world(goal, contact - [0.0005 * i, 0]))
        turns.append(station.slider_pose()[2])
    assert turns[1] > turns[0] + 0.05
    assert turns[2] < turns[0] - 0.05


def test_the_command_lists_every_gap(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert main([]) == 0
    out = capsys.readouterr().out
    for name in (*GAPS, *COMBINATIONS):
        assert name in out
