"""`ambient-policy annotate`: find the noise levels that corrupt episodes may teach, window by window."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

if TYPE_CHECKING:
    from ambient_policy.annotation import Annotation


@dataclass(frozen=True)
class Args:
    """Find the noise levels that corrupt episodes may teach."""

    config: tyro.conf.Positional[str]
    """Training config, a YAML file or the name of a shipped one: its horizon, reference and units apply."""
    out: Path
    """Folder to write: annotation.json, bands of every window, pictures."""
    data: tuple[str, ...] = ()
    """Folders of episodes, clean first and then corrupt; or one for each source of the config."""
    preset: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """As for `train`; only the roles of its sources matter here."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Change a setting of the config: --set windows.horizon=8. May be repeated."""
    cache: Path | None = None
    """Where packed episodes are kept; beside each source, as DATA.cache, by default."""
    tau: float = 0.05
    """A level is admitted when the mean probability of "clean" exceeds 0.5 - tau."""
    locality: bool = True
    """Also look for sigma_max, the levels where only short pieces of an action matter. Doubles the time,
    unless the whole chunk matters at every level."""
    tolerance: float = 1e-3
    """An action's receptive field is the crop from which it is guessed this little worse, relatively."""
    observed: bool = False
    """Let the classifier see the observed low-dimensional state as well."""
    folds: int = 5
    """Classifiers, each of which scores the episodes that it was not trained on."""
    steps: int = 2000
    """Most training steps of each classifier; at every level it is used after as many as held-out episodes
    call for."""
    batch: int = 512
    """Samples a step, half of them clean."""
    width: int = 128
    """Width of the classifier's layers."""
    lr: float = 1e-3
    """Learning rate."""
    draws: int = 2
    """Noise draws for every window and level, in pairs of opposite sign."""
    levels: int = 20
    """Noise levels of the grid."""
    sigma_low: float = 0.01
    """Lowest level of the grid, in normalised action units."""
    sigma_high: float = 10.0
    """Highest level of the grid."""
    smooth: float = 0.25
    """Width of the smoothing of probabilities, in ln sigma."""
    crossing: Literal["last", "first"] = "last"
    """Which crossing of the threshold is sigma_min, where a curve has several."""
    calibrate: bool = True
    """Correct what memorising did to the classifier, with held-out windows of both classes."""
    seed: int = 0
    """Of folds, networks and noise."""


def main(argv: list[str]) -> int:
    """Run the command; return its exit code."""
    started = time.monotonic()
    args = tyro.cli(Args, args=argv, prog="ambient-policy annotate", description=(Args.__doc__ or "").strip())
    from ambient_policy.annotation import AnnotationError, write_annotation
    from training.annotate_bands import BandSettings, annotate  # torch takes seconds: not before --help
    from training.annotate_plots import draw
    from training.annotate_scores import ScoreSettings
    from training.annotate_sources import bare_config, read_sources
    from training.classifier import ClassifierSettings
    from training.config import load_config
    from training.progress import console
    from training.run import pick_device

    if args.out.exists():  # found out now, not after minutes of work
        raise AnnotationError(f"{args.out} is there already; give another --out, or remove it")
    config = bare_config(load_config(args.config, (), args.set, args.preset), args.data)
    sources, normalizer = read_sources(config, pick_device(config.device), args.cache, observed=args.observed)
    for source in sources:
        console.print(
            f"{source.origin} ({source.role}): {len(source.frames)} windows of "
            f"{len(set(source.episode.tolist()))} episodes",
            soft_wrap=True,
        )
    annotation, bands, judgements = annotate(
        config,
        sources,
        normalizer.scale.tolist(),
        BandSettings(
            args.tau,
            args.sigma_low,
            args.sigma_high,
            args.levels,
            args.smooth,
            args.crossing,
            args.locality,
            args.tolerance,
        ),
        ScoreSettings(args.folds, args.draws, args.calibrate),
        ClassifierSettings(width=args.width, steps=args.steps, batch=args.batch, lr=args.lr),
        observed=args.observed,
        seed=args.seed,
        advance=_Advance(),
    )
    folder = write_annotation(
        args.out, annotation, bands, lambda partial: draw(partial, annotation, bands, judgements, sources)
    )
    for line in summary(annotation):
        console.print(line, soft_wrap=True)
    console.print(f"annotated in {(time.monotonic() - started) / 60:.1f} min: {folder}", soft_wrap=True)
    console.print(
        f"next: ambient-policy train {args.config} --preset ambient_per_window --data "
        f"{' '.join(source.path for source in config.data.sources)} --annotation {folder} --out RUN",
        soft_wrap=True,
    )
    return 0


def summary(annotation: Annotation) -> list[str]:
    """Say the bands of every corrupt source, in normalised units and in millimetres."""
    from ambient_policy.annotation import in_millimetres

    lines = []
    for source in annotation.sources:
        if source.role == "clean":
            continue

        def level(sigma: float) -> str:
            said = in_millimetres(sigma, annotation.action_scale)
            return said if said == "inf" else f"{sigma:.3g} ({said})"

        lines.append(
            f"{source.origin}: sigma_min {level(source.sigma_min)}, sigma_max {level(source.sigma_max)} "
            f"as a whole; of its {source.windows} windows {100 * source.share_all:.1f} % teach every level "
            f"(sigma_min 0) and {100 * source.share_none:.1f} % no high one (sigma_min inf)"
        )
    return lines


class _Advance:
    """Shows one bar a stage on a terminal, and a line now and then elsewhere."""

    def __init__(self) -> None:
        from training.progress import console

        self._console, self._what, self._last = console, "", time.monotonic()

    def __call__(self, what: str, done: int, total: int) -> None:
        if done >= total or time.monotonic() - self._last > 20:
            self._last = time.monotonic()
            self._console.print(f"{what} {done}/{total}", soft_wrap=True)


if __name__ == "__main__":
    from ambient_policy.errors import AmbientPolicyError

    try:
        sys.exit(main(sys.argv[1:]))
    except AmbientPolicyError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
