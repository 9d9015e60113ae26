"""From a recipe and a seed to one episode: the scripted operator, replayed plans, or executed plans."""

from __future__ import annotations

import gc

import numpy as np

from ambient_policy.episodes import Episode
from sim.corruptions import add_action_noise, with_goal
from sim.demonstrate import Failure, Operator, demonstrate
from sim.expert import Expert
from sim.plan import Planner
from sim.plan_execute import PlanFollower
from sim.recipe import Recipe
from sim.replay import replay
from sim.scenario import Scenario
from sim.station import Station

COLLECT_EVERY = 10
"""Stations built between two garbage collections. A station is a ring of references, 2 MB that Python's own
schedule leaves for hundreds of episodes (333 to 468 MB over 500 of them); a collection took 50 to 64 ms."""

_cached: tuple[Scenario, bool, Station] | None = None
_built = 0


def station_for(scenario: Scenario, *, cameras: bool = True) -> Station:
    """Return this process's station, built anew when the scenario is another (10 to 60 ms)."""
    global _cached, _built
    if _cached is None or _cached[:2] != (scenario, cameras):
        _cached = None
        _built += 1
        if _built % COLLECT_EVERY == 0:
            gc.collect()
        _cached = (scenario, cameras, Station(scenario, cameras=cameras))
    return _cached[2]


def make_episode(recipe: Recipe, seed: int) -> Episode | Failure:
    """Make the demonstration of a seed. The result depends on the arguments alone."""
    corruption = recipe.corruption
    scenario = corruption.embodied(recipe.scenario.drawn(seed))
    station = station_for(scenario, cameras=recipe.images)
    goal = corruption.goal_of(scenario, seed)
    shown = with_goal(scenario, goal)
    speed = corruption.embodiment.speed
    plan = recipe.plan.faster(speed)
    origin = {"commit": recipe.commit, "source": recipe.source}
    truth = corruption.truth(goal, np.array(recipe.scenario.task.goal))
    if recipe.pipeline == "replay":
        result = replay(station, shown, plan, seed=seed, truth=truth, **origin)
    else:
        operator: Operator
        if recipe.pipeline == "execute":
            name = "executed plan"
            operator = PlanFollower(Planner(shown, plan), np.random.default_rng([seed, 0x97A4]))
        else:
            name = recipe.style
            rng = np.random.default_rng([seed, 0xDE40])
            operator = Expert(shown, recipe.style, rng, speed=speed, novice=corruption.novice)
        result = demonstrate(
            station,
            style=name,
            seed=seed,
            disturbance=recipe.disturbance,
            operator=operator,
            task=shown.task,
            jitter=corruption.jitter,
            truth=truth,
            **origin,
        )
    if isinstance(result, Failure):
        return result
    return add_action_noise(result, corruption.action_noise, seed)
