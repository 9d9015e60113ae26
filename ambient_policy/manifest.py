"""Schema of a bundle's manifest: what a robot must know to feed the two graphs and to use their output."""

from __future__ import annotations

import itertools
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ambient_policy.config import StrictModel
from ambient_policy.episodes import CameraModel, CameraName
from ambient_policy.normalize import Normalizer
from ambient_policy.onnx_header import Tensor

VERSION = 1
SCHEMA = "ambient_policy.bundle"

_Count = Annotated[int, pydantic.Field(ge=1)]
_Positive = Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
_Finite = Annotated[float, pydantic.Field(allow_inf_nan=False)]
_Digest = Annotated[str, pydantic.StringConstraints(pattern=r"^[0-9a-f]{64}$")]
# A plain name: no folder, no `..`, nothing hidden. This is what keeps a bundle inside its own folder.
_FileName = Annotated[str, pydantic.StringConstraints(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]


class CameraInput(StrictModel):
    """One camera as the encoder takes it, and the camera it was trained with."""

    width: _Count
    height: _Count
    encoding: Literal["rgb8"] = "rgb8"
    frame_id: str
    capture: CameraModel
    """The camera that took the training images; its size may be larger than the encoder's input."""


class VectorSpec(StrictModel):
    """Meaning of each entry of a vector."""

    names: Annotated[tuple[str, ...], pydantic.Field(min_length=1)]
    unit: str
    frame: str


class ActionSpec(VectorSpec):
    """What the policy commands, how far ahead and how much of it is carried out."""

    relative_to: Literal["tool", "world"]
    """"tool": the sampler's output is added to the newest observed tool position."""
    horizon: _Count
    """H, actions in a chunk."""
    execute_steps: _Count
    """Actions carried out before the next chunk should have taken over."""
    period_s: _Positive


class SamplerSpec(StrictModel):
    """How the sampler graph was unrolled. Noise that enters it is standard normal."""

    method: str
    sigmas: Annotated[tuple[_Finite, ...], pydantic.Field(min_length=2)]
    """K + 1 noise levels, decreasing; the last may be 0."""
    prefix: bool = False
    """Whether there is a sampler_prefix.onnx, which takes actions that are known already."""


class ChunkDifference(StrictModel):
    """Between the actions of two samplers on the same input, in the unit of the action."""

    rms: _Finite
    largest: _Finite


class NormalizerSpec(StrictModel):
    """Offset and scale of one vector, per entry."""

    offset: tuple[_Finite, ...]
    scale: tuple[_Positive, ...]

    def build(self) -> Normalizer:
        """Make the map itself."""
        return Normalizer(np.array(self.offset), np.array(self.scale))


class Normalizers(StrictModel):
    """State and action normalisation."""

    state: NormalizerSpec
    action: NormalizerSpec


class Quantised(StrictModel):
    """What `ambient-policy quantise` has done to a bundle."""

    weights: Literal["int8"]
    """Type of the weights that were converted."""
    origin: _Digest
    """SHA-256 of the manifest of the bundle that it was made from."""
    apart: ChunkDifference | None = None
    """How far its chunks are from the original's."""


class Manifest(StrictModel):
    """The document at the head of a bundle. Shape letters: `ambient_policy.__doc__`."""

    schema_name: Literal["ambient_policy.bundle"] = "ambient_policy.bundle"
    version: Literal[1] = 1
    name: str
    created: str
    """ISO 8601, UTC."""
    commit: str
    cameras: Annotated[dict[CameraName, CameraInput], pydantic.Field(min_length=1)]
    obs_steps: _Count
    """T, observed steps, one `action.period_s` apart."""
    state: VectorSpec
    action: ActionSpec
    sampler: SamplerSpec
    normalizer: Normalizers
    feature_size: _Count
    """F, of all cameras together."""
    sigma_data: _Positive
    training: dict[str, Any]
    """The resolved config of the run that made it."""
    parity: dict[str, float] = pydantic.Field(default_factory=dict)
    """Largest difference between each graph and the network it was exported from."""
    quantised: Quantised | None = None
    """None: all weights are float32."""
    files: dict[_FileName, _Digest] = pydantic.Field(default_factory=dict)
    """SHA-256 of every other file in the folder; filled in by `write_bundle`."""

    @property
    def weights(self) -> str:
        """Name the type of the sampler's weights."""
        return "float32" if self.quantised is None else self.quantised.weights

    def graphs(self) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Give every graph of the bundle with the inputs and outputs that it must have."""
        found = {"encoder.onnx": self.encoder_io(), "sampler.onnx": self.sampler_io()}
        if self.sampler.prefix:
            found["sampler_prefix.onnx"] = self.prefix_io()
        return found

    def encoder_io(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give the inputs and outputs that encoder.onnx must have; the batch is free."""
        inputs = {
            f"image_{name}": Tensor("uint8", (None, camera.height, camera.width, 3))
            for name, camera in self.cameras.items()
        }
        return inputs, {"features": Tensor("float32", (None, self.feature_size))}

    def sampler_io(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give the inputs and outputs that sampler.onnx must have; the batch is free."""
        chunk = Tensor("float32", (None, self.action.horizon, len(self.action.names)))
        inputs = {
            "features": Tensor("float32", (None, self.obs_steps, self.feature_size)),
            "state": Tensor("float32", (None, self.obs_steps, len(self.state.names))),
            "noise": chunk,
        }
        return inputs, {"chunk": chunk}

    def prefix_io(self) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        """Give the inputs and outputs that sampler_prefix.onnx must have; the batch is free."""
        inputs, outputs = self.sampler_io()
        step = Tensor("float32", (None, self.action.horizon, 1))
        return {**inputs, "known": inputs["noise"], "known_mask": step, "known_variance": step}, outputs

    def disagreements(self) -> list[str]:
        """List where the document contradicts itself."""
        found = []
        for name in ("state", "action"):
            size, spec = len(getattr(self, name).names), getattr(self.normalizer, name)
            if not len(spec.offset) == len(spec.scale) == size:
                found.append(
                    f"normalizer.{name} has {len(spec.offset)} offsets and {len(spec.scale)} scales for "
                    f"{size} names"
                )
        if self.action.execute_steps > self.action.horizon:
            found.append(
                f"action.execute_steps is {self.action.execute_steps}, more than the horizon "
                f"{self.action.horizon}"
            )
        state, action = self.state, self.action
        alike = (len(state.names), state.unit, state.frame) == (len(action.names), action.unit, action.frame)
        if action.relative_to == "tool" and not alike:
            found.append(
                f"action.relative_to is 'tool', so it is added to the state and must have as many entries, "
                f"its unit and its frame: state {list(state.names)} {state.unit} {state.frame}, action "
                f"{list(action.names)} {action.unit} {action.frame}"
            )
        sigmas = self.sampler.sigmas
        if min(sigmas) < 0 or any(b >= a for a, b in itertools.pairwise(sigmas)):
            found.append(f"sampler.sigmas is {list(sigmas)}, needs decreasing levels, none below 0")
        return found
