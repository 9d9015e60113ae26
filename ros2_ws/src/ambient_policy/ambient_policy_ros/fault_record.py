"""What came of a fault plan: for each trial and fault, what was done to how many messages, and the answers.

`faults.json` in the folder of a run; times are seconds of the trial unless a name says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import SerializeAsAny
from rich.table import Table

from ambient_policy.config import StrictModel
from ambient_policy.trials import Trial
from ambient_policy_ros.fault_plan import FaultPlan, Kill
from ambient_policy_ros.twin_faults import TwinFaults

AFTER_S = 2.0
"""Motion is looked at for so long after a fault: what was missed may be caught up then."""
ANSWER_S = 0.5
"""A hold that begins later than this after the end of a fault is not put down to it."""


class Count(StrictModel):
    """Messages of one channel."""

    seen: int
    """That came while the fault was on."""
    hit: int
    """That it dropped, delayed or changed."""
    undelivered: int
    """That it delayed, and that the trial's end overtook."""


class Held(StrictModel):
    """A node's hold."""

    after_s: float
    """Since the fault began; 0 if the node was holding already."""
    reason: str


class Motion(StrictModel):
    """How the tool moved in some time."""

    speed_m_s: float
    """Largest, as measured."""
    target_step_m: float
    """Largest distance from one tick's target to the next's, as the robot took them."""
    path_m: float


class FaultOutcome(StrictModel):
    """What one fault did in one trial, and what was done about it."""

    number: int
    """Place in the plan."""
    began_s: float | None
    """None: the trial ended before."""
    ended_s: float | None
    messages: dict[str, Count]
    """By channel; empty for a kill."""
    policy_hold: Held | None
    """First hold of the policy from the fault on; None: it did not hold."""
    servo_hold: Held | None
    recovered_after_s: float | None
    """From the end of the fault until neither held; None: neither did, or they did to the end."""
    during: Motion | None
    after: Motion | None
    """In the 2 s behind the fault."""


class Hold(StrictModel):
    """A hold that began, or ended."""

    time_s: float
    node: str
    reason: str
    """Nothing where a hold ended."""


class TrialFaults(StrictModel):
    """One trial under a plan."""

    seed: int
    outcome: str
    success: bool
    duration_s: float
    before: Motion | None
    """Until the first fault."""
    faults: list[FaultOutcome]
    holds: list[Hold]


class FaultRecord(StrictModel):
    """The outcome of a plan."""

    schema_name: Literal["ambient_policy.fault_record"] = "ambient_policy.fault_record"
    version: Literal[1] = 1
    mode: str
    plan: SerializeAsAny[FaultPlan]
    trials: list[TrialFaults]


class MotionLog:
    """Notes the tool at every tick of a trial."""

    def __init__(self) -> None:
        self._rows: list[tuple[float, ...]] = []

    def add(self, time_s: float, xy: NDArray, velocity: NDArray, target: NDArray) -> None:
        """Take the measured position, velocity and the target (2,) of one tick."""
        self._rows.append((time_s, *xy, *velocity, *target))

    def between(self, from_s: float, until_s: float) -> Motion | None:
        """Return the motion of the ticks from `from_s` until before `until_s`, or None if there are none."""
        if not self._rows:
            return None
        rows = np.array(self._rows)
        inside = (rows[:, 0] >= from_s - 1e-6) & (rows[:, 0] < until_s - 1e-6)
        if not inside.any():
            return None

        def steps(columns: NDArray) -> NDArray:
            length = np.linalg.norm(np.diff(columns, axis=0, prepend=columns[:1]), axis=1)
            return np.asarray(length[inside])

        return Motion(
            speed_m_s=round(float(np.linalg.norm(rows[inside, 3:5], axis=1).max()), 4),
            target_step_m=round(float(steps(rows[:, 5:7]).max()), 5),
            path_m=round(float(steps(rows[:, 1:3]).sum()), 4),
        )


def outcome_of(faults: TwinFaults, motion: MotionLog, trial: Trial) -> TrialFaults:
    """Sum up a trial that has just ended."""
    end_s = trial.duration_s
    found = []
    for number, fault in enumerate(faults.plan.faults):
        began_s, ended_s = fault.from_s, min(fault.until_s or end_s, end_s)
        if began_s >= end_s:
            found.append(_never(number))
            continue
        counts = {
            name: Count(seen=i.seen, hit=i.hit, undelivered=i.undelivered)
            for name, injections in faults.injections.items()
            for i in injections
            if i.number == number
        }
        held = {node: _held(faults.holds, node, began_s, ended_s) for node in ("policy", "servo")}
        outcome = FaultOutcome(
            number=number,
            began_s=began_s,
            ended_s=ended_s,
            messages=counts,
            policy_hold=held["policy"],
            servo_hold=held["servo"],
            recovered_after_s=_recovered(faults.holds, ended_s) if any(held.values()) else None,
            during=motion.between(began_s, ended_s),
            after=motion.between(ended_s, ended_s + AFTER_S),
        )
        found.append(outcome)
    first_s = min((fault.from_s for fault in faults.plan.faults), default=end_s)
    return TrialFaults(
        seed=trial.seed,
        outcome=trial.outcome,
        success=trial.success,
        duration_s=end_s,
        before=motion.between(0.0, first_s),
        faults=found,
        holds=[Hold(time_s=t, node=node, reason=reason) for t, node, reason in faults.holds],
    )


