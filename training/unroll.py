"""Build the K-step sampler graph: one network step, copied along the core's own sampler.

`torch.onnx` would trace K copies of the network and take a minute for K = 8. Here it traces one, and the
sampler of `ambient_policy.sampling` runs on stand-ins that write down every sum and product they meet. So the
graph on the robot is the code that the tests of the core cover, for every method and ladder, and all steps
share one set of weights.
"""

from __future__ import annotations

import itertools

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ambient_policy.inpainting import knowing
from ambient_policy.noise import preconditioning
from ambient_policy.sampling import Denoise, sample
from training.errors import TrainingError


class Graph:
    """An ONNX graph under construction."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._constants: dict[float, str] = {}
        self._count = 0

    def add(self, op: str, *inputs: str, output: str | None = None) -> str:
        """Append a node with one output and return that output's name."""
        self._count += 1
        output = output or f"value_{self._count}"
        self.nodes.append(helper.make_node(op, list(inputs), [output], name=f"{op}_{self._count}"))
        return output

    def constant(self, value: float) -> str:
        """Return the name of a float32 scalar."""
        if value not in self._constants:
            name = self._constants[value] = f"constant_{len(self._constants)}"
            self.initializers.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return self._constants[value]

    def integers(self, *values: int) -> str:
        """Return the name of a vector of int64."""
        name = f"integers_{'_'.join(map(str, values))}"
        if name not in {tensor.name for tensor in self.initializers}:
            self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
        return name

    def take_weights(self, model: onnx.ModelProto, prefix: str) -> None:
        """Own the initializers of `model`, once, under `prefix`."""
        for tensor in model.graph.initializer:
            copy = onnx.TensorProto()
            copy.CopyFrom(tensor)
            copy.name = prefix + tensor.name
            self.initializers.append(copy)

    def inline(
        self, model: onnx.ModelProto, weights: str, scope: str, inputs: dict[str, str]
    ) -> dict[str, str]:
        """Append a copy of the nodes of `model`.

        Args:
            weights: prefix its initializers were taken under.
            scope: prefix for its inner values, different for every copy.
            inputs: its input names to names here.
        Returns: its output names to names here.
        """
        names = {tensor.name: weights + tensor.name for tensor in model.graph.initializer} | inputs | {"": ""}
        for node in model.graph.node:
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            copy.name = scope + node.name
            for output in node.output:
                if output:
                    names[output] = scope + output
            copy.input[:] = [names[name] for name in node.input]
            copy.output[:] = [names[name] for name in node.output]
            self.nodes.append(copy)
        return {output.name: names[output.name] for output in model.graph.output}


class Traced:
    """A value of the graph under arithmetic with other values and Python floats."""

    __array_ufunc__ = None  # numpy floats on the left then leave the operation to us

    def __init__(self, graph: Graph, name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, op: str, left: Traced | float, right: Traced | float) -> Traced:
        def name(value: Traced | float) -> str:
            return value.name if isinstance(value, Traced) else self.graph.constant(float(value))

        return Traced(self.graph, self.graph.add(op, name(left), name(right)))

    def __add__(self, other: Traced | float) -> Traced:
        return self._with("Add", self, other)

    def __sub__(self, other: Traced | float) -> Traced:
        return self._with("Sub", self, other)

    def __mul__(self, other: Traced | float) -> Traced:
        return self._with("Mul", self, other)

    def __truediv__(self, other: Traced | float) -> Traced:
        if isinstance(other, Traced):
            return self._with("Div", self, other)
        return self._with("Mul", self, 1 / other)

    def __rtruediv__(self, other: float) -> Traced:
        return self._with("Div", other, self)

    def __radd__(self, other: float) -> Traced:
        return self._with("Add", other, self)

    def __rsub__(self, other: float) -> Traced:
        return self._with("Sub", other, self)

    def __rmul__(self, other: float) -> Traced:
        return self._with("Mul", other, self)


class TracedOperations:
    """`ambient_policy.inpainting.Operations` for values of a graph."""

    def inner(self, a: Traced, b: Traced) -> Traced:
        """Return the sum of a * b over (H, A), as (B, 1, 1)."""
        product = a * b
        axes = product.graph.integers(1, 2)
        return Traced(a.graph, a.graph.add("ReduceSum", product.name, axes))

    def root(self, a: Traced) -> Traced:
        """Return the square root."""
        return Traced(a.graph, a.graph.add("Sqrt", a.name))

    def clip(self, a: Traced, low: float, high: float) -> Traced:
        """Return the nearest value in [low, high]."""
        graph = a.graph
        return Traced(graph, graph.add("Clip", a.name, graph.constant(low), graph.constant(high)))


def denoiser_calls(sigmas: np.ndarray, method: str) -> list[float]:
    """List the noise levels at which a sampler calls the network, in order."""
    calls: list[float] = []

    def note(x: float, sigma: float) -> float:
        calls.append(sigma)
        return 0.0 * x

    for _ in sample(note, 1.0, sigmas, method):
        pass
    return calls


def unroll(
    modulation: onnx.ModelProto,
    body: onnx.ModelProto,
    sigmas: np.ndarray,
    method: str,
    sigma_data: float,
    shapes: dict[str, tuple[int, ...]],
    prediction: str = "x0",
    *,
    prefix: bool = False,
) -> onnx.ModelProto:
    """Join the two parts of a denoiser into a sampler.

    Args:
        modulation: `features`, `state` -> `modulation_0`, `modulation_1`, ... one for every denoiser call.
        body: `x`, `modulation` -> `raw`, the network's raw output.
        shapes: of `features`, `state`, `noise`, `chunk`, without the batch.
        prefix: let the sampler know some actions, given as `known`, `known_mask` and `known_variance` (see
            `ambient_policy.inpainting.knowing`). It calls the network twice as often.
    Returns: a model from all these to `chunk`; noise is standard normal.
    """
    for part in (modulation, body):
        if part.functions:
            raise TrainingError(f"torch.onnx left functions in the graph: {[f.name for f in part.functions]}")
    graph = Graph()
    graph.take_weights(modulation, "condition.")
    graph.take_weights(body, "step.")
    modulations = graph.inline(
        modulation, "condition.", "condition/", {"features": "features", "state": "state"}
    )
    levels = denoiser_calls(sigmas, method)
    calls = itertools.count()

    def denoise(x: Traced, sigma: float) -> Traced:
        call = next(calls)
        c = preconditioning(sigma, sigma_data, prediction)
        scaled = x * float(c.in_)
        inputs = {"x": scaled.name, "modulation": modulations[f"modulation_{levels.index(sigma)}"]}
        raw = graph.inline(body, "step.", f"step{call}/", inputs)["raw"]
        return float(c.skip) * x + float(c.out) * Traced(graph, raw)

    names = ["features", "state", "noise"]
    denoiser: Denoise[Traced] = denoise
    if prefix:
        names += ["known", "known_mask", "known_variance"]
        known, mask, variance = (Traced(graph, name) for name in names[3:])
        denoiser = knowing(denoise, known, mask, variance, sigma_data, TracedOperations())
    start = Traced(graph, "noise") * float(sigmas[0])
    *_, last = sample(denoiser, start, sigmas, method)
    graph.add("Identity", last.name, output="chunk")

    def value(name: str) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *shapes[name]])

    model = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "sampler",
            [value(name) for name in names],
            [value("chunk")],
            graph.initializers,
        ),
        opset_imports=list(body.opset_import),
        ir_version=body.ir_version,
        producer_name="ambient-policy",
    )
    onnx.checker.check_model(model)
    return model
