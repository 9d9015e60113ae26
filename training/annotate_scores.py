"""Probabilities of "clean" for every window and noise level, from classifiers that never saw its episode.

Fifty clean demonstrations are soon memorised; a classifier asked about its own training data then finds every
other motion corrupt at low noise. So the episodes are dealt into folds, and each window is scored by the
classifier that was trained without its fold.

Memorising also biases what a classifier says of new windows: both classes look corrupt, as neither is among
the clean windows it knows. The Bayes classifier has E_p[c] + E_q[c] = 1 at every level. Held-out windows of
both classes are therefore used to correct each level's logits to a logit + b, fitted by balanced logistic
regression (Platt 1999). Classes that cannot be told apart get a = 0, b = 0: probability 0.5, whatever was
memorised. The same windows decide, level by level, after which part of its training a classifier is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from training.classifier import ChunkClassifier, ClassifierSettings, Samples, draw_mask, train_classifier
from training.errors import TrainingError

CALIBRATION_WINDOWS = 4000
"""Held-out windows a class that two numbers a level are fitted to."""


@dataclass(frozen=True)
class Pool:
    """All windows of one class, and the number of the episode that each is from (W,)."""

    samples: Samples
    episode: np.ndarray


@dataclass(frozen=True)
class ScoreSettings:
    """How windows are scored.

    `draws` noise draws a level come in pairs z, -z: near the threshold the probability is almost linear in
    the noise, which then cancels.
    """

    folds: int = 5
    draws: int = 2
    calibrate: bool = True


@dataclass(frozen=True)
class Scores:
    """Held-out E_z[c(x0 + sigma z, sigma)].

    Attributes:
        clean, corrupt: (W, G) float32 for the windows of each class.
        accuracy: (G,) balanced, on single draws; calibration: (2, G) slope and offset of the logits.
        steps: (G,) training steps of the snapshot that was used at each level.
    """

    clean: np.ndarray
    corrupt: np.ndarray
    accuracy: np.ndarray
    calibration: np.ndarray
    steps: np.ndarray


def deal_folds(episode: np.ndarray, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Deal episodes into folds of equal size, at random: (W,) fold of each window."""
    names, index = np.unique(episode, return_inverse=True)
    if len(names) < folds:
        raise TrainingError(
            f"{len(names)} episode(s) with usable windows for {folds} folds; each fold needs one: collect "
            "more episodes or lower --folds"
        )
    return (rng.permutation(len(names)) % folds)[index]


