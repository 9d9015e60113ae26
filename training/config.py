"""TrainConfig: everything that decides what a run learns. Saved resolved beside the checkpoints.

Sizes of networks come from a preset in `training/networks.py`; any of them may be set here as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
import yaml

from ambient_policy.config import StrictModel, load_yaml, merge
from ambient_policy.episodes import CameraName
from ambient_policy.errors import ConfigError
from ambient_policy.noise import karras_ladder
from training.networks import PRESETS, DenoiserConfig, EncoderConfig

CONFIGS = Path(__file__).parent / "configs"

Positive = Annotated[float, pydantic.Field(gt=0)]
NotNegative = Annotated[float, pydantic.Field(ge=0)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Count = Annotated[int, pydantic.Field(ge=1)]
CountOrNone = Annotated[int, pydantic.Field(ge=0)]


class SourceConfig(StrictModel):
    """One folder of episodes (or a packed cache of one)."""

    path: str = ""
    """Filled in by `--data`, in the order of the sources."""
    weight: Share | None = None
    """Share of every batch; None takes the share this source has of all windows."""


class DataConfig(StrictModel):
    """Where samples come from and in which shares.

    One source is clean-only training. Two are co-training: weights `alpha` and `1 - alpha`, or none for the
    natural mixture.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig(),)
    mixture: Literal["natural", "weights"] = "natural"

    @pydantic.model_validator(mode="after")
    def _check(self) -> DataConfig:
        weights = [source.weight for source in self.sources]
        if not self.sources:
            raise ValueError("needs at least one source")
        if self.mixture == "natural" and any(weight is not None for weight in weights):
            raise ValueError(f"mixture `natural` ignores the weights {weights}; set mixture: weights")
        if self.mixture == "weights":
            if any(weight is None for weight in weights):
                raise ValueError(f"mixture `weights` needs a weight for every source, found {weights}")
            if abs(sum(w for w in weights if w is not None) - 1) > 1e-6:
                raise ValueError(f"the weights {weights} must add up to 1")
        return self


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
    """`object`: denoise in the frame of the object, placed by the pose that the pretext head sees. For tasks
    whose physics does not care where the object lies; needs the pretext."""
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
        if not self.cameras:
            raise ValueError("cameras: needs at least one, such as `overhead: {width: 128, height: 96}`")
        if self.features == "cached" and self.pretrain.steps == 0:
            raise ValueError("features: cached freezes the encoder, so pretrain.steps must be more than 0")
        if self.network.frame == "object" and self.pretrain.steps == 0:
            raise ValueError("network.frame: object needs the pretext, so pretrain.steps must be more than 0")
        if self.features == "cached" and self.aux_pose_weight > 0:
            raise ValueError("features: cached freezes the encoder; set aux_pose_weight to 0")
        if self.diffusion.sigma_min >= self.diffusion.sigma_max:
            raise ValueError("diffusion: sigma_min must be below sigma_max")
        return self


def load_config(config: str, data: tuple[str, ...] = (), settings: tuple[str, ...] = ()) -> TrainConfig:
    """Read a config file, or a shipped one by name, and lay the command line over it.

    Args:
        data: paths for `data.sources`, in order.
        settings: `key.path=value` pairs; values are YAML.
    """
    path = Path(config)
    if not path.is_file() and (CONFIGS / f"{config}.yaml").is_file():
        path = CONFIGS / f"{config}.yaml"
    if not path.is_file():
        shipped = ", ".join(sorted(p.stem for p in CONFIGS.glob("*.yaml")))
        raise ConfigError(f"no training config at {config}; give a YAML file or one of: {shipped}")
    overrides: dict[str, Any] = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {setting!r} is not of the form key.path=value")
        over: Any = yaml.safe_load(value)
        for part in reversed(key.split(".")):
            over = {part: over}
        overrides = merge(overrides, over)
    parsed = load_yaml(path, TrainConfig, overrides)
    return _with_data(parsed, data) if data else parsed


def _with_data(config: TrainConfig, paths: tuple[str, ...]) -> TrainConfig:
    sources = config.data.sources
    if len(sources) == 1 and config.data.mixture == "natural":
        sources = sources * len(paths)  # several folders of one kind
    if len(sources) != len(paths):
        raise ConfigError(
            f"--data names {len(paths)} folder(s) and the config has {len(sources)} sources; "
            "give one folder for each entry of data.sources"
        )
    filled = tuple(s.model_copy(update={"path": p}) for s, p in zip(sources, paths, strict=True))
    return config.model_copy(update={"data": config.data.model_copy(update={"sources": filled})})
