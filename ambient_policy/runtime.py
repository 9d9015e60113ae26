"""From observations to chunks: frames of all cameras, a ring of features, and a plan when one is due."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, FiniteFloat

from ambient_policy.bundle import Manifest
from ambient_policy.chunks import TIME_EPSILON_S, Array, Chunk, Hold
from ambient_policy.config import StrictModel, nearest
from ambient_policy.errors import AmbientPolicyError, ConfigError
from ambient_policy.image_checks import ImageChecks
from ambient_policy.images import to_input
from ambient_policy.seams import SeamConfig, ensemble, known_actions, most_coherent

Image = NDArray[np.uint8]
V = TypeVar("V")


class PolicyLike(Protocol):
    """What the runtime needs of `inference.Policy`."""

    @property
    def manifest(self) -> Manifest:
        """The bundle's manifest."""

    def encode(self, images: dict[str, Image]) -> NDArray[np.float32]:
        """Return the features (F,) of one frame."""

    def sample(
        self,
        features: NDArray,
        state: NDArray,
        noise: NDArray,
        known: tuple[NDArray, NDArray] | None = None,
    ) -> NDArray:
        """Return world positions (H, A) [m] from features (T, F), states (T, S) [m] and noise (H, A).

        `known`: positions (H, A) [m] that are settled, and their standard deviations (H,) [m].
        """

    def sample_several(self, features: NDArray, state: NDArray, noise: NDArray) -> NDArray:
        """Return world positions (N, H, A) [m], one chunk for each noise (N, H, A)."""


class RuntimeConfig(StrictModel):
    """When to plan, and what is too old."""

    replan_steps: int | None = Field(default=None, ge=1)
    """Frames between two plans; None takes the bundle's `action.execute_steps`."""
    max_age_s: float = Field(default=0.5, gt=0)
    """A newest complete frame older than this is stale."""
    match_s: float = Field(default=0.02, ge=0)
    """Images of one frame, and the tool position that goes with them, may differ this much in time."""
    image_delay_s: Mapping[str, FiniteFloat] = {}
    """Camera -> how long before its stamp a picture shows the world, as `calibrate-latency` measures it;
    0 for others. Frames count from then, and pictures of one frame must be within `match_s` then."""
    blank_std: float = Field(default=2.0, ge=0)
    """A picture whose values spread less than this shows nothing; 0: not checked."""
    frozen_m: float = Field(default=0.02, gt=0)
    """A picture that is the same although the tool has moved this far is frozen."""
    frozen_cameras: tuple[str, ...] = ()
    """Cameras that are looked at for that; see `image_checks`."""
    seam: SeamConfig = SeamConfig()
    """How a chunk gives way to the next."""


def delays_by_camera(cameras: Sequence[str], delays_s: Sequence[float]) -> dict[str, float]:
    """Pair two lists, as ROS parameters are, for `RuntimeConfig.image_delay_s`.

    Raises:
        ConfigError: they are not of one length, or a camera is named twice.
    """
    if len(set(cameras)) != len(cameras) or len(cameras) != len(delays_s):
        raise ConfigError(
            f"delayed_cameras is {list(cameras)} and image_delay_s {list(delays_s)}: needs one delay [s] "
            "for each camera, and each camera once; see the policy's parameters"
        )
    return dict(zip(cameras, delays_s, strict=True))


@dataclass(frozen=True)
class Frame:
    """Images of one time, and where the tool was then."""

    stamp_s: float
    images: dict[str, Image]
    """(h, w, 3) RGB of the policy's input size, by camera."""
    tool: Array
    """(S,) world [m]."""


@dataclass(frozen=True)
class Decision:
    """What one call of `plan` did. All three are None when there was nothing to do."""

    frame_stamp_s: float | None = None
    """Frame that was taken in."""
    chunk: Chunk | None = None
    hold: Hold | None = None
    timings: dict[str, float] = field(default_factory=dict)
    """Seconds by the runtime's timer: `encode_s`, `denoise_s`."""


