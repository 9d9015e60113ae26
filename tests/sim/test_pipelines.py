"""A recipe and a seed are an episode: whatever came before, in whichever process."""

from __future__ import annotations

import gc
import hashlib
import json

import numpy as np
import pytest
from pydrake.systems.framework import Diagram
from rich.console import Console

from ambient_policy.episodes import Episode
from ambient_policy.errors import ConfigError
from sim.collect import CollectArgs, _check_recipe, collect, recipe_of
from sim.demonstrate import Disturbance, demonstrate
from sim.pipelines import COLLECT_EVERY, make_episode, station_for
from sim.recipe import Recipe
from sim.scenario import load_scenario
from sim.workers import run_jobs

pytestmark = pytest.mark.sim
RECIPES = [
    Recipe(commit="c", pipeline=pipeline, style="planner", source="s", scenario=load_scenario(scenario))
    for pipeline, scenario in (("operator", "pushing"), ("replay", "source"), ("execute", "source_dynamic"))
]
SEED = 900_001


def digest(result: object) -> str:
    """Hash all that an episode holds."""
    assert isinstance(result, Episode), result
    out = hashlib.sha256(result.meta.model_dump_json().encode())
    for group in (result.arrays, result.images):
        for key in sorted(group):
            out.update(key.encode() + group[key].tobytes())
    return out.hexdigest()


def nothing() -> None:
    """Set up a worker that needs nothing."""


def digest_of(index: int) -> tuple[int, str]:
    """Make an episode in another process."""
    return index, digest(make_episode(RECIPES[index], SEED))


def test_equal_bits_in_any_order_and_in_other_processes(monkeypatch):
    here = [digest(make_episode(recipe, SEED)) for recipe in RECIPES]
    assert len(set(here)) == 3
    there = dict(run_jobs(digest_of, [2, 1, 0], setup=nothing, setup_args=(), processes=1))
    assert [there[i] for i in range(3)] == here
    make_episode(RECIPES[1], SEED + 1)
    assert digest(make_episode(RECIPES[1], SEED)) == here[1], "after another seed"


def test_the_operator_pipeline_is_the_operator(monkeypatch):
    """The pipeline adds nothing: `demonstrate` on a station of the scenario gives the same arrays."""
    recipe = RECIPES[0].model_copy(update={"images": False, "style": "teleop"})
    made = make_episode(recipe, SEED)
    plain = demonstrate(
        station_for(recipe.scenario, cameras=False),
        style="teleop",
        seed=SEED,
        source="s",
        commit="c",
        disturbance=Disturbance(),
    )
    assert digest(made) == digest(plain)


def test_executed_plans_end_at_the_goal_in_real_contact():
    episode = make_episode(RECIPES[2].model_copy(update={"images": False}), SEED)
    assert isinstance(episode, Episode), episode
    last = episode.arrays["privileged_slider_pose"][-1]
    goal = np.array(episode.meta.truth["goal"])
    assert np.hypot(*(last[:2] - goal[:2])) < 0.006
    miss = np.linalg.norm(episode.arrays["state"][1:] - episode.arrays["action"][:-1], axis=1)
    assert 1e-5 < np.median(miss) < 3e-3, "the tool follows, as a real one does, not exactly"


def test_a_station_is_kept_until_the_scenario_differs():
    first = station_for(RECIPES[0].scenario, cameras=False)
    assert station_for(RECIPES[0].scenario.model_copy(), cameras=False) is first
    assert station_for(RECIPES[2].scenario, cameras=False) is not first


def test_a_folder_of_an_earlier_release_goes_on(tmp_path):
    """Its collect.json lacks what has had a default since."""
    recipe = recipe_of(CollectArgs(out=tmp_path))
    _check_recipe(tmp_path, recipe)
    old = json.loads((tmp_path / "collect.json").read_text())
    for key in ("pipeline", "corruption", "plan", "images"):
        del old[key]
    (tmp_path / "collect.json").write_text(json.dumps(old))
    _check_recipe(tmp_path, recipe)
    other = recipe_of(CollectArgs(out=tmp_path, images=False))
    with pytest.raises(ConfigError, match="another recipe: images differ"):
        _check_recipe(tmp_path, other)


def test_the_command_names_what_does_not_go_together(tmp_path):
    args = CollectArgs(out=tmp_path / "x", pipeline="execute", scenario="source")
    with pytest.raises(ConfigError, match="scenario 'source' is quasi-static; use --pipeline replay"):
        collect(args, Console())
    assert not (tmp_path / "x").exists()


def test_stations_that_are_not_needed_any_more_are_let_go():
    """Each leaves a ring of references, which only a collection frees; here Python's own ones are off."""
    scenario = load_scenario("source")
    gc.collect()
    before = sum(isinstance(thing, Diagram) for thing in gc.get_objects())
    gc.disable()
    try:
        for seed in range(3 * COLLECT_EVERY):
            station_for(scenario.drawn(seed), cameras=False)
        alive = sum(isinstance(thing, Diagram) for thing in gc.get_objects())
    finally:
        gc.enable()
    assert 1 <= alive <= before + COLLECT_EVERY + 1
