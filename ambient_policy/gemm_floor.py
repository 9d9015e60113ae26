"""How fast a graph could be: its matrix products alone, same shapes, same runtime, nothing between them.

What a graph takes beyond this floor is overhead that another export, a fused kernel or another runtime could
save; the floor itself falls only with fewer weights or fewer digits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PRODUCTS = ("MatMul", "Gemm", "Conv")


def products_of(path: Path) -> tuple[onnx.ModelProto, dict[str, np.ndarray]]:
    """Return a model of only the matrix products of a graph at batch 1, and what to feed it.

    Every product has an input of its own, so that none is folded or shared; weights that the graph shares
    between its steps stay shared, since whether they are still in the cache is half the cost.

    Raises:
        ValueError: the shapes of a product cannot be worked out.
    """
    model = onnx.load(str(path))
    for value in model.graph.input:
        for axis in value.type.tensor_type.shape.dim:
            if not axis.HasField("dim_value"):
                axis.dim_value = 1
    # Shapes noted for a free batch would contradict a batch of 1.
    del model.graph.value_info[:]
    for value in model.graph.output:
        value.type.tensor_type.ClearField("shape")
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {v.name: _shape(v) for part in (inferred.value_info, inferred.input) for v in part}
    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    nodes, kept, inputs, outputs, feed = [], {}, [], [], {}
    for number, node in enumerate(n for n in model.graph.node if n.op_type in PRODUCTS):
        names = []
        for slot, name in enumerate(node.input):
            if name in weights:
                kept[name] = weights[name]
                names.append(name)
                continue
            shape = shapes.get(name)
            if shape is None:
                raise ValueError(
                    f"{path.name}: the shape of {name!r}, which {node.name} multiplies, is unknown"
                )
            own = f"input_{number}_{slot}"
            inputs.append(helper.make_tensor_value_info(own, TensorProto.FLOAT, shape))
            feed[own] = np.full(shape, 0.5, np.float32)
            names.append(own)
        copy = helper.make_node(node.op_type, names, [f"output_{number}"], name=f"product_{number}")
        copy.attribute.extend(node.attribute)
        nodes.append(copy)
        outputs.append(helper.make_tensor_value_info(f"output_{number}", TensorProto.FLOAT, None))
    initializers = [_random(tensor) for tensor in kept.values()]
    graph = helper.make_graph(nodes, "products", inputs, outputs, initializers)
    opsets = list(model.opset_import)
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version), feed


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...] | None:
    axes = value.type.tensor_type.shape.dim
    return tuple(a.dim_value for a in axes) if all(a.HasField("dim_value") for a in axes) else None


def _random(tensor: onnx.TensorProto) -> onnx.TensorProto:
    # Of the weights only size and place count; zeros would be no fair stand-in where a kernel skips them.
    values = np.random.default_rng(0).standard_normal(tuple(tensor.dims)).astype(np.float32)
    return numpy_helper.from_array(values, tensor.name)
