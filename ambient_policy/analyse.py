"""`ambient-policy analyse`: look at clean and corrupt actions the way a denoiser does.

    analyse spectra    which frequencies carry power, and what noise leaves of their difference
    analyse manifold   both data manifolds as the exact denoiser sees them, at small and at large noise

Both write a figure and a JSON file with every number of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from ambient_policy.analyse_manifold import ManifoldArgs, analyse_manifold
from ambient_policy.analyse_spectra import SpectraArgs, analyse_spectra


def main(argv: list[str]) -> int:
    """Run `ambient-policy analyse spectra|manifold`."""
    chosen = Annotated[SpectraArgs, tyro.conf.subcommand("spectra", prefix_name=False)]
    other = Annotated[ManifoldArgs, tyro.conf.subcommand("manifold", prefix_name=False)]
    args: SpectraArgs | ManifoldArgs = tyro.cli(
        chosen | other,  # type: ignore[arg-type]
        args=argv,
        prog="ambient-policy analyse",
        description="Look at clean and corrupt actions the way a denoiser does.",
    )
    console = Console(highlight=False)
    if isinstance(args, SpectraArgs):
        _spectra(args, console)
    else:
        _manifold(args, console)
    return 0


def _spectra(args: SpectraArgs, console: Console) -> None:
    report = analyse_spectra(args, console)
    from ambient_policy.analyse_plots import spectra_figure  # matplotlib takes a second

    picture = _write(args.out / "spectra.png", spectra_figure(report))
    document = _write(args.out / "spectra.json", report.model_dump_json(indent=1).encode())
    (low, high), unit_mm = report.band_hz, 1000 * report.action_unit_m
    console.print(f"1 action unit is {unit_mm:.1f} mm; fit from {low:.3g} to {high:.3g} Hz")
    for source in report.sources:
        error = "" if source.alpha_error is None else f" +- {source.alpha_error:.2f}"
        line = (
            f"{source.role:<8}{source.name}: S ~ f^-{source.alpha:.2f}{error}, "
            f"{source.episodes_used} of {source.episodes} episodes, {source.windows} windows"
        )
        if source.chunks_hidden_above is not None:
            line += (
                f"; noisy chunks are alike within {100 * args.tolerance:g} % above sigma "
                f"{source.chunks_hidden_above:.3g} ({source.chunks_hidden_above * unit_mm:.0f} mm)"
            )
        console.print(line, soft_wrap=True)
    then = "ambient-policy annotate, which finds the levels that a corrupt source may teach"
    if len(report.sources) == 1:
        then = "the same with a corrupt folder after the clean one in --data"
    console.print(f"written: {picture}, {document}\nNext: open the figure; then {then}", soft_wrap=True)


def _manifold(args: ManifoldArgs, console: Console) -> None:
    report, clouds = analyse_manifold(args)
    from ambient_policy.analyse_plots import manifold_figure

    picture = _write(args.out / "manifold.png", manifold_figure(report, clouds))
    document = _write(args.out / "manifold.json", report.model_dump_json(indent=1).encode())
    for sigma, gap in ((report.sigma_small, report.gap_small), (report.sigma_large, report.gap_large)):
        console.print(
            f"sigma {sigma:.3g}: the two denoisers differ by {gap:.3g} ({100 * gap / sigma:.2g} % of sigma)"
        )
    console.print(f"means of the two point sets differ by {report.mean_distance:.3g}")
    console.print(
        f"written: {picture}, {document}\nNext: open the figure; then ambient-policy analyse spectra --data "
        "CLEAN CORRUPT, the same question asked of demonstrations",
        soft_wrap=True,
    )


def _write(file: Path, content: bytes) -> Path:
    """Write beside and rename, so that no reader sees half a file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    partial = file.with_name(f".{file.name}.partial")
    partial.write_bytes(content)
    partial.replace(file)
    return file
