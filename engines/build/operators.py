"""Which operators TensorRT takes, from its converters' own sources, and whether a graph has only those.

The tables in operators.json are generated, never written by hand:

    python -m engines.build.operators torch_tensorrt-2.13.0-*.whl operators.md

with a wheel of torch_tensorrt, whose converter registry and decompositions are read as syntax trees and not executed,
and docs/operators.md of onnx-tensorrt, the parser that TensorRT ships. The parser's table is TensorRT 10.15's, the
newest that was to be had; TensorRT 11's was not looked at.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    import onnx
    import torch

TABLES = Path(__file__).parent / "operators.json"
_CONVERTERS = "torch_tensorrt/dynamo/conversion"
_LOWERING = "torch_tensorrt/dynamo/lowering"


@dataclass(frozen=True)
class Tables:
    """What the two ways into TensorRT take.

    converters    ATen operators with a converter in torch_tensorrt, and the check each must pass ("" for none)
    decomposed    operators that torch_tensorrt takes apart with torch's own decompositions
    undecomposed  operators that it leaves whole although torch could take them apart
    rewritten     operators that it takes apart itself
    onnx          operators of TensorRT's ONNX parser
    """

    torch_tensorrt: str
    converters: dict[str, str]
    decomposed: tuple[str, ...]
    undecomposed: tuple[str, ...]
    rewritten: tuple[str, ...]
    onnx_tensorrt: str
    largest_opset: int
    onnx: tuple[str, ...]


@cache
def tables() -> Tables:
    """The committed tables."""
    read: dict[str, Any] = json.loads(TABLES.read_text(encoding="utf-8"))
    torch_tables, onnx_tables = read["torch_tensorrt"], read["onnx_tensorrt"]
    return Tables(
        torch_tensorrt=torch_tables["version"],
        converters=torch_tables["converters"],
        decomposed=tuple(torch_tables["decomposed"]),
        undecomposed=tuple(torch_tables["undecomposed"]),
        rewritten=tuple(torch_tables["rewritten"]),
        onnx_tensorrt=onnx_tables["version"],
        largest_opset=onnx_tables["largest_opset"],
        onnx=tuple(onnx_tables["operators"]),
    )


def unknown_to_parser(model: onnx.ModelProto) -> dict[str, str]:
    """Operators of a model that TensorRT's ONNX parser does not take, with the reason; empty if it takes all."""
    taken = tables()
    found = {
        node.op_type: "is not in the parser's table"
        for node in model.graph.node
        if node.domain not in ("", "ai.onnx") or node.op_type not in taken.onnx
    }
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx") and opset.version > taken.largest_opset:
            found[f"opset {opset.version}"] = f"the parser reads up to {taken.largest_opset}"
    return found


def lowered(program: torch.export.ExportedProgram) -> torch.export.ExportedProgram:
    """The program in the operators that torch_tensorrt's converters are asked for.

    Its `get_decompositions` without its code: the same names, torch's own decompositions for them, and our wording of
    the ones that it wrote itself and our graphs need.
    """
    import torch
    from torch._export.utils import _collect_all_valid_cia_ops_for_aten_namespace, _get_decomp_for_cia

    from engines.build.export_onnx import quiet

    kept = {_operator(name) for name in tables().undecomposed}
    table: dict[Any, Callable[..., Any]] = {
        operator: _get_decomp_for_cia(operator)
        for operator in _collect_all_valid_cia_ops_for_aten_namespace()
        if operator not in kept and "scaled_dot_product" not in str(operator)
    }
    table |= torch._decomp.get_decompositions([_operator(name) for name in tables().decomposed])
    table |= {_operator(name): rewrite for name, rewrite in rewrites().items()}
    with quiet():
        made: torch.export.ExportedProgram = program.run_decompositions(table)
    return made


def rewrites() -> dict[str, Callable[..., Any]]:
    """What torch_tensorrt turns these operators into."""
    import torch

    aten = torch.ops.aten
    return {
        "aten.silu.default": lambda x: x * torch.sigmoid(x),
        "aten.rsqrt.default": lambda x: torch.div(1, torch.sqrt(x)),
        "aten.reciprocal.default": lambda x: torch.div(1, x),
        "aten.view.default": lambda x, size: aten._reshape_copy.default(x, size),
        "aten._unsafe_view.default": lambda x, size: torch.reshape(x, size),
        "aten.alias.default": lambda x: x,
    }


