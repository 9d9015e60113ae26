"""TrainConfig: everything that decides what a run learns. Saved resolved beside the checkpoints.

Sizes of networks come from a preset in `training/networks.py`; any of them may be set here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic

from ambient_policy.config import StrictModel, merge, nearest, parse, read_yaml
from ambient_policy.episodes import CameraName
from ambient_policy.errors import ConfigError
from ambient_policy.noise import karras_ladder
from training.networks import PRESETS, DenoiserConfig, EncoderConfig
from training.settings import with_data, with_settings
from training.sources import DataConfig

CONFIGS = Path(__file__).parent / "configs"
METHODS = Path(__file__).parent / "presets"

Positive = Annotated[float, pydantic.Field(gt=0)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.Field(ge=1)]
CountOrNone = Annotated[int, pydantic.Field(ge=0)]


class WindowsConfig(StrictModel):
    """How much of an episode a sample sees and predicts."""

    obs_steps: Count = 2
    """T: observed steps, the present one last."""
    horizon: Count = 16
    """H: predicted actions."""
    execute_steps: Count = 8
    """Actions carried out before the next chunk takes over (runtime and validation only)."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> WindowsConfig:
        if self.execute_steps > self.horizon:
            raise ValueError(f"execute_steps {self.execute_steps} is more than the horizon {self.horizon}")
        return self


class CameraConfig(StrictModel):
    """Size of one camera's image at the network's input [px]."""

    width: Count
    height: Count


class ActionConfig(StrictModel):
    """What a predicted action is measured from."""

    relative_to: Literal["tool", "world"] = "tool"
    """`tool`: offset from the tool's measured position at the observation. Learns faster than `world`."""
    unit_m: Positive | None = None
    """Length of one normalised unit, the same in all directions, with 0 at 0. None: fitted to the clean
    sources, so that their actions have a root mean square of 0.5 (tool) or a range of -1 to 1 (world)."""


class AugmentConfig(StrictModel):
    """Random changes of the look of training images; every sample draws its own, shared by its T frames."""

    shift_px: CountOrNone = 0
    """Largest shift by replicate padding. A shift moves the object against the tool state: a few millimetres
    a pixel, which is label noise for a camera that is fixed in the world."""
    brightness: NotNegative = 0.0
    """Standard deviation of an offset, in units of the full range."""
    contrast: NotNegative = 0.0
    """Standard deviation of the logarithm of a gain about mid grey."""
    colour: NotNegative = 0.0
    """Standard deviation of the logarithm of a gain per colour channel."""
    noise: NotNegative = 0.0
    """Standard deviation of noise per pixel, in units of the full range."""


class NetworkConfig(StrictModel):
    """Encoder (one per camera) and denoiser."""

    preset: Literal["small", "dit", "resnet18-unet"] = "small"
    frame: Literal["world", "object"] = "world"
    """`object`: denoise in the frame of the object, placed by the pose that the pretext head sees, or that
    `object_pose` tells. For tasks whose physics does not care where the object lies."""
    prediction: Literal["x0", "eps"] = "x0"
    """What the raw output is scaled to: Karras' mixture around x0, or the noise (DDPM's parametrisation)."""
    encoder: EncoderConfig = EncoderConfig()
    denoiser: DenoiserConfig = DenoiserConfig()

    @pydantic.model_validator(mode="before")
    @classmethod
    def _fill(cls, data: Any) -> Any:
        """Lay what is written over what the preset says, so the saved config shows every size."""
        if not isinstance(data, Mapping):
            return data
        preset = PRESETS.get(str(data.get("preset", "small")))
        return data if preset is None else merge(preset, data)


class DiffusionConfig(StrictModel):
    """Noise levels met in training: ln sigma ~ N(mean, std), clamped."""

    log_sigma_mean: float = -1.2
    log_sigma_std: Positive = 1.4
    sigma_min: Positive = 0.002
    sigma_max: Positive = 80.0
    noise_per_obs: Count = 1
    """Draws of (sigma, noise) for each encoded observation; encoding is the dear part of a step."""


class OptimConfig(StrictModel):
    """AdamW with warm-up and a cosine to zero."""

    steps: Count = 20_000
    batch: Count = 256
    """Observations a step; the denoiser sees `batch * noise_per_obs` chunks."""
    lr: Positive = 5e-4
    betas: tuple[Share, Share] = (0.9, 0.999)
    weight_decay: NotNegative = 1e-3
    warmup: CountOrNone = 500
    clip: Positive = 1.0
    """Largest norm of the gradient."""
    ema_power: Positive = 0.75
    ema_max: Share = 0.9995


class PretrainConfig(StrictModel):
    """Pretext: the encoder first learns to say where the object is, through a head that is thrown away."""

    steps: CountOrNone = 0
    batch: Count = 128
    lr: Positive = 1e-3
    weight_decay: NotNegative = 1e-3
    warmup: CountOrNone = 100
    head: Literal["linear", "mlp"] = "linear"
    near_goal_share: Share = 0.4
    """Share of a batch drawn from frames near the goal, where a millimetre decides."""
    near_goal_m: Positive = 0.05
    near_goal_deg: Positive = 15.0


class FinetuneConfig(StrictModel):
    """A last phase on the clean sources alone, from the averaged weights of the one before."""

    steps: CountOrNone = 0
    lr: Positive = 1e-4
    weight_decay: NotNegative = 1e-3
    warmup: CountOrNone = 100


