"""Numbers of Objective-C's are no numbers of Python's: where code forgets it, found in the syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.targets.objective_c import NSArray, NSNumber, NSString
from tests.test_imports import ROOT, source_files

CONVERSIONS = {"int", "float", "bool", "round", "complex", "index", "range", "trunc"}
ARRAYS = {"shape", "strides"}  # an MLMultiArray's, which are NSArrays of NSNumbers


def bridged() -> list[Path]:
    """Every file that names rubicon-objc or its modules, and what these share."""
    named = [file for file in source_files() if "rubicon" in file.read_text(encoding="utf-8")]
    return [*named, ROOT / "targets" / "coreml" / "packages.py"]


def unconverted(source: str) -> list[int]:
    """Lines that convert by Python's own means, other than what an `…Value` property gave; and lines that
    take the numbers of anything but our own arrays in another way than by `longLongValue`."""
    return sorted({*_conversions(ast.parse(source)), *_arrays(ast.parse(source))})


def _conversions(tree: ast.AST) -> Iterator[int]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if name in CONVERSIONS and not all(_is_number(x, name) for x in node.args):
                yield node.lineno


def _is_number(argument: ast.expr, function: str) -> bool:
    """Of Python's: what a `…Value` property gave; a count may have been converted before, under a name."""
    counted = function == "range" and isinstance(argument, ast.Name)
    return counted or (isinstance(argument, ast.Attribute) and argument.attr.endswith("Value"))


def _arrays(tree: ast.AST) -> Iterator[int]:
    for function in ast.walk(tree):
        if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            continue
        ours = _ours(function)
        converted = {
            id(part)
            for made in ast.walk(function)
            if isinstance(made, (ast.ListComp, ast.GeneratorExp)) and "longLongValue" in ast.unparse(made.elt)
            for part in ast.walk(made)
        }
        for node in ast.walk(function):
            if not isinstance(node, ast.Attribute) or node.attr not in ARRAYS or id(node) in converted:
                continue
            if not (isinstance(node.value, ast.Name) and node.value.id in ours):
                yield node.lineno


def _ours(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Names of NumPy's arrays and of ports: parameters so annotated, and what methods of these or of `np`
    gave."""
    given = function.args.args
    found = {a.arg for a in given if a.annotation and ast.unparse(a.annotation) in ("Array", "Port")}

    def is_ours(value: ast.expr) -> bool:
        if isinstance(value, ast.IfExp):
            return is_ours(value.body) and is_ours(value.orelse)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Attribute):
            value = value.func.value
        return isinstance(value, ast.Name) and value.id in {*found, "np"}

    for node in ast.walk(function):
        if isinstance(node, ast.Assign) and is_ours(node.value):
            found |= {target.id for target in node.targets if isinstance(target, ast.Name)}
    return found


def test_no_number_is_converted_by_python() -> None:
    files = bridged()
    assert {"objc.py", "ios.py", "packages.py"} <= {file.name for file in files}
    found = [f"{f.name}:{line}" for f in files for line in unconverted(f.read_text(encoding="utf-8"))]
    assert not found, f"use longLongValue (rubicon-objc does not convert an NSNumber): {', '.join(found)}"


@pytest.mark.parametrize(
    "line",
    [
        "[int(n) for n in x.shape]", "int(x.count)", "float(x)", "operator.index(x)", "list(x.shape)",
        "sum(x.strides)", "x.shape[0] + 1", "range(x.count)", "[n + 1 for n in x.array.shape]",
        "max(self.made().shape)", "x.do(lambda y: y.shape[0] * 2)",
    ],
)  # fmt: skip
def test_the_scan_sees(line: str) -> None:
    assert unconverted(f"def f(x: Any) -> None:\n    {line}\n") == [2]


@pytest.mark.parametrize(
    "line",
    [
        "[n.longLongValue for n in x.shape]", "int(x.doubleValue)", "x.length + 1", "list(own.shape)",
        "half = own.astype(kind) if x else own; list(half.shape)",
    ],
)  # fmt: skip
def test_the_scan_lets_pass(line: str) -> None:
    assert unconverted(f"def f(x: Any, own: Array) -> None:\n    {line}\n") == []


def test_the_scan_sees_what_a_name_holds() -> None:
    assert unconverted("def f(own: Array) -> None:\n    made = self.run(own)\n    list(made.shape)\n") == [3]


def test_the_stand_ins_are_as_strict_as_the_library() -> None:
    """Of rubicon-objc 0.5.7: `ObjCInstance` has neither `__int__` nor `__index__`, nor arithmetic."""
    (number,) = NSArray([NSNumber(3)])
    for use in (int, float, range, lambda n: n + 1, lambda n: n * 4):
        with pytest.raises(TypeError):
            use(number)
    assert number.longLongValue == 3 and number != 3
    assert not isinstance(NSString("a"), str) and str(NSString("a")) == "a"
