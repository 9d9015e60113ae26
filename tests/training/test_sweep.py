"""Sweeps: every job runs once, survives kills and is summed up right. One test has the real trainer."""

from __future__ import annotations

import fcntl
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from ambient_policy.config import parse
from ambient_policy.errors import AmbientPolicyError, ConfigError
from ambient_policy.statistics import mcnemar, mean_interval
from training.errors import TrainingError
from training.progress import console
from training.sweep import SweepOutcome, main, sweep
from training.sweep_jobs import GUARD
from training.sweep_plan import Plan, expand, fill_template, read_plan
from training.sweep_result import JobResult, collect_metrics, read_evaluation, s_per_step
from training.sweep_setup import make_jobs, resolve
from training.sweep_summary import summarise, write_summary
from training.sweep_table import as_markdown, rows

pytestmark = pytest.mark.train

# Takes the trainer's arguments and has its manners: it goes on where it was, and told to stop it leaves a
# checkpoint and status 0. A step is 20 ms on the first start, and nothing later.
TRAINER = """
import argparse, json, os, signal, sys, time
from pathlib import Path

parser = argparse.ArgumentParser()
parser.add_argument("config")
parser.add_argument("--out", type=Path)
parser.add_argument("--data", nargs="*")
parser.add_argument("--set", action="append", default=[])
parser.add_argument("--resume", action="store_true", required=True)
args = parser.parse_args()
told = []
signal.signal(signal.SIGTERM, lambda *_: told.append(1))
settings = dict(pair.split("=") for pair in args.set)
steps, name = int(settings["optim.steps"]), settings.get("name")

starts = args.out / "starts"
before = [json.loads(line)["pid"] for line in starts.read_text().splitlines()] if starts.is_file() else []
first = not before
start = {
    "pid": os.getpid(),
    "threads": os.environ["OMP_NUM_THREADS"],
    "alone": not any(Path(f"/proc/{pid}").exists() for pid in before),
}
with starts.open("a") as stream:
    stream.write(json.dumps(start) + "\\n")
if name == "bad":
    print("first line", flush=True)
    sys.exit("the learning rate is a banana")
if name == "worker-killer" and first:
    guard = os.getppid()
    worker = int(Path(f"/proc/{guard}/stat").read_text().rpartition(")")[2].split()[1])
    os.kill(worker, signal.SIGKILL)
(args.out / "config.yaml").write_text(f"optim: {{steps: {steps}}}")
count = args.out / "count"
step = int(count.read_text()) if count.is_file() else 0
while step < steps and not told:
    time.sleep(0.02 if first else 0)
    step += 1
    (args.out / "running").touch()
if told:
    time.sleep(2)  # a large checkpoint
count.write_text(str(step))
checkpoint = args.out / "checkpoints" / f"policy-{step:08d}"
checkpoint.mkdir(parents=True, exist_ok=True)
(checkpoint / "state.json").write_text(json.dumps({"phase": "policy", "step": step}))
lines = [
    {"phase": "policy", "step": 4, "it_per_s": 8.0},
    {"phase": "policy", "step": step, "val/denoise": int(settings["seed"]) + 0.5},
]
(args.out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\\n" for line in lines))
"""

JUDGE = """
import json, sys
from pathlib import Path

run, seed, out = sys.argv[1:4]
with Path(run, "judged").open("a") as stream:
    stream.write("x")
Path(out).write_text(json.dumps({"metrics": {"error": 0.1 * int(seed)}, "trials": {"success": [1, 0, 1, 1]}}))
"""

SWEEP = """
import sys
from pathlib import Path
from training.sweep import sweep

plan, out, trainer, *more = sys.argv[1:]
keywords = {"executor": "ray"} if more else {}
if more:
    from ambient_policy.executors import RaySettings
    keywords["ray"] = RaySettings(address="local")
outcome = sweep(Path(plan), Path(out), workers=2, trainer=(sys.executable, trainer), **keywords)
for job, message in outcome.failed:
    print(job.name, message)
sys.exit(len(outcome.failed))
"""


