"""The sampler of a run: the noise level first, then a source, then one of its windows.

A source is drawn by its weight times the part of its windows that may teach the level.

Drawing a window first and then a level it admits would starve low noise: with 50 clean and 2000 corrupt
demonstrations and half of the levels clean-only, about 1 % of the draws would fall there instead of half
(Ambient Diffusion Policy 2026, algorithm 1; Ambient Diffusion Omni 2025 draws in this order, too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Shares:
    """How often each of S sources is drawn among those admissible at a level.

    Attributes:
        log_sigma: (P,) rising; table: (P, S) weights there, float64, interpolated in ln sigma and constant
            beyond the ends. None: every admissible window alike.
    """

    log_sigma: Tensor | None = None
    table: Tensor | None = None

    def at(self, sigma: Tensor) -> Tensor:
        """Give the weights (B, S) at levels (B,)."""
        assert self.log_sigma is not None
        assert self.table is not None
        if len(self.table) == 1:
            return self.table.expand(len(sigma), -1)
        x = sigma.double().log().clamp(self.log_sigma[0], self.log_sigma[-1])
        right = torch.searchsorted(self.log_sigma, x).clamp(1, len(self.log_sigma) - 1)
        left = right - 1
        along = (x - self.log_sigma[left]) / (self.log_sigma[right] - self.log_sigma[left])
        return torch.lerp(self.table[left], self.table[right], along[:, None])


class NoiseFirstSampler:
    """Draws windows that are admissible at given noise levels.

    Args:
        counts: windows of each source, which lie one source after the other in the table.
        sigma_min, sigma_max: (W,) float32; a window teaches [0, sigma_max] and (sigma_min, inf).
        shares: how often each source is drawn.
    """

    def __init__(self, counts: Sequence[int], sigma_min: Tensor, sigma_max: Tensor, shares: Shares) -> None:
        self.shares = shares
        self._counts = torch.tensor(counts, dtype=torch.float64, device=sigma_min.device).clamp(min=1)
        self._starts: list[tuple[Tensor, Tensor]] = []
        sorted_rows: list[Tensor] = []
        first = 0
        for count in counts:
            rows = torch.arange(first, first + count, device=sigma_min.device)
            above, upper = _ordered(sigma_min[rows], rows, torch.isfinite(sigma_min[rows]))
            below, lower = _ordered(-sigma_max[rows], rows, sigma_max[rows] > 0)
            self._starts.append((above, below))
            sorted_rows += [upper, lower]
            first += count
        # Of every source all that its upper bands admit anywhere, then all that its lower bands do.
        self._rows = torch.cat([*sorted_rows, sorted_rows[0].new_zeros(1)])
        sizes = torch.tensor([[len(above), len(below)] for above, below in self._starts])
        before = sizes.flatten().cumsum(0).view(-1, 2) - sizes
        self._first_upper, self._first_lower = before.to(sigma_min.device).unbind(1)
        self._any_lower = bool(sizes[:, 1].any())

    def admissible(self, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """Count the windows of each source that teach all levels from low (B,) to high (B,).

        Returns: (B, S) windows by their upper and by their lower band. A window counts once: its lower
            band ends where the upper one begins, or before.
        """
        upper = [torch.searchsorted(above, low, right=False) for above, _ in self._starts]
        counts = torch.stack(upper, dim=1)
        if not self._any_lower:
            return counts, torch.zeros_like(counts)
        lower = [torch.searchsorted(below, -high, right=True) for _, below in self._starts]
        return counts, torch.stack(lower, dim=1)

    def draw(self, low: Tensor, high: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw one window for each pair of levels low <= high (B,), which differ when draws share a window.

        Returns: (B,) windows, and (B,) whether the window was admitted by its upper band.
        """
        u = torch.rand(2, len(low), dtype=torch.float64, generator=rng, device=low.device)
        upper, lower = self.admissible(low, high)
        total = (upper + lower).double()
        shares = total
        if self.shares.table is not None:
            # Thinned by the part of a source that is admissible here: a few of its windows must not be drawn
            # as often as all of them would be. For one band a source the part is 0 or 1.
            shares = self.shares.at((low * high).sqrt()) * (total / self._counts)
            # A weight of 0 gives way where nobody else may teach.
            shares = torch.where(shares.sum(1, keepdim=True) > 0, shares, total)
        edges = (shares / shares.sum(1, keepdim=True)).cumsum(1)[:, :-1].contiguous()
        source = (u[0][:, None] >= edges).sum(1)
        pick = source[:, None]
        count, first = total.gather(1, pick).squeeze(1), upper.gather(1, pick).squeeze(1)
        # The product can round up to the count itself.
        within = torch.minimum(torch.floor(u[1] * count), count - 1).long()
        by_upper = within < first
        at = torch.where(
            by_upper, self._first_upper[source] + within, self._first_lower[source] + within - first
        )
        return self._rows[at], by_upper


def _ordered(values: Tensor, rows: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the kept rows by their value. Stable: one level for all leaves draws as they are without bands."""
    ordered, order = torch.sort(values[keep], stable=True)
    return ordered.contiguous(), rows[keep][order]
