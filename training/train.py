"""`ambient-policy train`: a config and a folder of episodes to a run folder with checkpoints."""

from __future__ import annotations

import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

# Without these, glibc returns every large buffer to the kernel and faults it in again: 26 % of an fp32 step
# on a CPU. They are read before Python starts, hence the re-exec.
_MALLOC = {"MALLOC_MMAP_THRESHOLD_": "4294967296", "MALLOC_TRIM_THRESHOLD_": "17179869184"}


@dataclass(frozen=True)
class Args:
    """Train a policy from episodes."""

    config: tyro.conf.Positional[str]
    """A YAML file, or the name of a shipped config (pushing, pushing_gpu, smoke)."""
    out: Path
    """Run folder: checkpoints, logs and the resolved config."""
    data: tuple[str, ...] = ()
    """Folders of episodes (or packed caches), one for each source of the config."""
    preset: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """A method laid over the config: a YAML file, or the name of a shipped one (docs/methods.md lists them).
    May be repeated."""
    annotation: str | None = None
    """Folder made by `ambient-policy annotate`, for methods that need one."""
    resume: bool = False
    """Go on from the newest checkpoint in OUT; starts anew when there is none."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change a setting: --set optim.steps=1000. May be repeated."""
    cache: Path | None = None
    """Where packed episodes are kept; beside each source, as DATA.cache, by default."""
    max_minutes: float | None = None
    """Stop with a checkpoint after this long."""
    export_at_end: bool = False
    """Write OUT/bundle when training has finished."""


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    started = time.monotonic()
    args = tyro.cli(Args, args=argv, prog="ambient-policy train", description="Train a policy from episodes.")
    _use_patient_malloc(argv)
    from training.config import load_config  # torch takes seconds: not before --help has been answered
    from training.progress import console
    from training.run import train

    config = load_config(args.config, args.data, args.set, args.preset, args.annotation)
    interrupted = _watch_signals()

    def stop() -> bool:
        late = args.max_minutes is not None and time.monotonic() - started > 60 * args.max_minutes
        return late or bool(interrupted)

    outcome = train(config, args.out, resume=args.resume, stop=stop, cache_root=args.cache)
    minutes = (time.monotonic() - started) / 60
    if not outcome.finished:
        console.print(
            f"stopped at {outcome.phase} step {outcome.step} after {minutes:.1f} min; checkpoint: "
            f"{outcome.checkpoint}\nnext: the same command with --resume",
            soft_wrap=True,
        )
        return 0
    console.print(f"finished in {minutes:.1f} min; checkpoint: {outcome.checkpoint}", soft_wrap=True)
    if args.export_at_end:
        from training.export import main as export

        return export([str(args.out), "--out", str(args.out / "bundle")])
    console.print(f"next: ambient-policy export {args.out} --out {args.out / 'bundle'}", soft_wrap=True)
    return 0


def _watch_signals() -> list[int]:
    """Let the first Ctrl-C or SIGTERM end the run with a checkpoint; the second one ends it at once."""
    seen: list[int] = []

    def note(number: int, frame: object) -> None:
        seen.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, note)
    return seen


def _use_patient_malloc(argv: list[str]) -> None:
    """Start this process again with the malloc settings, if it is a command of its own under Linux."""
    own = sys.argv[1:] in (argv, ["train", *argv])
    if own and sys.platform == "linux" and not any(name in os.environ for name in _MALLOC):
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, **_MALLOC})


if __name__ == "__main__":
    from ambient_policy.errors import AmbientPolicyError

    try:
        sys.exit(main(sys.argv[1:]))
    except AmbientPolicyError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
