"""The figure of `ambient-policy calibrate-latency`: targets, poses and pictures, before and after."""

from __future__ import annotations

import io

import matplotlib

matplotlib.use("Agg")
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ambient_policy.image_delay import ImageDelay
from ambient_policy.latency_calibration import Calibration, Recording
from ambient_policy.time_delay import Delay

INK, TARGET = "#1c2733", "#d1662b"
CAMERAS = ("#1f6fb2", "#5a9e6f", "#8e5ea2", "#b8860b")
SHOWN_S = 6.0
"""Length of the stretch that is drawn, in the middle: delays must be wide enough to be seen."""


def latency_figure(recording: Recording, found: Calibration) -> bytes:
    """Draw x and y of a stretch as stamped, and shifted by the delays that were found; PNG bytes."""
    figure = Figure(figsize=(12, 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(2, 2, sharex=True, sharey="row")
    targets, poses = recording.targets, recording.poses
    middle_s = (poses.times_s[0] + poses.times_s[-1]) / 2
    centre = poses.positions.mean(axis=0)
    for column, shifted in enumerate((False, True)):
        tool_s = found.actuation.delay_s if shifted and isinstance(found.actuation, Delay) else 0.0
        for row in range(2):
            one = axes[row, column]
            one.plot(targets.times_s + tool_s - middle_s, 1e3 * (targets.positions - centre)[:, row],
                     color=TARGET, lw=1, label="target")  # fmt: skip
            one.plot(poses.times_s - middle_s, 1e3 * (poses.positions - centre)[:, row],
                     color=INK, lw=1, label="pose")  # fmt: skip
            for colour, (name, camera) in zip(CAMERAS, found.cameras.items(), strict=False):
                if isinstance(camera, ImageDelay):
                    times_s = recording.cameras[name].stamps_s - (camera.delay_s if shifted else 0.0)
                    one.plot(times_s - middle_s, 1e3 * (camera.predicted - centre)[:, row], ".",
                             ms=5, color=colour, label=f"from {name}'s pictures")  # fmt: skip
            one.set(xlim=(-SHOWN_S / 2, SHOWN_S / 2), ylabel=f"{'xy'[row]} [mm]")
            one.grid(alpha=0.3)
        axes[0, column].set_title("shifted by what was found" if shifted else "as stamped", fontsize=10)
        axes[1, column].set_xlabel("time [s]")
    axes[0, 0].legend(fontsize=8, frameon=False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100, metadata={"Software": None})
    return buffer.getvalue()
