"""Which seeds a run is to do, so that several machines share one dataset without meeting."""

from __future__ import annotations

import re

from ambient_policy.errors import ConfigError


def wanted_seeds(first: int, count: int, shard: str | None = None) -> list[int]:
    """List the seeds first, first + 1, ...; with `shard` "k/n" only those that leave k - 1 when divided by n.

    The shards 1/n to n/n are disjoint and together complete, and a shard stays the same shard when `count`
    grows.

    Raises:
        ConfigError: there are no such seeds, or no such shard.
    """
    if first < 0 or count < 1:
        raise ConfigError(f"--first-seed {first} must be 0 or more, --episodes {count} must be 1 or more")
    seeds = range(first, first + count)
    if shard is None:
        return list(seeds)
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None or not 1 <= int(match[1]) <= int(match[2]):
        raise ConfigError(f"--shard is {shard!r}, needs K/N with K from 1 to N, such as 2/5")
    part, parts = int(match[1]), int(match[2])
    mine = [seed for seed in seeds if seed % parts == part - 1]
    if not mine:
        raise ConfigError(f"shard {shard} of {count} seeds is empty; use fewer shards or more episodes")
    return mine
