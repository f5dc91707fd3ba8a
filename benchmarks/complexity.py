"""Counts what the networks of a model compute: multiply-accumulates per pixel and parameters, from its ONNX graphs.

    python benchmarks/complexity.py [--model NAME] [--out benchmarks/complexity.json]

Convolutions and matrix products are counted by the sizes that ONNX's shape inference finds for a 768x512 picture, and
the class map by its weights; activations, gains, shuffles and the symbol path are not. Needs the package `onnx`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import onnx
from rich.console import Console
from script import make_parser, make_table, write_results

from shcodec.cli.console import run_script
from shcodec.model import zoo
from shcodec.model.card import DECODER
from shcodec.model.tensors import read_tensors

WIDTH, HEIGHT = 768, 512
"""Size of the picture counted for; both are multiples of 64, so that no padding blurs the figures."""

INPUT_SCALES = {"x": 1, "first": 16, "features": 16, "y": 16, "z": 64}
"""Pixels along a side that one position of each graph input stands for."""

PARTS = {"analysis": "encoder", "hyper": "decoder", "refine": "decoder", "class map": "decoder", "synthesis": "decoder"}
"""Parts of a model and the side that needs them; the encoder runs the decoder's parts as well, but for synthesis."""


@dataclass(frozen=True)
class Cost:
    """What one part of a model costs.

    Attributes:
        part: key of `PARTS`.
        side: `encoder` or `decoder`.
        kmac_per_pixel: thousands of multiply-accumulates per pixel of the picture.
        parameters: weights and biases.
    """

    part: str
    side: str
    kmac_per_pixel: float
    parameters: int


def model_costs(folder: Path) -> list[Cost]:
    """Count all parts of a model.

    Args:
        folder: folder of the model.
    """
    costs = []
    for part, side in PARTS.items():
        counted = class_map_cost(folder) if part == "class map" else graph_cost(folder / f"{part}.onnx")
        if counted is not None:
            macs, parameters = counted
            costs.append(Cost(part, side, macs / (WIDTH * HEIGHT) / 1e3, parameters))
    return costs


def graph_cost(path: Path) -> tuple[int, int] | None:
    """Count multiply-accumulates and parameters of a graph; None if the model has no such graph."""
    if not path.is_file():
        return None
    model = onnx.load(path, load_external_data=False)
    for value in model.graph.input:
        scale = INPUT_SCALES.get(value.name)
        if scale is not None:
            dims = value.type.tensor_type.shape.dim
            dims[2].dim_value, dims[3].dim_value = HEIGHT // scale, WIDTH // scale
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {value.name: _shape(value) for value in (*graph.input, *graph.value_info, *graph.output)}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    macs = sum(node_macs(node, shapes) for node in graph.node)
    return macs, sum(math.prod(tensor.dims) for tensor in graph.initializer)


def node_macs(node: onnx.NodeProto, shapes: dict[str, tuple[int, ...]]) -> int:
    """Count the multiply-accumulates of one node; 0 for nodes that are neither convolution nor matrix product.

    Args:
        node: the node.
        shapes: sizes of all values by name.

    Raises:
        ValueError: if a size that is needed could not be inferred.
    """
    if node.op_type not in {"Conv", "ConvTranspose", "MatMul", "Gemm"}:
        return 0
    first, weight, output = shapes[node.input[0]], shapes[node.input[1]], shapes.get(node.output[0], ())
    if 0 in (*first, *weight, *output) or not output:
        raise ValueError(f"size of {node.output[0]} is not known")
    match node.op_type:
        case "Conv":  # weight (C_out, C_in / group, h, w), applied at every output position
            return math.prod(output) * math.prod(weight[1:])
        case "ConvTranspose":  # weight (C_in, C_out / group, h, w), applied at every input position
            return math.prod(first) * math.prod(weight[1:])
        case "MatMul":
            return math.prod(output) * first[-1]
        case _:
            transposed = any(a.name == "transA" and a.i for a in node.attribute)
            return math.prod(output) * (first[0] if transposed else first[-1])


def _shape(value: onnx.ValueInfoProto) -> tuple[int, ...]:
    """Return the sizes of a value; 0 for a dimension that is not known."""
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    # Inference loses the batch where a graph reshapes by sizes that it computes; it is always a single picture.
    return (dims[0] or 1, *dims[1:]) if dims else ()


def class_map_cost(folder: Path) -> tuple[int, int] | None:
    """Count the integer map from hyper indices to classes, applied at every position of z; None without hyper path."""
    tensors = read_tensors(folder / DECODER)
    weight = tensors.get("class_map.weight")
    if weight is None:
        return None
    parameters = sum(int(tensor.size) for name, tensor in tensors.items() if name.startswith("class_map."))
    return int(weight.size) * (WIDTH // 64) * (HEIGHT // 64), parameters


def totals(costs: Sequence[Cost]) -> dict[str, dict[str, float]]:
    """Sum the parts of each side."""
    return {
        side: {
            "kmac_per_pixel": sum(cost.kmac_per_pixel for cost in costs if cost.side == side),
            "parameters": sum(cost.parameters for cost in costs if cost.side == side),
        }
        for side in ("encoder", "decoder")
    }


def print_costs(name: str, costs: Sequence[Cost], console: Console) -> None:
    """Print the table of one model."""
    table = make_table(f"{name}, {WIDTH}x{HEIGHT}", ("part", "side", "kMAC/pixel", "parameters"), left=2)
    for cost in costs:
        table.add_row(cost.part, cost.side, f"{cost.kmac_per_pixel:.3f}", f"{cost.parameters:,}")
    table.add_section()
    for side, total in totals(costs).items():
        table.add_row("all", side, f"{total['kmac_per_pixel']:.3f}", f"{total['parameters']:,.0f}")
    console.print(table)


def main(arguments: Sequence[str] | None = None) -> None:
    """Count the models asked for; print a table and write JSON."""
    parser = make_parser(__doc__)
    parser.add_argument("--model", action="append", metavar="NAME", help="a model; all if none is named")
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("complexity.json"))
    options = parser.parse_args(arguments)
    document: dict[str, Any] = {"width": WIDTH, "height": HEIGHT, "models": {}}
    for name in options.model or zoo.model_names():
        costs = model_costs(zoo.model_dir(name))
        print_costs(name, costs, Console())
        document["models"][name] = {
            "id": zoo.card(name)["id"],
            "parts": [asdict(cost) for cost in costs],
            "totals": totals(costs),
        }
    write_results(options.out, document)


if __name__ == "__main__":
    run_script(main)