def cross_fit(
    clean: Pool,
    corrupt: Pool,
    sigmas: np.ndarray,
    classifier: ClassifierSettings,
    settings: ScoreSettings,
    seed: int,
    lengths: np.ndarray | None = None,
    advance: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> Scores:
    """Train one classifier a fold and score every window by the one that did not see its episode.

    Args:
        sigmas: (G,) increasing noise levels. lengths: (G,) length of the crops shown, None for whole chunks.
        settings: with one fold the classifier is asked about its own training data, which shows what
            memorising does and is good for nothing else.
        advance: told what is being done, how far it is and out of how much.
    """
    if settings.draws < 2 or settings.draws % 2:
        raise TrainingError(f"draws is {settings.draws}, needs an even number: noise is drawn in pairs z, -z")
    if settings.folds < 1:
        raise TrainingError(
            f"folds is {settings.folds}, needs 1 or more (2 or more to score unseen episodes)"
        )
    device = clean.samples.chunk.device
    dealer, rng = np.random.default_rng([seed, 3]), torch.Generator(device).manual_seed(seed)
    pools = (clean, corrupt)
    folds = [torch.as_tensor(deal_folds(p.episode, settings.folds, dealer), device=device) for p in pools]
    grid = torch.as_tensor(sigmas, dtype=torch.float32, device=device)
    crop = None if lengths is None else torch.as_tensor(lengths, device=device)
    nets = []
    for fold in range(settings.folds):
        alone = settings.folds == 1
        parts = [
            p.samples if alone else p.samples.select(f != fold) for p, f in zip(pools, folds, strict=True)
        ]

        def step(done: int, fold: int = fold) -> None:
            advance(f"classifier {fold + 1} of {settings.folds}", done, classifier.steps)

        nets.append(train_classifier(parts[0], parts[1], grid, classifier, rng, crop, step))
    scorer = _Scorer(nets, grid, crop, settings.draws, rng)
    calibration = np.stack([np.ones(len(grid)), np.zeros(len(grid))])
    if settings.calibrate:
        picks = [
            torch.as_tensor(dealer.permutation(len(p.episode))[:CALIBRATION_WINDOWS], device=device)
            for p in pools
        ]
        held_out = [(p.samples.select(k), f[k]) for p, f, k in zip(pools, folds, picks, strict=True)]
        calibration = scorer.choose(held_out, lambda done, of: advance("calibration", done, of))
    total, done, means, right = sum(len(p.episode) for p in pools), 0, [], []
    for pool, dealt, is_clean in zip(pools, folds, (True, False), strict=True):
        mean = np.empty((len(pool.episode), len(grid)), np.float32)
        hits = np.zeros(len(grid))
        for start in range(0, len(mean), scorer.chunk):
            stop = start + scorer.chunk
            some_windows = Samples(pool.samples.chunk[start:stop], pool.samples.state[start:stop])
            logits = scorer.logits(some_windows, dealt[start:stop]) * calibration[0] + calibration[1]
            mean[start:stop] = (0.5 + 0.5 * np.tanh(0.5 * logits)).mean(axis=0)
            hits += ((logits > 0) == is_clean).mean(axis=0).sum(axis=0)
            done += len(some_windows)
            advance("scoring", done, total)
        means.append(mean)
        right.append(hits / len(mean))
    steps = np.round(np.array(classifier.snapshots) * classifier.steps).astype(int)[scorer.choice]
    return Scores(means[0], means[1], (right[0] + right[1]) / 2, calibration, steps)


class _Scorer:
    """Logits of held-out windows, (draws, W, G), from `nets[fold][snapshot]`."""

    def __init__(
        self,
        nets: list[list[ChunkClassifier]],
        grid: Tensor,
        crop: Tensor | None,
        draws: int,
        rng: torch.Generator,
    ) -> None:
        self.nets, self.grid, self.crop, self.draws, self.rng = nets, grid, crop, draws, rng
        # Activations of 1024 chunks stay in a core's cache.
        self.chunk = 1024 if grid.device.type == "cpu" else 16384
        self.choice = np.full(len(grid), len(nets[0]) - 1)

    def choose(
        self, held_out: list[tuple[Samples, Tensor]], advance: Callable[[int, int], None]
    ) -> np.ndarray:
        """Use the snapshot of least loss at every level from now on, and give its calibration (2, G)."""
        fits, losses, count = [], [], len(self.nets[0])
        for snapshot in range(count):
            self.choice[:] = snapshot
            clean, corrupt = (self.logits(*part) for part in held_out)
            fits.append(fit_calibration(clean, corrupt))
            slope, offset = fits[-1]
            parts = [
                np.logaddexp(0, sign * (slope * g + offset)).mean(axis=(0, 1))
                for sign, g in ((-1, clean), (1, corrupt))
            ]
            losses.append(parts[0] + parts[1])
            advance(snapshot + 1, count)
        self.choice = np.argmin(losses, axis=0)
        return np.stack(fits)[self.choice, :, np.arange(len(self.grid))].T

    @torch.no_grad()
    def logits(self, samples: Samples, fold: Tensor) -> np.ndarray:
        out = np.empty((self.draws, len(samples), len(self.grid)), np.float32)
        for number, nets in enumerate(self.nets):
            index = torch.nonzero(fold == number)[:, 0]
            for piece in index.split(self.chunk):
                rows = piece.cpu().numpy()
                out[:, rows] = self._of(nets, samples.select(piece)).cpu().numpy()
        return out

    def _of(self, nets: list[ChunkClassifier], samples: Samples) -> Tensor:
        chunk, state = samples.chunk[None], samples.state[None]
        per_level = []
        for level in range(len(self.grid)):
            sigma, net, draws = self.grid[level : level + 1], nets[self.choice[level]], []
            for _ in range(self.draws // 2):
                noise = sigma * torch.randn(chunk.shape, generator=self.rng, device=chunk.device)
                for x in (chunk + noise, chunk - noise):
                    mask = None
                    if self.crop is not None:
                        length = self.crop[level : level + 1]
                        mask = draw_mask(length, len(samples), net.horizon, self.rng)
                    draws.append(net(x, sigma, state, mask)[0])
            per_level.append(torch.stack(draws))
        return torch.stack(per_level, dim=-1)


def fit_calibration(clean: np.ndarray, corrupt: np.ndarray, ridge: float = 1e-3) -> np.ndarray:
    """Fit the slope and offset of held-out logits at every level by balanced logistic regression.

    Args:
        clean, corrupt: (draws, W, G) logits of windows of each class.
        ridge: pull towards slope 1 and offset 0, which decides only where the classes are separable.
    Returns:
        (2, G) slope, at least 0, and offset. Then sigmoid(slope logit + offset), averaged over each class and
        added, is 1, as for the Bayes classifier.
    Source: Platt 1999, with equal weights of both classes.
    """
    groups = [np.asarray(g, np.float64).reshape(-1, g.shape[-1]) for g in (clean, corrupt)]
    slope, offset = np.ones(clean.shape[-1]), np.zeros(clean.shape[-1])

    def solve(free_slope: np.ndarray, slope: np.ndarray, offset: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        for _ in range(40):
            g = np.stack([ridge * (slope - 1), ridge * offset])
            h = np.stack([np.full_like(slope, ridge), np.zeros_like(slope), np.full_like(slope, ridge)])
            for logit, label in zip(groups, (1.0, 0.0), strict=True):
                p = 0.5 + 0.5 * np.tanh(0.5 * (slope * logit + offset))
                error, weight = (p - label) / 2, p * (1 - p) / 2
                g += np.stack([(error * logit).mean(0), error.mean(0)])
                h += np.stack([(weight * logit**2).mean(0), (weight * logit).mean(0), weight.mean(0)])
            g[0] *= free_slope
            h[1] *= free_slope
            determinant = h[0] * h[2] - h[1] ** 2
            step = np.stack([h[2] * g[0] - h[1] * g[1], h[0] * g[1] - h[1] * g[0]]) / determinant
            # Newton's step is too long where the fit is still far off; both numbers are of order one.
            step = np.clip(step, -0.5, 0.5)
            slope, offset = slope - free_slope * step[0], offset - step[1]
        return slope, offset

    slope, offset = solve(np.ones_like(slope), slope, offset)
    if (wrong := slope < 0).any():  # worse than chance on unseen episodes: it has learnt nothing there
        slope = np.where(wrong, 0.0, slope)
        slope, offset = solve((~wrong).astype(float), slope, np.where(wrong, 0.0, offset))
    return np.stack([slope, offset])
