"""From camera stamp to servo command through the real nodes: how long, how steadily, at what cost.

    OMP_NUM_THREADS=1 python -m benchmarks.ros_latency --minutes 10 --hogs 0 1

Two camera nodes (640x480, 30 Hz, test patterns that pass librealsense as a camera's frames do), the policy
node and the servo, each a process as on a robot, on this machine's DDS. This program stands for the robot: it
publishes its pose at 100 Hz and goes where it is told. A chunk is asked for at every frame of the policy, ten
a second. A hog is a process that keeps one core busy.

The way of a chunk, by the stamp of its images: from the camera until the frame is complete at the policy (two
images, which the cameras do not take at the same time, and a pose that is not older than they are) -> encode
and denoise -> the servo has it -> first command, which answers the first pose of the robot after the handover
(`handover_s`, 50 ms, so that chunks take over alike however long they took).
"""

from __future__ import annotations

import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from ambient_policy import provenance
from ambient_policy.statistics import tail

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "ros2_ws/src/ambient_policy"
CAMERAS = ("overhead", "wrist")
SETTLE_S = 10.0
"""Left out at the start: discovery, and memory that is still being taken."""


@dataclass(frozen=True, kw_only=True)
class Args:
    """What to measure."""

    bundle: Path = Path("bundles/pushing")
    minutes: float = 10.0
    """Of each condition."""
    hogs: tuple[int, ...] = (0, 1)
    """Conditions: how many other processes keep a core busy."""
    pose_hz: float = 100.0
    """Of the robot."""
    out: Annotated[Path, tyro.conf.arg(aliases=["-o"])] = Path("benchmarks/results/ros-latency")


@dataclass
class Seen:
    """What was heard in one condition, by stamp of the images [ns]."""

    wait_ms: dict[int, float] = field(default_factory=dict)
    inference_ms: dict[int, float] = field(default_factory=dict)
    accepted_ms: dict[int, float] = field(default_factory=dict)
    commanded_ms: dict[int, float] = field(default_factory=dict)
    reports: dict[str, dict[str, str]] = field(default_factory=dict)
    holds: int = 0


def main() -> int:
    """Run every condition, print and write the tables."""
    args = tyro.cli(Args, description=__doc__)
    os.environ["FASTRTPS_DEFAULT_PROFILES_FILE"] = str(PACKAGE / "config/fastdds.xml")
    os.environ |= {"MALLOC_MMAP_THRESHOLD_": "67108864", "MALLOC_TRIM_THRESHOLD_": "536870912"}
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    console, conditions = Console(), {}
    with Progress(console=console) as progress:
        for hogs in args.hogs:
            task = progress.add_task(f"{hogs} hogs", total=60 * args.minutes)
            conditions[hogs] = measure(args, hogs, lambda s, task=task: progress.update(task, completed=s))
    for table in tables(conditions):
        console.print(table)
    document = {
        "schema_name": "ambient_policy.ros_latency",
        "version": 1,
        "commit": provenance.commit(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "python": platform.python_version(),
        },
        "args": {k: str(v) if isinstance(v, Path) else v for k, v in asdict(args).items()},
        "conditions": conditions,
    }
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "ros_latency.json").write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")
    console.print(f"Next: docs/bench.md quotes {args.out}/ros_latency.json")
    return 0


def measure(args: Args, hogs: int, report) -> dict:
    """Run the nodes for a while beside `hogs` others; returns all numbers of the condition."""
    with tempfile.TemporaryDirectory() as scratch, _processes(args, hogs, Path(scratch)) as nodes:
        seen, usage = _robot(args, nodes, report)
    way = sorted(seen.accepted_ms.keys() & seen.inference_ms.keys())
    after = [seen.accepted_ms[ns] - seen.wait_ms[ns] - seen.inference_ms[ns] for ns in way]
    stages = {
        "camera stamp to complete frame": [seen.wait_ms[ns] for ns in way],
        "encode and denoise": [seen.inference_ms[ns] for ns in way],
        "all else, until the servo has it": after,
        "camera stamp to servo": [seen.accepted_ms[ns] for ns in way],
        "camera stamp to command": list(seen.commanded_ms.values()),
    }
    servo = seen.reports.get("servo", {})
    return {
        "hogs": hogs,
        "chunks": len(way),
        "stages_ms": {name: asdict(tail(values)) for name, values in stages.items()},
        "processes": usage,
        "missed_deadlines": int(servo.get("missed_deadlines", 0)),
        "refused_chunks": int(servo.get("refused_chunks", 0)),
        "lost_frames": {c: int(seen.reports[f"camera {c}"]["lost_frames"]) for c in CAMERAS},
        "policy_holds": seen.holds,
    }


@contextmanager
def _processes(args: Args, hogs: int, scratch: Path) -> Iterator[dict[str, subprocess.Popen]]:
    config = PACKAGE / "config/pushing.yaml"
    wanted = {
        **{f"{c}_camera": ("camera", {"camera": c, "source": "pattern", "rate_hz": 30}) for c in CAMERAS},
        "policy": ("policy", {"bundle": args.bundle.resolve(), "replan_steps": 1}),
        "servo": ("servo", {}),
    }
    running = {}
    try:
        for name, (node, parameters) in wanted.items():
            given = [word for key, value in parameters.items() for word in ("-p", f"{key}:={value}")]
            given += ["-r", f"__node:={name}", "--params-file", str(config)]
            command = [sys.executable, "-m", f"ambient_policy_ros.{node}_node", "--ros-args", *given]
            with (scratch / f"{name}.log").open("wb") as log:
                running[name] = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        for i in range(hogs):
            running[f"hog {i}"] = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        yield {name: running[name] for name in wanted}
    finally:
        for name, process in running.items():
            process.send_signal(signal.SIGKILL if name.startswith("hog") else signal.SIGINT)
        for process in running.values():
            process.wait(30)