class Bench:
    """A folder with a plan, a stand-in trainer and what runs them."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data, self.out = folder, data, folder / "out"
        for name, text in (("trainer.py", TRAINER), ("judge.py", JUDGE), ("run_sweep.py", SWEEP)):
            (folder / name).write_text(text)
        self.trainer = (sys.executable, str(folder / "trainer.py"))
        self.judge = f"python {folder / 'judge.py'} {{run}} {{seed}} {{out}}"
        self.plan_file = folder / "plan.yaml"

    def plan(self, **changes: Any) -> Plan:
        """Write a plan with these changes; return it."""
        document = {
            "name": "try",
            "config": "smoke",
            "data": [str(self.data)],
            "seeds": [0],
            "set": {"optim.steps": 3},
            "arms": [{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.002}}],
            "evaluate": [self.judge],
        }
        self.plan_file.write_text(yaml.safe_dump(document | changes))
        return read_plan(self.plan_file)

    def run(self, **keywords: Any) -> SweepOutcome:
        return sweep(self.plan_file, self.out, workers=2, trainer=self.trainer, **keywords)

    def start(self, *more: str, **environment: str) -> subprocess.Popen[str]:
        """Run the sweep as a process of its own."""
        script, trainer = self.folder / "run_sweep.py", self.folder / "trainer.py"
        return subprocess.Popen(
            [sys.executable, str(script), str(self.plan_file), str(self.out), str(trainer), *more],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def starts(self, arm: str, seed: int = 0) -> list[dict[str, Any]]:
        """Give what each start of a trainer noted."""
        file = self.out / arm / f"seed{seed}" / "starts"
        return [json.loads(line) for line in file.read_text().splitlines()] if file.is_file() else []

    def result(self, arm: str, seed: int = 0) -> Path:
        return self.out / arm / f"seed{seed}" / "result.json"


@pytest.fixture
def bench(tmp_path: Path, demos: Path) -> Bench:
    return Bench(tmp_path, demos)


def wait_for(condition: Any, seconds: float = 120.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.05)


def gone(pid: int) -> bool:
    """Say whether a process has ended (a zombie has)."""
    stat = Path(f"/proc/{pid}/stat")
    try:
        return stat.read_text().rpartition(")")[2].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


# Plans.


def a_plan(**changes: Any) -> Plan:
    document = {"name": "p", "config": "smoke", "data": ["d"], "arms": [{"name": "a"}]}
    return parse(document | changes, Plan, "the plan")


def test_a_grid_gives_an_arm_for_every_combination():
    grid = {"data.sources.1.admit.sigma_min": [0.3, 1.0], "optim.batch": [8, 16]}
    plan = a_plan(
        data={"clean": "c", "corrupt": ["q", "r"]},
        set={"optim.lr": 1.0, "optim.steps": 5},
        arms=[{"name": "base"}, {"name": "amb", "preset": "x", "set": {"optim.lr": 2.0}, "grid": grid}],
    )
    arms = expand(plan)
    assert [arm.name for arm in arms] == [
        "base",
        "amb[sigma_min=0.3,batch=8]",
        "amb[sigma_min=0.3,batch=16]",
        "amb[sigma_min=1,batch=8]",
        "amb[sigma_min=1,batch=16]",
    ]
    assert arms[1].folder == "amb-sigma_min=0.3-batch=8"
    assert arms[1].settings == {
        "optim.lr": 2.0, "optim.steps": 5, "data.sources.1.admit.sigma_min": 0.3, "optim.batch": 8
    }  # fmt: skip
    assert arms[1].presets == ("x",)
    assert arms[0].settings["optim.lr"] == 1.0
    assert arms[0].data == ("c", "q", "r")


def test_grid_keys_that_end_alike_are_told_apart():
    (arm,) = expand(a_plan(arms=[{"name": "a", "grid": {"x.lr": [1], "y.lr": [2], "y.k": [[1, 2]]}}]))
    assert arm.name == "a[x.lr=1,y.lr=2,k=[1,2]]"


def test_an_arm_can_take_the_annotation_away():
    plan = a_plan(annotation="ann", arms=[{"name": "a"}, {"name": "b", "annotation": None}])
    assert [arm.annotation for arm in expand(plan)] == ["ann", None]


@pytest.mark.parametrize(
    "value", [1e-5, 0.3, 16, True, None, "none", "null", [0.9, 0.99], {"k": 1.5}, math.inf]
)
def test_settings_reach_the_trainer_as_they_were(value):
    (arm,) = expand(a_plan(set={"x.y": value}))
    seed, pair = arm.set_arguments(7)
    key, _, text = pair.partition("=")
    assert (seed, key, yaml.safe_load(text)) == ("seed=7", "x.y", value)


def test_a_template_is_filled_word_by_word():
    filled = fill_template("judge '{run}/b c' --n={seed} {out} {{x}}", run="my run", seed=3, out="o.json")
    assert filled == ("judge", "my run/b c", "--n=3", "o.json", "{x}")


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"seed": [0]}, "seed: unknown key; did you mean `seeds`"),
        ({"arms": [{"name": "a", "sett": {}}]}, "sett: unknown key; did you mean `set`"),
        ({"arms": [{"name": "a"}, {"name": "a"}]}, "'a' is there twice"),
        ({"seeds": [1, 2, 1]}, "seeds: 1 is there twice"),
        ({"set": {"seed": 1}}, "`seed` is set by the plan's `seeds`"),
        ({"arms": [{"name": "a", "set": {"x": 1}, "grid": {"x": [2]}}]}, "x in `set` and in `grid`"),
        ({"arms": [{"name": "a/b"}]}, "arms.0.name is 'a/b'"),
        ({"data": {"clean": "c", "corupt": "q"}}, "unknown key 'corupt'; did you mean `corrupt`"),
        ({"data": {"corrupt": "q"}}, "needs `clean: FOLDER`"),
        ({"evaluate": ["judge {rum}"]}, r"unknown placeholder {rum}; did you mean `run`"),
        ({"evaluate": ["judge {seed} {out}"]}, r"has no {run}"),
        ({"evaluate": ["judge '{run}"]}, "cannot be read: No closing quotation"),
        ({"metrics": {"success": "up"}}, "'max' or 'min'"),
    ],
)
def test_a_wrong_plan_is_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        a_plan(**changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"arms": [{"name": "a", "grid": {"x": [1, 1]}}]}, r"two arms of the plan have the name `a\[x=1\]`"),
        ({"arms": [{"name": "a", "grid": {"x": [1]}}, {"name": "a-x=1"}]}, "arms.1.name"),
        ({"arms": [{"name": "a"}, {"name": "b"}]}, "arms `a` and `b` would train the same thing"),
        ({"baseline": "aa"}, "baseline `aa` is no arm of the plan; did you mean `a`"),
    ],
)
def test_arms_that_cannot_be_told_apart_are_refused(changes, text):
    with pytest.raises(ConfigError, match=text):
        expand(a_plan(**changes))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"data": ["nowhere"]}, "no data folder at nowhere"),
        ({"config": "smok"}, "no training config at smok.*did you mean `smoke`"),
        ({"annotation": "nowhere"}, "no annotation at nowhere"),
        (
            {"arms": [{"name": "c", "preset": "cotrian"}]},
            "arm `c`: no preset at cotrian.*did you mean `cotrain`",
        ),
        ({"arms": [{"name": "c", "set": {"optim.stepz": 1}}]}, "arm `c`:.*optim.stepz: unknown key"),
    ],
)
def test_what_is_missing_is_said_before_anything_runs(bench, changes, text):
    bench.plan(**changes)
    with pytest.raises(AmbientPolicyError, match=f"(?s){text}"):
        bench.run()
    assert not bench.out.exists()


def test_the_shipped_presets_make_jobs_of_the_trainer(bench, demos):
    arms = [{"name": "a", "preset": "clean_only"}, {"name": "b", "preset": "cotrain"}]
    plan = bench.plan(arms=arms, data={"clean": str(demos), "corrupt": str(demos)}, seeds=[4, 5])
    jobs = make_jobs(plan, bench.out)
    assert [(job.arm, job.seed) for job in jobs] == [("a", 4), ("b", 4), ("a", 5), ("b", 5)]
    run = str(bench.out / "b" / "seed5")
    head = (sys.executable, "-m", "ambient_policy.cli", "train", "smoke", "--preset", "cotrain", "--data")
    tail = ("--out", run, "--set", "seed=5", "--set", "optim.steps=3", "--resume")
    assert jobs[3].train == (*head, str(demos), str(demos), *tail)
    # A source that an arm does not use cannot change its result.
    assert {key for key in jobs[0].settings if key.startswith("data.")} == {"data.0"}


def test_a_new_annotation_changes_only_the_arms_that_use_it(bench, demos, tmp_path):
    table = tmp_path / "ann"
    table.mkdir()
    (table / "annotation.json").write_text("{}")
    arms = [{"name": "a", "preset": "cotrain"}, {"name": "b", "preset": "ambient_per_dataset"}]
    data = {"clean": str(demos), "corrupt": str(demos)}
    plan = bench.plan(arms=arms, data=data, seeds=[0], annotation=str(table))
    before = {job.arm: job.settings_hash for job in make_jobs(plan, bench.out)}
    (table / "annotation.json").write_text("{ }")
    after = {job.arm: job.settings_hash for job in make_jobs(plan, bench.out)}
    assert before["a"] == after["a"]
    assert before["b"] != after["b"]


def test_the_plan_in_the_documentation_is_one(root, tmp_path, monkeypatch):
    text = (root / "docs" / "sweep.md").read_text().partition("```yaml\n")[2].partition("```")[0]
    (tmp_path / "plan.yaml").write_text(text)
    monkeypatch.chdir(root)
    arms = expand(read_plan(tmp_path / "plan.yaml"))
    assert [arm.name for arm in arms][1:3] == ["cotrain", "ambient[sigma_min=0.2]"]
    configs = [resolve(arm, 0) for arm in arms]
    assert [config.optim.steps for config in configs] == [8000] * 5
    assert configs[4].data.sources[1].admit.sigma_min == 0.8  # type: ignore[union-attr]


# Jobs.


def test_every_job_runs_once(bench):
    bench.plan(seeds=[0, 1], threads=3)
    assert bench.run() == SweepOutcome(finished=4, skipped=0, failed=())
    files = [bench.result(arm, seed) for arm in "ab" for seed in (0, 1)]
    before = [file.stat().st_mtime_ns for file in files]
    result = json.loads(bench.result("b", 1).read_text())
    assert result["metrics"] == {"val/denoise": 1.5, "error": 0.1, "success": 0.75}
    assert result["trials"] == {"success": [1, 0, 1, 1]}
    assert result["train_s_per_step"] == 1 / 8
    assert result["wall_s"].keys() == {"train", "evaluate0"}
    assert [start["threads"] for start in bench.starts("b", 1)] == ["3"]

    assert bench.run() == SweepOutcome(finished=0, skipped=4, failed=())
    assert [file.stat().st_mtime_ns for file in files] == before
    assert all(len(bench.starts(arm, seed)) == 1 for arm in "ab" for seed in (0, 1))


def test_a_failing_arm_stops_no_other_and_is_reported(bench):
    arms = [{"name": "bad", "set": {"name": "bad"}}, {"name": "good"}]
    bench.plan(arms=arms)
    outcome = bench.run()
    ((job, message),) = outcome.failed
    assert (outcome.finished, job.arm) == (1, "bad")
    assert bench.result("good").is_file()
    assert not bench.result("bad").exists()
    assert "train ended with status 1" in message
    assert f"the last lines of {bench.out}/bad/seed0/job.log" in message
    assert message.endswith("  the learning rate is a banana")


def test_a_failing_judge_costs_no_training(bench):
    """The cured command is run on the weights that are there."""
    bench.plan(evaluate=["python -c 'import sys; sys.exit(7)' {run}"])
    assert [message.partition(";")[0] for _, message in bench.run().failed] == [
        "evaluate0 ended with status 7"
    ] * 2
    bench.plan()
    assert bench.run().finished == 2
    assert len(bench.starts("a")) == 1


def test_a_judge_that_writes_nothing_has_failed_and_is_asked_again(bench):
    bench.plan(arms=[{"name": "a"}])
    judge = bench.folder / "judge.py"
    judge.write_text("")
    ((_, message),) = bench.run().failed
    assert "evaluate0.json was not written" in message
    judge.write_text(JUDGE)
    assert bench.run().finished == 1


def test_a_changed_plan_is_refused_by_what_changed(bench):
    bench.plan(arms=[{"name": "a"}])
    bench.run()
    before = bench.result("a").read_bytes()
    bench.plan(arms=[{"name": "a"}], set={"optim.steps": 4})
    with pytest.raises(TrainingError, match="(?s)a seed 0: set optim.steps was 3, now 4.*use another --out"):
        bench.run()
    assert bench.result("a").read_bytes() == before
    bench.plan(arms=[{"name": "a"}, {"name": "b", "set": {"optim.lr": 0.1}}], seeds=[0, 1])
    assert bench.run() == SweepOutcome(finished=3, skipped=1, failed=()), "more arms and seeds are no change"


def test_other_judges_are_refused_or_used_without_training_again(bench):
    bench.plan(arms=[{"name": "a"}])
    bench.run()
    bench.plan(arms=[{"name": "a"}], evaluate=[bench.judge.replace("{seed}", "5")])
    with pytest.raises(
        TrainingError, match="(?s)evaluate.0 was 'python.*--reevaluate judges finished runs again"
    ):
        bench.run()
    assert bench.run(reevaluate=True).finished == 1
    assert json.loads(bench.result("a").read_text())["metrics"]["error"] == 0.5
    assert len(bench.starts("a")) == 1
    assert (bench.out / "a" / "seed0" / "judged").read_text() == "xx"


def test_a_trainer_that_was_told_to_stop_has_not_finished(bench):
    """It leaves with status 0 and a checkpoint; only its last step counts."""
    bench.plan(arms=[{"name": "a"}], set={"optim.steps": 2000})
    process = bench.start()
    wait_for(lambda: (bench.out / "a/seed0/running").exists())
    os.kill(bench.starts("a")[0]["pid"], signal.SIGTERM)
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 1
    assert "training ended before policy step 2000 (checkpoints: policy " in output
    assert not bench.result("a").exists()
    assert bench.run().finished == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["killed", "interrupted"])
def test_a_sweep_that_ends_early_takes_its_trainers_along_and_goes_on_later(bench, number):
    slow = {"name": "slow", "set": {"optim.steps": 3000}}
    bench.plan(arms=[{"name": "quick"}, slow], evaluate=[])
    process = bench.start()
    wait_for(lambda: bench.result("quick").is_file() and (bench.out / "slow/seed0/running").exists())
    before = bench.result("quick").stat().st_mtime_ns
    process.send_signal(number)
    process.wait(timeout=120)
    assert process.returncode != 0
    assert not bench.result("slow").exists()

    assert bench.run() == SweepOutcome(finished=1, skipped=1, failed=())
    assert bench.result("quick").stat().st_mtime_ns == before
    assert len(bench.starts("quick")) == 1
    assert [start["alone"] for start in bench.starts("slow")] == [True, True], (
        "it waits for what the first left"
    )
    first, last = sorted(path.name for path in (bench.out / "slow/seed0/checkpoints").iterdir())
    assert (first < "policy-00003000", last) == (True, "policy-00003000"), (
        "told to stop, it left a checkpoint"
    )


def test_an_interrupt_while_a_line_is_written_stops_the_trainers_too(bench, monkeypatch):
    """It arrives outside the executor, which learns of it only when it is closed."""
    bench.plan(arms=[{"name": "quick"}, {"name": "slow", "set": {"optim.steps": 3000}}], evaluate=[])
    written = console.print

    def interrupted(*texts: object, **keywords: Any) -> None:
        if str(texts[0]).startswith("quick"):
            wait_for(lambda: (bench.out / "slow/seed0/running").exists())
            raise KeyboardInterrupt
        written(*texts, **keywords)

    monkeypatch.setattr(console, "print", interrupted)
    with pytest.raises(KeyboardInterrupt) as caught:
        bench.run()
    assert gone(bench.starts("slow")[0]["pid"]), f"{caught.value!r} left a trainer"
    assert int((bench.out / "slow/seed0/count").read_text()) < 3000


def test_a_folder_that_another_process_works_in_is_left_alone(bench, monkeypatch):
    monkeypatch.setattr("training.sweep_jobs._LOCK_WAIT_S", 0.5)
    bench.plan(arms=[{"name": "a"}])
    folder = bench.out / "a" / "seed0"
    folder.mkdir(parents=True)
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        ((_, message),) = bench.run().failed
    assert f"another process has been working in {folder}" in message
    assert bench.starts("a") == []


def test_two_sweeps_do_not_share_a_folder(bench):
    bench.plan(arms=[{"name": "a"}], set={"optim.steps": 10_000})
    process = bench.start()
    wait_for(lambda: (bench.out / "a/seed0/running").exists())
    with pytest.raises(TrainingError, match="another sweep is running in"):
        bench.run()
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)


@pytest.mark.ray
def test_on_ray_a_killed_worker_costs_no_job(bench, tmp_path):
    """The job starts again, once the trainer that the dead worker left behind has written a checkpoint."""
    token = tmp_path / "token"
    token.write_text("0" * 32)
    killer = {"name": "killer", "set": {"name": "worker-killer", "optim.steps": 3000}}
    bench.plan(arms=[{"name": "a"}, killer])
    process = bench.start("ray", RAY_AUTH_MODE="token", RAY_AUTH_TOKEN_PATH=str(token))
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output
    assert bench.result("a").is_file()
    assert bench.result("killer").is_file()
    assert [start["alone"] for start in bench.starts("killer")] == [True, True]
    assert len(list((bench.out / "killer/seed0/checkpoints").iterdir())) == 2


# The guard: what a job starts its commands with.


def guarded(code: str, grace_s: float = 5.0, pass_fds: tuple[int, ...] = ()) -> subprocess.Popen[str]:
    """Start Python code under the guard; its first line is its process id."""
    argv = [
        sys.executable,
        str(GUARD),
        str(grace_s),
        sys.executable,
        "-uc",
        "import os; print(os.getpid())\n" + code,
    ]
    return subprocess.Popen(
        argv,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        pass_fds=pass_fds,
    )


def test_the_guard_gives_the_status_of_the_command():
    assert guarded("").wait(120) == 0
    assert guarded("raise SystemExit(7)").wait(120) == 7
    assert guarded("os.kill(os.getpid(), 9)").wait(120) == 128 + 9
    missing = subprocess.run(
        [sys.executable, str(GUARD), "1", "no-such-program"], capture_output=True, text=True, check=False
    )
    assert (missing.returncode, missing.stdout[:28]) == (127, "cannot start no-such-program")


@pytest.mark.parametrize("how", ["pipe closed", "guard killed", "SIGTERM ignored"])
def test_a_command_ends_with_its_guard(how):
    """However the starter goes: its end of the pipe closes, or Ray kills the guard with its worker."""
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN)\n" if how == "SIGTERM ignored" else ""
    guard = guarded(stubborn + "import time; print('ready'); time.sleep(60)", grace_s=0.5)
    assert guard.stdout is not None
    assert guard.stdin is not None
    pid = int(guard.stdout.readline())
    assert guard.stdout.readline() == "ready\n"
    assert not gone(pid)
    if how == "guard killed":
        guard.kill()
    else:
        guard.stdin.close()
    wait_for(lambda: gone(pid))
    guard.wait(120)


def test_a_command_that_outlives_its_guard_holds_the_lock(tmp_path):
    def taken() -> bool:
        with (tmp_path / "lock").open("w") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False

    with (tmp_path / "lock").open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready'); time.sleep(60)"
        guard = guarded(code, pass_fds=(handle.fileno(),))
        assert guard.stdout is not None
        pid = int(guard.stdout.readline())
        assert guard.stdout.readline() == "ready\n"
    guard.kill()
    guard.wait(120)
    assert taken()
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: gone(pid))
    wait_for(lambda: not taken())


def test_what_a_command_leaves_behind_is_ended():
    guard = guarded("import subprocess as s; print(s.Popen(['sleep', '60'], stdout=s.DEVNULL).pid)")
    assert guard.stdout is not None
    _, left = (int(line) for line in guard.stdout.read().split())
    assert guard.wait(120) == 0
    wait_for(lambda: gone(left))


# Numbers.


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[1]", "holds a list"),
        ("{", "cannot be read"),
        ('{"a": "1"}', "gives a the value '1'"),
        ('{"a": true}', "gives a the value True"),
        ('{"a": Infinity}', "gives a an infinite value"),
        ('{"metrics": {}, "trails": {"s": [1]}}', "has the key 'trails', which looks like `trials`"),
        ('{"trials": {"s": [1, 0.5]}}', "has trials 's' that are not a list of 0 and 1"),
        ('{"trials": {"s": []}}', "has trials 's' that are not a list of 0 and 1"),
        ('{"metrics": {"s": 0.6}, "trials": {"s": [1, 0]}}', "gives s as 0.6 and trials whose mean is 0.5"),
    ],
)
def test_an_evaluation_that_cannot_be_used_is_refused(tmp_path, text, complaint):
    file = tmp_path / "e.json"
    file.write_text(text)
    with pytest.raises(TrainingError, match=f"e.json {complaint}.*an evaluate command writes"):
        read_evaluation(file)


def test_evaluations_are_read_in_both_forms(tmp_path):
    one, two = tmp_path / "1.json", tmp_path / "2.json"
    one.write_text('{"a": 1, "b": NaN, "c": null}')
    two.write_text('{"schema_name": "x", "version": 1, "settings": {}, "trials": {"won": [1, 1, 0, 1]}}')
    (tmp_path / "metrics.jsonl").write_text(
        '{"phase": "policy", "val/x": 2.0}\n{"phase": "policy", "val/x": 1.0}\n'
    )
    metrics, trials = collect_metrics(tmp_path, [one, two])
    assert metrics == {"val/x": 1.0, "a": 1.0, "b": None, "c": None, "won": 0.75}
    assert trials == {"won": (1, 1, 0, 1)}
    two.write_text('{"a": 3}')
    with pytest.raises(TrainingError, match="gives a, which is there already"):
        collect_metrics(tmp_path, [one, two])


def test_step_time_is_that_of_the_fastest_stretch_of_the_policy_phase(tmp_path):
    lines = [("pretext", 100.0), ("policy", 1.0), ("policy", 10.0), ("policy", 20.0), ("finetune", 500.0)]
    text = "".join(json.dumps({"phase": phase, "it_per_s": rate}) + "\n" for phase, rate in lines)
    (tmp_path / "metrics.jsonl").write_text(text)
    assert s_per_step(tmp_path) == 0.05


def test_mcnemar_against_hand_counts():
    """One against eight: p = 2 (1 + 9) / 2^9. Alike or without a difference: 1."""
    first = [1] + [0] * 8 + [1, 1, 0]
    second = [0] + [1] * 8 + [1, 1, 0]
    test = mcnemar(first, second)
    assert (test.trials, test.only_first, test.only_second) == (12, 1, 8)
    assert test.p_value == pytest.approx(20 / 512)
    assert mcnemar(second, first).p_value == pytest.approx(20 / 512)
    assert mcnemar([1, 0], [1, 0]).p_value == 1.0
    for wrong in ([1], [1, 0, 2]):
        with pytest.raises(AmbientPolicyError, match="paired"):
            mcnemar(wrong, [1, 0, 1])


def test_the_exact_test_agrees_with_scipys_sign_test():
    from scipy.stats import binomtest

    for wins in range(12):
        first, second = [1] * wins + [0] * (11 - wins), [0] * wins + [1] * (11 - wins)
        assert mcnemar(first, second).p_value == pytest.approx(binomtest(wins, 11).pvalue)


def test_a_mean_has_students_interval():
    """1, 2, 3: s = 1, and t(0.975, 2) = 4.30265 from any table."""
    mean = mean_interval([1.0, 2.0, 3.0])
    assert (mean.mean, mean.low) == (2.0, pytest.approx(2 - 4.30265 / math.sqrt(3), abs=1e-5))
    assert mean_interval([5.0]).high == math.inf


def a_result(arm: str, seed: int, error: float | None, trials: list[int] | None, s_step: float) -> JobResult:
    return JobResult(
        commit="c",
        arm=arm,
        seed=seed,
        settings_hash="h",
        metrics={"error": error} | ({} if trials is None else {"success": sum(trials) / len(trials)}),
        trials={} if trials is None else {"success": trials},
        train_s_per_step=s_step,
        wall_s={"train": 1.0},
    )


@pytest.fixture
def results() -> dict[tuple[str, int], JobResult]:
    """Give a (3 seeds), and b (2 seeds): 1.5 times slower, wins 8 starts that a loses, and loses one."""
    base = [1, 1, 1, 0, 0, 0, 0, 1]
    other = [1, 1, 0, 1, 1, 1, 1, 1]
    rows = [
        a_result("a", 0, 1.0, base, 0.1),
        a_result("a", 1, 2.0, base, 0.2),
        a_result("a", 2, 6.0, base, 0.9),
        a_result("b", 0, 1.5, other, 0.15),
        a_result("b", 1, 3.5, [1, 1, 1, 1, 1, 1, 1, 1], 0.3),
    ]
    return {(row.arm, row.seed): row for row in rows}


def test_the_summary_against_hand_counts(results):
    plan = a_plan(
        arms=[{"name": "a"}, {"name": "b", "set": {"x": 1}}], metrics={"success": "max", "error": "min"}
    )
    summary = summarise(plan, results)
    a, b = summary.arms
    assert (summary.baseline, b.seeds, b.missing) == ("a", (0, 1), (2,))
    assert b.time_ratio == pytest.approx(1.5)
    assert a.metrics["success"].versus_baseline is None

    success = b.metrics["success"]
    assert (success.successes, success.trials, success.interval) == (15, 16, "wilson")
    # Wilson by hand, z = 1.95996: (p + z2/2n +- z sqrt(p(1-p)/n + z2/4n2)) / (1 + z2/n).
    p, n, z2 = 15 / 16, 16, 1.959964**2
    reach = math.sqrt(z2) * math.sqrt(p * (1 - p) / n + z2 / (4 * n * n))
    assert success.low == pytest.approx((p + z2 / (2 * n) - reach) / (1 + z2 / n), abs=1e-6)
    paired = success.versus_baseline
    assert paired is not None
    assert paired.seeds == (0, 1)
    assert paired.mean == pytest.approx((7 / 8 - 4 / 8 + 8 / 8 - 4 / 8) / 2)
    assert (paired.only_arm, paired.only_baseline) == (8, 1)
    assert paired.p_value == pytest.approx(20 / 512)

    error = b.metrics["error"]
    assert (error.mean, error.interval) == (2.5, "t")
    assert error.versus_baseline is not None
    assert error.versus_baseline.mean == pytest.approx((0.5 + 1.5) / 2)
    # Differences 0.5 and 1.5: s = 1/sqrt 2, t(0.975, 1) = 12.7062.
    assert error.versus_baseline.high == pytest.approx(1 + 12.7062 / 2, abs=1e-4)
    assert a.metrics["error"].mean == 3.0


def test_the_table_shows_the_best_and_what_is_missing(results):
    plan = a_plan(
        arms=[{"name": "a"}, {"name": "b", "set": {"x": 1}}],
        metrics={"success": "max", "error": "min", "suces": "max"},
    )
    summary = summarise(plan, results)
    table = {(row[0], row[1]): row[2:] for row in rows(summary)}
    assert table["success (max)", "b"][0].startswith("93.8% [")
    assert table["success (max)", "b"][0].endswith("] * 15/16")
    assert table["success (max)", "b"][1] == "87.5%, 100.0%, -"
    assert "p 0.039 (+8 -1)" in table["success (max)", "b"][2]
    assert " *" in table["error (min)", "b"][0]
    assert "*" not in table["error (min)", "a"][0]
    page = as_markdown(summary)
    assert "- b: no result yet of seed 2" in page
    assert "- no run has the metric suces; did you mean `success`?" in page


def test_a_value_that_was_not_measured_is_left_out(results):
    results["a", 1] = a_result("a", 1, None, None, 0.2)
    results["a", 2] = a_result("a", 2, 6.0, [1] * 8, 0.9)
    plan = a_plan(arms=[{"name": "a"}, {"name": "b", "set": {"x": 1}}])
    a, b = summarise(plan, results).arms
    assert a.metrics["error"].by_seed == {0: 1.0, 1: None, 2: 6.0}
    assert a.metrics["error"].mean == 3.5
    paired = b.metrics["error"].versus_baseline
    assert paired is not None
    assert (paired.seeds, paired.mean, paired.low) == ((0,), 0.5, None)
    assert a.metrics["success"].interval == "t", (
        "trials of one seed alone are not pooled with other seeds' rates"
    )


def test_what_no_run_measured_has_no_best():
    results = {("a", 0): a_result("a", 0, None, None, 0.1)}
    (row,) = rows(summarise(a_plan(seeds=[0], metrics={"error": "min"}), results))
    assert row[2:4] == ("-", "-")


def test_equal_values_claim_no_interval(results):
    for arm in "ab":
        results[arm, 0] = a_result(arm, 0, 1.0, [0, 0], 0.1)
        results[arm, 1] = a_result(arm, 1, 1.0, [0, 0], 0.1)
    del results["a", 2]
    plan = a_plan(arms=[{"name": "a"}, {"name": "b", "set": {"x": 1}}])
    summary = summarise(plan, results)
    metrics = summary.arms[1].metrics
    assert (metrics["error"].low, metrics["error"].interval) == (None, "none")
    paired = metrics["success"].versus_baseline
    assert paired is not None
    assert (paired.mean, paired.low, paired.p_value) == (0.0, None, 1.0)
    assert metrics["success"].high == pytest.approx(0.48989, abs=1e-5), (
        "Wilson's keeps a width: z2 / (4 + z2)"
    )
    assert not [row for row in rows(summary) if "*" in row[2]], "no direction, no best"


def test_trials_of_other_starts_cannot_be_paired(results):
    results["b", 0] = a_result("b", 0, 1.0, [1, 0], 0.1)
    plan = a_plan(arms=[{"name": "a"}, {"name": "b", "set": {"x": 1}}])
    with pytest.raises(
        TrainingError, match="success of seed 0: 2 trials of `b` and 8 of `a` cannot be paired"
    ):
        summarise(plan, results)


# The whole command.


def test_the_command_with_the_real_trainer(bench, demos, write, tmp_path, capsys):
    corrupt = write(tmp_path / "corrupt", 3, first_seed=50)
    short = {
        "optim.steps": 4,
        "pretrain.steps": 0,
        "aux_pose_weight": 0.0,
        "log_every": 2,
        "validation.every": 4,
    }
    arms = [{"name": "clean", "preset": "clean_only"}, {"name": "both", "preset": "cotrain"}]
    plan = bench.plan(
        arms=arms,
        data={"clean": str(demos), "corrupt": str(corrupt)},
        set=short,
        metrics={"val/denoise": "min"},
    )
    code = main([str(bench.plan_file), "--out", str(bench.out)])
    said = capsys.readouterr().out
    assert code == 0, said
    assert "next: read" in said
    summary = json.loads((bench.out / "summary.json").read_text())
    assert [arm["name"] for arm in summary["arms"]] == ["clean", "both"]
    assert all(0 < arm["metrics"]["val/denoise"]["mean"] < 10 for arm in summary["arms"])
    assert all(arm["train_s_per_step"] > 0 for arm in summary["arms"])
    assert (bench.out / "summary.png").read_bytes()[:4] == b"\x89PNG"

    text = (bench.out / "summary.md").read_text()
    (bench.out / "summary.md").unlink()
    assert main([str(bench.plan_file), "--out", str(bench.out), "--summary-only"]) == 0
    assert (bench.out / "summary.md").read_text() == text
    assert write_summary(plan, bench.out).model_dump(mode="json") == summary


def test_the_command_fails_when_a_job_does(bench, capsys):
    bench.plan(arms=[{"name": "bad", "set": {"name": "bad"}}])
    assert main([str(bench.plan_file), "--out", str(bench.out)], trainer=bench.trainer) == 1
    said = capsys.readouterr().out
    assert "failed bad seed 0: train ended with status 1" in said
    assert "the learning rate is a banana" in said
    assert "1 job(s) failed; next: cure the cause" in said


def test_help_needs_no_torch():
    code = "import sys, training.sweep; print(sorted({'torch', 'matplotlib', 'ray'} & sys.modules.keys()))"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == "[]"