def _operator(name: str) -> Any:
    """aten.add.Tensor or aten.add to torch's object of that name."""
    import torch

    found: Any = torch.ops
    for part in name.split("."):
        found = getattr(found, part)
    return found


def without_converter(program: torch.export.ExportedProgram) -> dict[str, str]:
    """Operators of a lowered program that torch_tensorrt does not convert, with the reason; empty if it does all."""
    faults: dict[str, str] = {}
    for node in program.graph.nodes:
        if node.op != "call_function":
            continue
        name = _name_of(node.target)
        if name in _REMOVED:
            continue
        conditions = tables().converters.get(name)
        if conditions is None:
            faults[name] = "has no converter"
        elif conditions and not any(_CONDITIONS.get(one, _never)(node) for one in conditions.split(" | ")):
            faults[name] = f"is converted only where torch_tensorrt's {conditions} agrees ({node.name})"
    return faults


def _never(node: torch.fx.Node) -> bool:
    """A check that nobody has read counts as failed."""
    return False


def operators_of(program: torch.export.ExportedProgram) -> Counter[str]:
    """How often each operator occurs."""
    return Counter(_name_of(node.target) for node in program.graph.nodes if node.op == "call_function")


def _name_of(target: Any) -> str:
    module = getattr(target, "__module__", "")
    return f"operator.{target.__name__}" if module == "_operator" else str(target)


# Taken out or rewritten by torch_tensorrt's passes (lowering/passes) before any converter is asked.
_REMOVED = {
    "aten._assert_tensor_metadata.default": "remove_assert_nodes",
    "aten._fused_rms_norm.default": "replace_fused_rms_norm",
}


def _shape(argument: Any) -> tuple[int, ...]:
    return tuple(argument.meta["val"].shape)


def _first_result_alone(node: torch.fx.Node) -> bool:
    users = list(node.users)
    return [(_name_of(user.target), user.args[1:]) for user in users] == [("operator.getitem", (0,))]


def _attends(node: torch.fx.Node) -> bool:
    query, key, value = (_shape(argument) for argument in node.args[:3])
    return key == value and (*query[:-2], query[-1]) == (*key[:-2], key[-1])


def _indexed_by_numbers(node: torch.fx.Node) -> bool:
    import torch

    indices: Any = node.args[1]
    return all(one is None or one.meta["val"].dtype in (torch.int32, torch.int64) for one in indices)


def _cast_to_known(node: torch.fx.Node) -> bool:
    import torch

    known = (torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int8, torch.bool)
    return node.kwargs.get("dtype") in known


def _fills_something(node: torch.fx.Node) -> bool:
    sizes: Any = node.args[1]
    return 0 not in sizes


def _parts(node: torch.fx.Node) -> list[Any]:
    parts: Any = node.args[0]
    return list(parts)


# Our reading of the checks in torch_tensorrt 2.13.0's conversion/*.py, for TensorRT itself (TensorRT-RTX is stricter).
_CONDITIONS: dict[str, Callable[[torch.fx.Node], bool]] = {
    "one_user_validator": _first_result_alone,
    "cat_validator": lambda node: all(_shape(one) != (0,) for one in _parts(node)),
    "convolution_capability_validator": lambda node: True,
    "scaled_dot_product_attention_validator": _attends,
    "index_dtype_validator and (not index_has_bool_indices)": _indexed_by_numbers,
    "to_copy_dtype_validator(placeholder_only=False)": _cast_to_known,
    "is_only_operator_on_placeholder": lambda node: True,  # there is a converter for either case
    "zero_output_validator": _fills_something,
    "getitem_validator": lambda node: True,  # its parent is looked at itself
    "has_static_shapes_in_args([1])": lambda node: True,  # shapes are static throughout, see export_onnx
    "avg_pool_param_validator": lambda node: not any(node.args[4:5]) and not any(node.args[6:7]),
}