class PolicyRuntime:
    """Feeds a policy and says when to move; knows neither ROS nor the clock.

    Args:
        policy: an opened bundle.
        config: see `RuntimeConfig`.
        rng: makes the starting noise of every chunk.
        timer: a monotonic clock for `Decision.timings` [s].
    """

    def __init__(
        self,
        policy: PolicyLike,
        config: RuntimeConfig,
        rng: np.random.Generator,
        timer: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._policy, self._config, self._rng, self._timer = policy, config, rng, timer
        self._spec = policy.manifest
        for name in config.image_delay_s:
            if name not in self._spec.cameras:
                known = nearest(name, self._spec.cameras)
                raise ConfigError(f"image_delay_s names camera {name!r}, not in the bundle; {known}")
        self._replan_steps = config.replan_steps or self._spec.action.execute_steps
        self.reset(rng)

    def reset(self, rng: np.random.Generator | None = None) -> None:
        """Forget all observations and plans; go on with `rng` if one is given."""
        if rng is not None:
            self._rng = rng
        self._tool: deque[tuple[float, Array]] = deque(maxlen=200)
        self._images: dict[str, deque[tuple[float, Image]]] = {c: deque(maxlen=4) for c in self._spec.cameras}
        self._frames: deque[tuple[float, NDArray[np.float32], Array]] = deque(maxlen=self._spec.obs_steps)
        self._chunks: deque[Chunk] = deque(maxlen=self._spec.action.horizon)
        config = self._config
        self._checks = ImageChecks(config.blank_std, config.frozen_m, config.frozen_cameras)

    def observe_tool(self, xy: Array, stamp_s: float) -> None:
        """Take a measured tool position (S,) in the world [m]."""
        self._tool.append((stamp_s, np.asarray(xy, dtype=float)))

    def observe_image(self, camera: str, image: Image, stamp_s: float) -> None:
        """Take an image (H, W, 3) RGB; it is brought to the policy's input size. Other cameras are ignored.

        Raises:
            ConfigError: the image's aspect ratio is not that of the policy's input.
        """
        if camera in self._images:
            spec = self._spec.cameras[camera]
            shown_s = stamp_s - self._config.image_delay_s.get(camera, 0.0)
            self._images[camera].append((shown_s, to_input(image, spec.width, spec.height)))

    def plan(self, now_s: float) -> Decision:
        """Take in the newest complete frame, if there is a new one, and make a chunk if one is due."""
        taken = self.take(now_s)
        return self.decide(taken) if isinstance(taken, Frame) else taken

    def take(self, now_s: float) -> Frame | Decision:
        """Return the newest complete frame for `decide`, or what there is to say without one."""
        frame = self._newest_frame()
        if frame is None:
            return Decision(hold=self._staleness(now_s))
        if now_s - frame.stamp_s > self._config.max_age_s:
            return Decision(hold=Hold(f"newest camera frame is {now_s - frame.stamp_s:.2f} s old"))
        if fault := self._checks.fault(frame.images, frame.tool):
            return Decision(frame.stamp_s, hold=Hold(fault))
        return frame

    def decide(self, frame: Frame) -> Decision:
        """Take a frame in, and make a chunk if one is due: all that takes long.

        Another thread may do this, and the observing go on meanwhile, but no other method may be called.
        """
        stamp_s, tool = frame.stamp_s, frame.tool
        began = self._timer()
        try:
            features = self._policy.encode(frame.images)
            encoded = self._timer()
            self._frames.append((stamp_s, features, tool))
            timings = {"encode_s": encoded - began}
            if not self._due(stamp_s):
                return Decision(stamp_s, timings=timings)
            chunk = self._chunk(stamp_s, tool)
        except AmbientPolicyError as error:
            return Decision(stamp_s, hold=Hold(str(error)))
        timings["denoise_s"] = self._timer() - encoded
        if not np.isfinite(chunk.positions).all():
            return Decision(
                stamp_s, hold=Hold("the policy's chunk has values that are not finite"), timings=timings
            )
        self._chunks.append(chunk)
        if self._config.seam.kind == "ensemble":
            chunk = ensemble(self._chunks, self._config.seam.decay)
        return Decision(stamp_s, chunk, timings=timings)

    def _chunk(self, stamp_s: float, tool: Array) -> Chunk:
        # At the start of a trial the first frame stands for those before it, as in training.
        frames = [self._frames[0]] * (self._spec.obs_steps - len(self._frames)) + list(self._frames)
        features = np.stack([f for _, f, _ in frames])
        state = np.stack([xy for _, _, xy in frames])
        seam, action = self._config.seam, self._spec.action
        count = seam.candidates if seam.kind == "coherent" and self._chunks else 1
        noise = self._rng.standard_normal((count, action.horizon, len(action.names))).astype(np.float32)
        known = None
        if seam.kind == "prefix" and self._chunks:
            known = known_actions(seam, self._chunks[-1], stamp_s, tool, action.horizon)
        if count > 1:
            candidates = self._policy.sample_several(features, state, noise)
            positions = candidates[most_coherent(candidates, self._chunks[-1], stamp_s, seam.fading)]
        else:
            positions = self._policy.sample(features, state, noise[0], known)
        return Chunk(stamp_s, np.vstack([tool, positions]), self._spec.action.period_s)

    def _due(self, stamp_s: float) -> bool:
        if not self._chunks:
            return True
        wait = (self._replan_steps - 0.5) * self._spec.action.period_s
        return stamp_s - self._chunks[-1].stamp_s >= wait

    def _newest_frame(self) -> Frame | None:
        """Return the newest images of one time, if newer than the last frame, with their tool position."""
        last_s = self._frames[-1][0] if self._frames else -np.inf
        first = next(iter(self._images.values()))
        due_s = last_s + self._spec.action.period_s - 0.5 * self._spacing_s(first)
        for stamp_s, _ in reversed(first):
            # Frames closer together than an action step would make history run too fast.
            if stamp_s < due_s:
                return None
            images = {c: self._nearest(entries, stamp_s) for c, entries in self._images.items()}
            tool = self._nearest(self._tool, stamp_s)
            if tool is not None and all(i is not None for i in images.values()):
                return Frame(stamp_s, {c: i for c, i in images.items() if i is not None}, tool)
        return None

    def _spacing_s(self, entries: deque[tuple[float, Image]]) -> float:
        """Return the time between two images of a camera; an action step when they come no faster."""
        stamps = [stamp_s for stamp_s, _ in entries]
        between = np.diff(stamps) if len(stamps) > 1 else [np.inf]
        return min(float(np.median(between)), self._spec.action.period_s)

    def _nearest(self, entries: deque[tuple[float, V]], stamp_s: float) -> V | None:
        best = min(entries, key=lambda entry: abs(entry[0] - stamp_s), default=None)
        if best is None or abs(best[0] - stamp_s) > self._config.match_s + TIME_EPSILON_S:
            return None
        return best[1]

    def _staleness(self, now_s: float) -> Hold | None:
        for camera, entries in self._images.items():
            if not entries:
                return Hold(f"no image from camera `{camera}` yet")
        if not self._tool:
            return Hold("no tool position yet")
        newest_s = self._frames[-1][0] if self._frames else min(e[-1][0] for e in self._images.values())
        if now_s - newest_s > self._config.max_age_s:
            last_s = {c: e[-1][0] for c, e in self._images.items()} | {"tool": self._tool[-1][0]}
            ages = ", ".join(f"{name} {now_s - stamp_s:.2f} s" for name, stamp_s in last_s.items())
            return Hold(f"no complete frame for {now_s - newest_s:.2f} s (ages: {ages})")
        return None
