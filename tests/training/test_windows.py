"""Windows: what may be learnt, and what stands in at the edges of an episode."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from training.windows import make_windows


@given(
    lengths=st.lists(st.integers(1, 12), min_size=1, max_size=5),
    horizon=st.integers(1, 8),
    data=st.data(),
)
def test_a_window_is_listed_exactly_when_all_its_labels_are_valid(lengths, horizon, data):
    """Against the definition, written out as loops."""
    total = sum(lengths)
    valid = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    windows = make_windows(valid, np.cumsum(lengths), horizon)
    expected, start = [], 0
    for length in lengths:
        for t in range(start, start + length):
            if all(valid[i] for i in range(t, min(t + horizon, start + length))):
                expected.append((t, start, start + length - 1))
        start += length
    assert list(zip(windows.now, windows.first, windows.last, strict=True)) == expected