def read_wheel(wheel: Path) -> dict[str, object]:
    """Converters and decompositions of a torch_tensorrt wheel, from its source files."""
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        sources = {
            name: ast.parse(archive.read(name))
            for name in names
            if name.endswith(".py") and Path(name).parent.as_posix() in (_CONVERTERS, _LOWERING)
        }
        metadata = next(name for name in names if name.endswith(".dist-info/METADATA"))
        found = re.search(r"^Version: (.+)$", archive.read(metadata).decode(), re.MULTILINE)
    assert found is not None
    groups = sources[f"{_LOWERING}/_decomposition_groups.py"]
    return {
        "version": found[1].strip(),
        "source": wheel.name,
        "sha256": hashlib.sha256(wheel.read_bytes()).hexdigest(),
        "converters": dict(sorted(_converters(sources.values()).items())),
        "decomposed": sorted(_set_of(groups, "torch_enabled_decompositions")),
        "undecomposed": sorted(_set_of(groups, "torch_disabled_decompositions")),
        "rewritten": sorted(_rewritten(sources[f"{_LOWERING}/_decompositions.py"])),
    }


def _calls(tree: ast.Module, name: str) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name:
            yield node


def _plain(expression: ast.expr) -> str:
    """torch.ops.aten.add.Tensor to aten.add.Tensor; other names stay."""
    return ast.unparse(expression).removeprefix("torch.ops.")


def _converters(trees: Iterable[ast.Module]) -> dict[str, str]:
    """Operator to the checks before conversion: "" if one of its converters has none, else each one's, with " | "."""
    found: dict[str, list[str]] = {}
    for tree in trees:
        for call in _calls(tree, "dynamo_tensorrt_converter"):
            keywords = {keyword.arg: keyword.value for keyword in call.keywords}
            key = call.args[0] if call.args else keywords["key"]
            found.setdefault(_plain(key), []).append(_condition(keywords.get("capability_validator")))
    return {name: "" if "" in checks else " | ".join(dict.fromkeys(checks)) for name, checks in found.items()}


def _condition(validator: ast.expr | None) -> str:
    """The check as it is written there, without the parameters that all of them have."""
    if validator is None:
        return ""
    body = validator.body if isinstance(validator, ast.Lambda) else validator
    return ast.unparse(body).replace("(node, settings)", "")


def _set_of(tree: ast.Module, variable: str) -> list[str]:
    for node in tree.body:
        if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == variable and isinstance(node.value, ast.Set):
            return [_plain(element) for element in node.value.elts]
    raise ValueError(f"the wheel has no set {variable}; its layout changed")


def _rewritten(tree: ast.Module) -> list[str]:
    registered = [_plain(call.args[0]) for call in _calls(tree, "register_torch_trt_decomposition")]
    inplace = [_plain(call.args[0]) for call in _calls(tree, "replace_inplace_op")]
    return [name for name in (*registered, *inplace) if "." in name]


def read_parser_table(table: Path) -> dict[str, object]:
    """Operators that docs/operators.md of onnx-tensorrt marks Y."""
    text = table.read_text(encoding="utf-8")
    stated = re.search(r"TensorRT (\S+) supports operators in the inclusive range of opset \d+ to opset (\d+)", text)
    if stated is None:
        raise ValueError(f"{table.name} does not say which TensorRT and opsets it is about")
    rows = re.findall(r"^\|\s*(\w+)\s*\|\s*([YN])\b", text, re.MULTILINE)
    return {
        "version": stated[1],
        "source": "docs/operators.md of github.com/onnx/onnx-tensorrt",
        "largest_opset": int(stated[2]),
        "operators": sorted(name for name, taken in rows if taken == "Y"),
    }


@click.command()
@click.argument("wheel", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("parser_table", type=click.Path(exists=True, dir_okay=False, path_type=Path))
def generate(wheel: Path, parser_table: Path) -> None:
    """Writes operators.json anew from a wheel of torch_tensorrt and onnx-tensorrt's docs/operators.md."""
    made = {"torch_tensorrt": read_wheel(wheel), "onnx_tensorrt": read_parser_table(parser_table)}
    TABLES.write_text(json.dumps(made, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    generate()
