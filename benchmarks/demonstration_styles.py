"""How a person's way of moving, as the scripted operator imitates it, differs from a planner's.

.venv/bin/ambient-policy collect --scenario target --no-images --episodes 50 -o data/styles/operator
.venv/bin/ambient-policy collect --scenario source --pipeline replay --no-images --episodes 50 \
    -o data/styles/replay
.venv/bin/python -m benchmarks.demonstration_styles data/styles/operator data/styles/replay

Writes docs/figures/demonstrations.png and benchmarks/results/demonstrations/styles.json, and prints the table
of docs/demonstrations.md.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro

from ambient_policy import spectra
from ambient_policy.episodes import list_episodes, read_episode
from ambient_policy.provenance import commit

STILL_M, STILL_STEPS = 0.003, 3
"""Less than this way in so many steps is standing still: a tremor of 0.8 mm alone rarely goes so far."""
SEGMENT_STEPS = 32


@dataclass(frozen=True, kw_only=True)
class Args:
    """Compare the first folder, a person's way, with the second, a planner's."""

    folders: Annotated[tuple[Path, Path], tyro.conf.Positional]
    figure: Path = Path("docs/figures/demonstrations.png")
    out: Path = Path("benchmarks/results/demonstrations/styles.json")
    example: int = 0
    """Which episode of each folder is drawn over time."""


@dataclass(frozen=True)
class Motions:
    """What is measured of one folder: per episode commanded positions (N, 2), with the parking left out."""

    name: str
    period_s: float
    actions: list[np.ndarray]
    moves_slider: list[np.ndarray]
    """(N - 1,) bool for each: whether the T moves in that step."""

    def speeds(self, index: int) -> np.ndarray:
        """Speed (N - 1,) of the command [m/s]."""
        return np.linalg.norm(np.diff(self.actions[index], axis=0), axis=1) / self.period_s

    def still(self, index: int) -> np.ndarray:
        """Whether the command stands still (N - 1,) bool, judged over `STILL_STEPS` from each step on."""
        action = np.pad(self.actions[index], ((0, STILL_STEPS), (0, 0)), mode="edge")
        way = np.linalg.norm(action[STILL_STEPS:] - action[:-STILL_STEPS], axis=1)
        return way[: len(self.actions[index]) - 1] < STILL_M


def read(folder: Path) -> Motions:
    """Read all episodes of a folder, each up to where the tool parks."""
    actions, moves, period_s = [], [], 0.1
    for path in list_episodes(folder):
        episode = read_episode(path, cameras=())
        action, pose = episode.arrays["action"], episode.arrays["privileged_slider_pose"]
        moving = np.flatnonzero(np.linalg.norm(np.diff(action, axis=0), axis=1) > 1e-9)
        end = int(moving[-1]) + 2
        shift = np.diff(pose[:end], axis=0) * [1, 1, 0.05]
        actions.append(action[:end])
        moves.append(np.linalg.norm(shift, axis=1) > 2e-4)
        period_s = episode.meta.period_s
    return Motions(folder.name, period_s, actions, moves)


def measure(motions: Motions, rng: np.random.Generator) -> dict[str, float]:
    """Return the numbers of one column of the table."""
    speeds = [motions.speeds(i) for i in range(len(motions.actions))]
    every, pushing = np.concatenate(speeds), np.concatenate(motions.moves_slider)
    resting = [motions.still(i) for i in range(len(motions.actions))]
    still = np.concatenate(resting)
    stops = [int(np.sum(np.diff(np.r_[0, rest]) == 1)) for rest in resting]
    second = np.concatenate(
        [np.linalg.norm(np.diff(a, 2, axis=0), axis=1) / motions.period_s**2 for a in motions.actions]
    )
    band = spectra.default_band(SEGMENT_STEPS, motions.period_s)
    _, law = spectra.fit_whitened(motions.actions, motions.period_s, SEGMENT_STEPS, band, rng)
    push, free = every[pushing & ~still], every[~pushing & ~still]
    return {
        "episodes": len(speeds),
        "median duration (s)": float(np.median([len(s) for s in speeds]) * motions.period_s),
        "free speed, median (mm/s)": float(1e3 * np.median(free)),
        "free speed, quartiles apart (mm/s)": float(1e3 * np.subtract(*np.percentile(free, [75, 25]))),
        "pushing speed, median (mm/s)": float(1e3 * np.median(push)),
        "pushing speed, quartiles apart (mm/s)": float(1e3 * np.subtract(*np.percentile(push, [75, 25]))),
        "time at rest (%)": float(100 * still.mean()),
        "stops per episode": float(np.mean(stops)),
        "change of velocity, rms (m/s2)": float(np.sqrt(np.mean(second**2))),
        "change of velocity, 99 % (m/s2)": float(np.percentile(second, 99)),
        "exponent alpha of S ~ f^-alpha": law.alpha,
        "its standard error": law.alpha_error,
        "power at 4 Hz (mm2)": float(1e6 * power_at(motions, 4.0)),
    }


def power_at(motions: Motions, frequency_hz: float) -> float:
    """Return the power of the commands [m^2] at the frequency nearest to `frequency_hz`."""
    spectrum = spectra.episode_spectrum(motions.actions, motions.period_s, SEGMENT_STEPS)
    return float(spectrum.power[np.argmin(np.abs(spectrum.frequency_hz - frequency_hz))])


def draw(both: list[Motions], example: int, path: Path) -> None:
    """Draw speed over time, its distribution, and the spectra."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(11, 2.9), layout="constrained")
    for motions, colour in zip(both, ("tab:blue", "tab:orange"), strict=True):
        speed = 1e3 * motions.speeds(min(example, len(motions.actions) - 1))
        axes[0].plot(motions.period_s * np.arange(len(speed)), speed, color=colour, lw=0.9)
        every = 1e3 * np.concatenate([motions.speeds(i) for i in range(len(motions.actions))])
        axes[1].hist(every, bins=np.arange(0, 325, 8), density=True, histtype="step", color=colour)
        spectrum = spectra.episode_spectrum(motions.actions, motions.period_s, SEGMENT_STEPS)
        axes[2].loglog(spectrum.frequency_hz, 1e6 * spectrum.power, color=colour, label=motions.name)
    axes[0].set(xlabel="time (s)", ylabel="commanded speed (mm/s)")
    axes[1].set(xlabel="commanded speed (mm/s)", ylabel="density")
    axes[2].set(xlabel="frequency (Hz)", ylabel="power (mm$^2$)")
    axes[2].legend(frameon=False)
    axes[2].set_xticks([0.5, 1, 2, 4], ["0.5", "1", "2", "4"])
    axes[2].minorticks_off()
    for axis in axes:
        axis.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main(args: Args) -> None:
    """Measure both, write figure and numbers, print the table."""
    both = [read(folder) for folder in args.folders]
    columns = [measure(motions, np.random.default_rng(0)) for motions in both]
    draw(both, args.example, args.figure)
    args.out.parent.mkdir(parents=True, exist_ok=True)
    document = {"commit": commit(), **{m.name: c for m, c in zip(both, columns, strict=True)}}
    args.out.write_text(json.dumps(document, indent=1) + "\n")
    print("| | " + " | ".join(m.name for m in both) + " |\n|---|" + "---|" * len(both))
    for key in columns[0]:
        print(f"| {key} | " + " | ".join(f"{column[key]:.3g}" for column in columns) + " |")


if __name__ == "__main__":
    main(tyro.cli(Args))
