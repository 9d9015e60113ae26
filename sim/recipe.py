"""What makes the episodes of a folder alike; kept in `collect.json` and compared on resume."""

from __future__ import annotations

from typing import Literal

from pydantic import model_validator

from ambient_policy.config import StrictModel
from sim.corruptions import Corruption, Jitter
from sim.demonstrate import Disturbance
from sim.expert import StyleName
from sim.plan_model import PlanConfig
from sim.scenario import Scenario

PipelineName = Literal["operator", "replay", "execute"]


class Recipe(StrictModel):
    """How one dataset is made; with a seed it makes one episode (`sim.pipelines.make_episode`)."""

    schema_name: Literal["ambient_policy.collect"] = "ambient_policy.collect"
    version: Literal[1] = 1
    commit: str
    pipeline: PipelineName = "operator"
    """`operator`: the scripted operator, closed loop. `replay`: plans on the quasi-static model, shown
    without physics. `execute`: the same plans carried out in the scenario's physics."""
    style: StyleName
    """Of the operator; plans have none."""
    source: str
    """Name of the population that these demonstrations belong to."""
    disturbance: Disturbance = Disturbance()
    corruption: Corruption = Corruption()
    plan: PlanConfig = PlanConfig()
    """Of `replay` and `execute`."""
    images: bool = True
    """False: no cameras, for policies of states."""
    scenario: Scenario

    @model_validator(mode="after")
    def _fits_the_pipeline(self) -> Recipe:
        quasistatic = self.scenario.physics.contact == "quasistatic"
        if quasistatic and self.pipeline != "replay":
            raise ValueError(
                f"pipeline `{self.pipeline}` needs physics, but scenario {self.scenario.name!r} is "
                "quasi-static; use --pipeline replay, or a scenario with contact such as source_dynamic"
            )
        if self.pipeline != "operator" and self.corruption.novice.active:
            raise ValueError(f"corruption.novice is of the operator; pipeline `{self.pipeline}` plans ahead")
        if self.pipeline == "replay" and self.disturbance != Disturbance():
            raise ValueError("pipeline `replay` has no physics that could react to a disturbance")
        if self.pipeline == "replay" and self.corruption.jitter != Jitter():
            raise ValueError("pipeline `replay` has no physics that could react to corruption.jitter")
        return self
