"""What each source of data may teach, how often it is drawn, and towards which target: the method of a run.

Three choices, made apart, give every method of the family (docs/methods.md lists them):

    admission   sources.N.admit    the noise levels [0, sigma_max] and (sigma_min, inf) a source teaches
    mixture     mixture, weight    how often each source is drawn among those admissible at a level
    target      sources.N.target   plain denoising, or the ambient loss for samples clean above sigma_n
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import pydantic

from ambient_policy.config import StrictModel

Level = Annotated[float, pydantic.Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]
Role = Literal["clean", "corrupt"]


class AdmitConfig(StrictModel):
    """Noise levels that a source teaches: [0, sigma_max] and (sigma_min, inf), in normalised action units.

    `dataset` and `window` take the level from the annotation table, one for the whole source or one for each
    window.
    """

    sigma_min: Level | Literal["none", "dataset", "window"] = 0.0
    """Start of the upper band, where noise hides what is wrong with the source. 0: everything. none: no
    upper band."""
    sigma_max: Level | Literal["none", "dataset", "window"] = "none"
    """End of the lower band, where only short pieces of an action matter. none: no lower band."""

    @pydantic.model_validator(mode="after")
    def _check(self) -> AdmitConfig:
        low, high = self.sigma_max, self.sigma_min
        if isinstance(low, float) and isinstance(high, float) and low > high > 0:
            raise ValueError(
                f"the band is upside down: sigma_max {low} is above sigma_min {high}; the lower band [0, "
                "sigma_max] must end before the upper band (sigma_min, inf) begins (sigma_min: 0 admits all)"
            )
        if low in ("none", 0.0) and high == "none":
            raise ValueError("teaches nothing at any noise level; open a band, or write `admit: none`")
        return self

    @property
    def annotated(self) -> bool:
        """Say whether a level comes from the annotation table."""
        return bool({self.sigma_min, self.sigma_max} & {"dataset", "window"})


class TargetConfig(StrictModel):
    """What the denoiser is asked for when it is shown a sample of this source above its sigma_n."""

    kind: Literal["denoise", "ambient", "rescaled_ambient"] = "denoise"
    """denoise: the source's own actions. ambient: the clean actions behind them, given that they are clean
    ones plus noise of level sigma_n. rescaled_ambient: the same, weighted like denoising, with a buffer."""
    sigma_n: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)] | Literal["sigma_min"] = "sigma_min"
    """Noise level of the samples; `sigma_min` takes that of the admission, window by window."""
    contraction: bool = True
    """Add that noise, drawn once for every window and kept. False: the actions carry it already."""
    bound: Annotated[float, pydantic.Field(gt=1, allow_inf_nan=False)] = 4.0
    """rescaled_ambient: bound on 1 / alpha; levels below sigma_n / sqrt(1 - 1 / bound) are left out."""


class SourceConfig(StrictModel):
    """One folder of episodes (or a packed cache of one)."""

    path: str = ""
    """Filled in by `--data`, in the order of the sources."""
    role: Role = "clean"
    """Normalisation and validation use the clean sources only, or all where none is clean."""
    weight: Share | None = None
    """Share among the sources admissible at a level, with mixture: weights. One source may leave it out and
    gets the rest."""
    admit: AdmitConfig | Literal["none"] = AdmitConfig()
    """none: listed and not used, for an arm that goes without."""
    target: TargetConfig = TargetConfig()

    @pydantic.field_validator("admit", mode="before")
    @classmethod
    def _plain(cls, value: Any) -> Any:
        if value == "none" or isinstance(value, AdmitConfig):
            return value
        if not isinstance(value, dict):
            raise ValueError("needs `none`, or `sigma_min:` and `sigma_max:`")
        return AdmitConfig.model_validate(value)  # its own messages, without those of the other choice

    @property
    def used(self) -> bool:
        """Say whether training draws from this source at all."""
        return self.admit != "none"


class WeightsAt(StrictModel):
    """Weights of all sources at one noise level."""

    sigma: Annotated[float, pydantic.Field(gt=0, allow_inf_nan=False)]
    weights: tuple[Share, ...]


class DataConfig(StrictModel):
    """Where samples come from.

    Every draw takes a noise level first, then a source among those admissible at it, then one of that
    source's admissible windows.
    """

    sources: tuple[SourceConfig, ...] = (SourceConfig(),)
    mixture: Literal["natural", "weights", "by_sigma", "annotated"] = "natural"
    """natural: every admissible window alike. weights: a constant share a source, thinned at levels that only
    a part of its windows may teach. by_sigma: shares that
    follow the noise level. annotated: the same, from how well a classifier tells the sources apart."""
    weights_by_sigma: tuple[WeightsAt, ...] = ()
    """by_sigma: shares at rising levels, interpolated in ln sigma and constant beyond the ends."""
    domain_flag: bool = False
    """Tell the network which source a sample is from (one-hot); a policy runs with the first clean one's."""
    annotation: str | None = None
    """Folder written by `ambient-policy annotate`; filled in by `--annotation`."""

    @property
    def used(self) -> tuple[SourceConfig, ...]:
        """List the sources that training draws from."""
        return tuple(source for source in self.sources if source.used)

    @property
    def kept(self) -> tuple[int, ...]:
        """List the sources whose episodes a run opens: those it learns from, and all clean ones."""
        return tuple(i for i, s in enumerate(self.sources) if s.used or s.role == "clean")

    @property
    def needs_annotation(self) -> bool:
        """Say whether any level or share comes from the annotation table."""
        bands = any(s.admit != "none" and s.admit.annotated for s in self.sources)
        return bands or self.mixture == "annotated"

    @property
    def restricted(self) -> bool:
        """Say whether a draw of windows depends on the noise level."""
        return self.mixture in ("by_sigma", "annotated") or any(
            source.admit != AdmitConfig() or source.target.kind != "denoise" for source in self.used
        )

    @pydantic.model_validator(mode="after")
    def _check(self) -> DataConfig:
        weights = [source.weight for source in self.sources]
        if not self.used:
            raise ValueError("needs at least one source that is used")
        if self.mixture != "weights" and any(weight is not None for weight in weights):
            raise ValueError(f"mixture `{self.mixture}` ignores the weights {weights}; set mixture: weights")
        if self.mixture == "weights":
            given = [weight for weight in weights if weight is not None]
            if len(weights) - len(given) > 1:
                raise ValueError(f"mixture `weights` needs a weight for all sources but one, found {weights}")
            if sum(given) > 1 + 1e-6 or (len(given) == len(weights) and abs(sum(given) - 1) > 1e-6):
                raise ValueError(f"the weights {weights} must add up to 1")
        if (self.mixture == "by_sigma") != bool(self.weights_by_sigma):
            raise ValueError("`weights_by_sigma` and mixture: by_sigma go together; one is missing")
        sigmas = [point.sigma for point in self.weights_by_sigma]
        if sigmas != sorted(set(sigmas)):
            raise ValueError(f"weights_by_sigma has sigmas {sigmas}; they must rise")
        for point in self.weights_by_sigma:
            if len(point.weights) != len(self.sources) or abs(sum(point.weights) - 1) > 1e-6:
                raise ValueError(
                    f"weights_by_sigma at {point.sigma} is {list(point.weights)}: needs one weight for each "
                    f"of the {len(self.sources)} sources, adding up to 1"
                )
        return self

    def constant_weights(self) -> tuple[float, ...]:
        """Give the weight of every source of mixture `weights`, the one left out filled in."""
        rest = 1 - sum(source.weight for source in self.sources if source.weight is not None)
        return tuple(rest if source.weight is None else source.weight for source in self.sources)