class ValidationConfig(StrictModel):
    """Episodes never trained on."""

    fraction: Annotated[float, pydantic.Field(gt=0, lt=1)] = 0.05
    every: Count = 1000
    windows: Count = 512
    """Windows examined each time, the same ones."""


class SamplerConfig(StrictModel):
    """How a chunk is drawn, in validation and in the exported sampler."""

    method: Literal["ddim", "heun", "dpmpp_2m"] = "dpmpp_2m"
    steps: Count = 8
    """K: levels above zero."""
    sigma_max: Positive = 2.5
    """Five times the data's spread already drowns it; starting higher spends steps where nothing is
    decided."""
    sigma_min: Positive = 0.02
    rho: Positive = 3.0

    def ladder(self) -> np.ndarray:
        """Give the K + 1 noise levels, ending at 0."""
        return karras_ladder(self.steps, self.sigma_min, self.sigma_max, self.rho)


class TrainConfig(StrictModel):
    """One training run."""

    name: str
    seed: int = 0
    cameras: dict[CameraName, CameraConfig]
    """Empty: a policy from numbers alone."""
    state: dict[str, Count] = pydantic.Field(default_factory=dict)
    """Further arrays of an episode that the policy is told at every step, and their sizes: {goal: 2}."""
    object_pose: str | None = None
    """Array of an episode with x, y [m] and yaw [rad] of the object, for a policy that is told where it is;
    it places the frame of `network.frame: object`, too. For benchmarks: a robot has no such array."""
    data: DataConfig = DataConfig()
    windows: WindowsConfig = WindowsConfig()
    action: ActionConfig = ActionConfig()
    augment: AugmentConfig = AugmentConfig()
    network: NetworkConfig = NetworkConfig()
    diffusion: DiffusionConfig = DiffusionConfig()
    sampler: SamplerConfig = SamplerConfig()
    pretrain: PretrainConfig = PretrainConfig()
    aux_pose_weight: NotNegative = 0.0
    """Weight of the pretext loss during policy training; 0 drops the head after the pretext."""
    features: Literal["live", "cached"] = "live"
    """`cached` freezes the encoder after the pretext and trains the denoiser on stored features: ten times
    the steps per second on a CPU."""
    feature_draws: Count = 4
    """Augmented copies of every frame in the feature cache."""
    optim: OptimConfig = OptimConfig()
    finetune: FinetuneConfig = FinetuneConfig()
    precision: Literal["fp32", "bf16"] = "fp32"
    """Of the networks; losses, noise arithmetic, optimiser and EMA always stay fp32."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    compile: bool = False
    """Run torch.compile on the step. Pays on a GPU after some thousand steps, never on a CPU."""
    validation: ValidationConfig = ValidationConfig()
    log_every: Count = 100
    checkpoint_every: Count = 2000
    checkpoints_kept: Count = 2

    @pydantic.model_validator(mode="after")
    def _check(self) -> TrainConfig:
        if not self.cameras and (self.pretrain.steps or self.features == "cached"):
            raise ValueError(
                "pretext and stored features need a camera, such as `overhead: {width: 96, height: 72}`"
            )
        if self.features == "cached" and self.pretrain.steps == 0:
            raise ValueError("features: cached freezes the encoder, so pretrain.steps must be more than 0")
        if self.network.frame == "object" and self.pretrain.steps == 0 and self.object_pose is None:
            raise ValueError(
                "network.frame: object needs to know where the object is: set pretrain.steps above 0 to see "
                "it, or object_pose to be told"
            )
        if self.features == "cached" and self.aux_pose_weight > 0:
            raise ValueError("features: cached freezes the encoder; set aux_pose_weight to 0")
        if self.diffusion.sigma_min >= self.diffusion.sigma_max:
            raise ValueError("diffusion: sigma_min must be below sigma_max")
        if self.finetune.steps and not any(source.role == "clean" for source in self.data.used):
            raise ValueError("finetune needs a source with role: clean; set finetune.steps: 0 or name one")
        return self


def load_config(
    config: str,
    data: tuple[str, ...] = (),
    settings: tuple[str, ...] = (),
    presets: tuple[str, ...] = (),
    annotation: str | None = None,
) -> TrainConfig:
    """Read a config file, or a shipped one by name, and lay presets and the command line over it.

    Args:
        data: paths for `data.sources`, in order.
        settings: `key.path=value` pairs; values are YAML, and a number in the path counts list entries.
        presets: methods laid over the task's config, in order: files, or names of shipped ones.
        annotation: folder for `data.annotation`.
    """
    path = _find(config, CONFIGS, "training config")
    values = read_yaml(path)
    for preset in presets:
        values = merge(values, read_yaml(_find(preset, METHODS, "preset")))
    values = with_settings(values, settings)
    if annotation is not None:
        values = merge(values, {"data": {"annotation": annotation}})
    parsed = parse(values, TrainConfig, " + ".join([str(path), *presets, *settings]))
    return with_data(parsed, data) if data else parsed


def _find(name: str, shipped: Path, what: str) -> Path:
    path = Path(name)
    if path.is_file():
        return path
    if (shipped / f"{name}.yaml").is_file():
        return shipped / f"{name}.yaml"
    known = [p.stem for p in shipped.glob("*.yaml")]
    raise ConfigError(f"no {what} at {name}; give a YAML file or a shipped one: {nearest(name, known)}")