def _robot(args: Args, nodes: dict[str, subprocess.Popen], report) -> tuple[Seen, dict]:
    """Play the robot; returns what was heard after the settling, and what each node took."""
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from geometry_msgs.msg import PoseStamped
    from rclpy.executors import SingleThreadedExecutor
    from std_msgs.msg import Bool

    from ambient_policy_ros import convert, qos

    rclpy.init()
    node, seen = rclpy.create_node("robot"), Seen()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    xy = np.array([0.55, 0.0])
    began_s = time.monotonic()
    enabled: set[str] = set()

    def settled() -> bool:
        return time.monotonic() - began_s > SETTLE_S and len(enabled) == 2

    def move(msg: PoseStamped) -> None:
        nonlocal xy
        xy = convert.pose_xy(msg)

    def listen(who: str, msg: DiagnosticArray) -> None:
        values, stamp_ns = convert.status_values(msg), convert.nanoseconds(msg.header.stamp)
        event = values.get("event")
        if event == "enable" and values["state"] == "active":
            enabled.add(who)
        if not settled():
            return
        if event == "frame" and "denoise_ms" in values:
            seen.wait_ms[stamp_ns] = float(values["wait_ms"])
            seen.inference_ms[stamp_ns] = float(values["encode_ms"]) + float(values["denoise_ms"])
        elif event == "accepted":
            seen.accepted_ms[stamp_ns] = (int(values["at_ns"]) - stamp_ns) / 1e6
        elif event == "taken_over":
            seen.commanded_ms[stamp_ns] = (int(values["at_ns"]) - stamp_ns) / 1e6
        if who == "policy" and values.get("hold"):
            seen.holds += 1

    def hear(msg: DiagnosticArray) -> None:
        seen.reports[msg.status[0].name] = convert.status_values(msg)

    poses = node.create_publisher(PoseStamped, "tool/pose", qos.STATE)
    node.create_subscription(PoseStamped, "tool/target", move, qos.STATE)
    node.create_subscription(DiagnosticArray, "policy/status", lambda m: listen("policy", m), qos.STATUS)
    node.create_subscription(DiagnosticArray, "servo/status", lambda m: listen("servo", m), qos.STATUS)
    node.create_subscription(DiagnosticArray, "/diagnostics", hear, qos.STATUS)
    enable = node.create_publisher(Bool, "policy/enable", qos.ENABLE)

    def tick() -> None:
        poses.publish(convert.pose_msg(xy, time.time(), "world"))

    node.create_timer(1 / args.pose_hz, tick)
    node.create_timer(0.5, lambda: len(enabled) < 2 and enable.publish(Bool(data=True)))
    samples: dict[str, list[tuple[float, float, float]]] = defaultdict(list)
    next_s = began_s + SETTLE_S
    try:
        while (now_s := time.monotonic()) < began_s + SETTLE_S + 60 * args.minutes:
            executor.spin_once(timeout_sec=0.1)
            if now_s >= next_s:
                next_s += 5
                report(now_s - began_s - SETTLE_S)
                for name, process in nodes.items():
                    if process.poll() is not None:
                        raise SystemExit(f"{name} has ended with {process.returncode}")
                    samples[name].append((now_s, *_usage(process.pid)))
    finally:
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    return seen, {name: _summary(rows) for name, rows in samples.items()}


def _usage(pid: int) -> tuple[float, float]:
    """Return the CPU time [s] and the resident memory [MB] of a process."""
    ticks = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[11:13]
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK"), pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _summary(rows: list[tuple[float, float, float]]) -> dict[str, float]:
    time_s, cpu_s, memory_mb = np.array(rows).T
    # The first fifth is left out: caches fill.
    late = time_s >= time_s[0] + 0.2 * (time_s[-1] - time_s[0])
    slope_mb_s = float(np.polyfit(time_s[late], memory_mb[late], 1)[0])
    return {
        "cpu_share": (cpu_s[-1] - cpu_s[0]) / (time_s[-1] - time_s[0]),
        "memory_mb": float(memory_mb[-1]),
        "memory_slope_mb_h": 3600 * slope_mb_s,
    }


def tables(conditions: dict[int, dict]) -> list[Table]:
    """Lay the numbers out."""
    times = Table(title="milliseconds")
    for column in ("", "", "chunks", "p50", "p99", "max"):
        times.add_column(column)
    costs = Table(title="processes")
    for column in ("", "", "CPU, share of a core", "memory, MB", "slope, MB/h"):
        costs.add_column(column)
    for hogs, found in conditions.items():
        label = f"{hogs} hogs"
        for name, t in found["stages_ms"].items():
            row = (f"{t[key]:.1f}" for key in ("p50", "p99", "max"))
            times.add_row(label, name, str(found["chunks"]), *row)
        for name, used in found["processes"].items():
            share, slope = f"{used['cpu_share']:.2f}", f"{used['memory_slope_mb_h']:+.1f}"
            costs.add_row(label, name, share, f"{used['memory_mb']:.0f}", slope)
        lost = ", ".join(f"{n} {camera}" for camera, n in found["lost_frames"].items())
        costs.add_row(
            label,
            f"missed deadlines {found['missed_deadlines']}, refused chunks {found['refused_chunks']}, "
            f"lost frames {lost}, policy holds {found['policy_holds']}",
        )
    return [times, costs]


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.machine()


if __name__ == "__main__":
    sys.exit(main())
