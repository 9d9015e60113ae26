"""Which source tree is running, written into every file that a stage makes."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

_SOURCE_ROOT = Path(__file__).resolve().parent.parent


def commit() -> str:
    """Name the commit of this source tree, `-dirty` appended when it has uncommitted changes.

    The environment variable AMBIENT_POLICY_COMMIT wins (containers built without `.git`). Outside git, and
    when installed into some other project's environment, the answer is "unknown".
    """
    return os.environ.get("AMBIENT_POLICY_COMMIT") or _describe(_SOURCE_ROOT)


@functools.cache
def _describe(root: Path) -> str:
    def git(*args: str) -> str:
        return subprocess.run(
            ["git", "-C", str(root), *args], capture_output=True, text=True, check=True, timeout=10
        ).stdout.strip()

    try:
        # site-packages of a venv kept inside someone's repository would otherwise report that repository.
        if Path(git("rev-parse", "--show-toplevel")).resolve() != root:
            return "unknown"
        return git("describe", "--always", "--dirty") or "unknown"
    except (OSError, subprocess.SubprocessError):
        return "unknown"
