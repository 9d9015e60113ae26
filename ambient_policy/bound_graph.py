"""Call a graph through buffers that stay in one place, as the replay of CUDA graphs needs.

Launching the thousand kernels of an unrolled sampler one by one costs more than they compute. A CUDA graph
launches them all at once, but reads and writes the addresses it was recorded with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np


class BoundGraph:
    """A graph of one output, at fixed shapes.

    Args:
        ort: the onnxruntime module.
        session: what runs the graph.
        feed: input name -> array; later calls have the same names, shapes and types.
        output, shape: name and shape of the float32 output.
        device: "cuda", or "cpu", where it gains nothing but can be tested.
    """

    def __init__(
        self,
        ort: Any,
        session: Any,
        feed: Mapping[str, np.ndarray],
        output: str,
        shape: tuple[int, ...],
        device: str = "cuda",
    ) -> None:
        self._session, self._binding = session, session.io_binding()
        make = ort.OrtValue.ortvalue_from_shape_and_type  # memory of its own, never that of an array
        self._inputs = {k: make(v.shape, v.dtype, device, 0) for k, v in feed.items()}
        self._output = make(shape, np.float32, device, 0)
        for name, value in self._inputs.items():
            self._binding.bind_ortvalue_input(name, value)
        self._binding.bind_ortvalue_output(output, self._output)

    def __call__(self, feed: Mapping[str, np.ndarray]) -> np.ndarray:
        """Copy `feed` in, run, and return a copy of the output."""
        for name, value in self._inputs.items():
            value.update_inplace(feed[name])
        self._session.run_with_iobinding(self._binding)
        return self._output.numpy().copy()