def write_record(path: Path, record: FaultRecord) -> None:
    """Write the record beside, and rename it when whole."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
    partial.replace(path)


def _never(number: int) -> FaultOutcome:
    nothing = dict.fromkeys(
        ("began_s", "ended_s", "policy_hold", "servo_hold", "recovered_after_s", "during", "after")
    )
    return FaultOutcome.model_validate({"number": number, "messages": {}, **nothing})


def _held(holds: list[tuple[float, str, str]], node: str, began_s: float, ended_s: float) -> Held | None:
    own = [(time_s, reason) for time_s, who, reason in holds if who == node]
    before = [reason for time_s, reason in own if time_s < began_s]
    if before and before[-1]:
        return Held(after_s=0.0, reason=before[-1])
    for time_s, reason in own:
        if reason and began_s <= time_s <= ended_s + ANSWER_S:
            return Held(after_s=round(time_s - began_s, 3), reason=reason)
    return None


def _recovered(holds: list[tuple[float, str, str]], ended_s: float) -> float | None:
    """Return how long after `ended_s` nobody held any more, counting holds that began soon after it."""
    state: dict[str, str] = {}
    free_s: float | None = ended_s
    for time_s, node, reason in holds:
        state[node] = reason
        if time_s <= ended_s:
            free_s = None if any(state.values()) else ended_s
        elif not any(state.values()):
            free_s = time_s
        elif time_s <= ended_s + ANSWER_S:
            free_s = None
        if free_s is not None and time_s > ended_s + ANSWER_S:
            break
    return None if free_s is None else round(free_s - ended_s, 3)


def table(record: FaultRecord) -> Table:
    """Lay the record out for people: one row for each trial and fault."""
    page = Table(title=f"faults: {record.plan.title or 'plan'}", title_justify="left")
    for column in (
        "seed",
        "fault",
        "from, until",
        "messages hit",
        "policy holds",
        "servo holds",
        "back after",
    ):
        page.add_column(column, overflow="fold")
    for column in ("speed m/s\nbefore, during, after", "target step mm\nbefore, during, after", "trial"):
        page.add_column(column, overflow="fold")
    for trial in record.trials:
        for outcome in trial.faults:
            moved = (trial.before, outcome.during, outcome.after)
            page.add_row(
                str(trial.seed),
                name_of(record.plan, outcome.number),
                "never" if outcome.began_s is None else f"{outcome.began_s:g}, {outcome.ended_s:g} s",
                " ".join(f"{count.hit} of {count.seen}" for count in outcome.messages.values()) or "-",
                _say(outcome.policy_hold),
                _say(outcome.servo_hold),
                "-" if outcome.recovered_after_s is None else f"{outcome.recovered_after_s:.2f} s",
                ", ".join("-" if m is None else f"{m.speed_m_s:.2f}" for m in moved),
                ", ".join("-" if m is None else f"{1e3 * m.target_step_m:.1f}" for m in moved),
                trial.outcome.replace("_", " "),
            )
    return page


def facts_of(record: FaultRecord, name: str) -> dict[str, Any]:
    """Return what run.json and the report say of a plan: its origin, and what each fault did."""
    facts: dict[str, Any] = {"plan": name, "title": record.plan.title, "seed": record.plan.seed}
    for trial in record.trials:
        for outcome in trial.faults:
            policy, servo = _say(outcome.policy_hold), _say(outcome.servo_hold)
            hit = sum(count.hit for count in outcome.messages.values())
            facts[f"in seed {trial.seed}, number {outcome.number}"] = (
                f"{name_of(record.plan, outcome.number)}, "
                + ("never" if outcome.began_s is None else f"{outcome.began_s:g} to {outcome.ended_s:g} s")
                + (f", {hit} messages hit" if outcome.messages else "")
                + f"; policy hold: {policy}; servo hold: {servo}"
            )
    return facts


def name_of(plan: FaultPlan, number: int) -> str:
    """Say in a few words what a fault of the plan is."""
    fault = plan.faults[number]
    if isinstance(fault, Kill):
        return f"{fault.signal} {fault.node}"
    rest = fault.model_dump(exclude={"fault", "channel", "from_s", "until_s"}, exclude_defaults=True)
    values = ", ".join(f"{key} {value}" for key, value in rest.items())
    return f"{fault.fault} {fault.channel}" + (f" ({values})" if values else "")


def _say(held: Held | None) -> str:
    return "no" if held is None else f"after {held.after_s:.2f} s: {held.reason}"
