"""What the compiler would make something else of, or slow code, is not written in what it compiles."""

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from hatch_build import modules

ROOT = Path(__file__).resolve().parents[1]
HOOK = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]["hooks"]
COMPILED = modules(ROOT, HOOK["custom"]["compile"])


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Give all functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def believed_none(tree: ast.AST) -> list[str]:
    """Find comparisons that mypyc takes for settled: an attribute is set to None, and asked for None below.

    mypy keeps what it knows of an attribute when a method is called in between, which may have set it anew; then mypyc
    compiles `self.x is None` to True.
    """
    found = []
    for function in functions(tree):
        cleared: dict[str, int] = {}
        for node in ast.walk(function):
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and node.value.value is None:
                for target in node.targets:
                    if isinstance(target, ast.Attribute):
                        cleared.setdefault(ast.unparse(target), node.lineno)
        for node in ast.walk(function):
            if isinstance(node, ast.Compare) and isinstance(node.ops[0], ast.Is | ast.IsNot):
                subject = ast.unparse(node.left)
                if cleared.get(subject, node.lineno) < node.lineno:
                    found.append(f"{function.name}: {ast.unparse(node)} in line {node.lineno}")
    return found


def shared_names(tree: ast.AST) -> list[str]:
    """Find nested handlers that give exceptions of different types one name: mypyc keeps the first one's type."""
    found = []
    for function in functions(tree):
        handlers = [node for node in ast.walk(function) if isinstance(node, ast.ExceptHandler) and node.name]
        for outer in handlers:
            found += [
                f"{function.name}: {inner.name} in line {inner.lineno}"
                for inner in ast.walk(outer)
                if inner is not outer and isinstance(inner, ast.ExceptHandler) and inner.name == outer.name
            ]
        for attempt in (node for node in ast.walk(function) if isinstance(node, ast.Try)):
            inner_names = {
                each.name for part in attempt.body for each in ast.walk(part) if isinstance(each, ast.ExceptHandler)
            }
            found += [
                f"{function.name}: {handler.name} in line {handler.lineno}"
                for handler in attempt.handlers
                if handler.name and handler.name in inner_names
            ]
    return found


def kept_slices(tree: ast.AST) -> list[str]:
    """Find slices that are kept as objects: mypyc takes what stands in brackets behind bytes for a number."""
    return [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Yield | ast.Return)
        and isinstance(node.value, ast.Call)
        and ast.unparse(node.value.func) == "slice"
    ]


def class_assignments(tree: ast.AST) -> list[str]:
    """Find `a = b = value` in a class's body, which mypyc refuses."""
    return [
        f"{node.name}: line {each.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
        for each in node.body
        if isinstance(each, ast.Assign) and len(each.targets) > 1
    ]


def yields_in_handlers(tree: ast.AST) -> list[str]:
    """Find generators that yield while they handle an exception: mypyc leaves it to the caller as the one in hand."""
    return [
        f"line {node.lineno}"
        for handler in ast.walk(tree)
        if isinstance(handler, ast.ExceptHandler)
        for node in ast.walk(handler)
        if isinstance(node, ast.Yield | ast.YieldFrom)
    ]


def surrogates(tree: ast.AST) -> list[str]:
    """Find surrogates in texts, which mypyc refuses. In a pattern, `re` can read them from escapes."""
    return [
        f"line {node.lineno}"
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and any("\ud800" <= character <= "\udfff" for character in node.value)
    ]


FINDERS = (believed_none, shared_names, kept_slices, class_assignments, yields_in_handlers, surrogates)


@pytest.mark.parametrize("module", COMPILED)
def test_nothing_is_compiled_to_something_else(module: str) -> None:
    tree = ast.parse((ROOT / module).read_text())
    assert [each for find in FINDERS for each in find(tree)] == []


@pytest.mark.parametrize(
    ("find", "source"),
    [
        (believed_none, "def f(self):\n  self.a = None\n  self.g()\n  return self.a is None"),
        (shared_names, "try:\n  f()\nexcept A as e:\n  try:\n    g()\n  except B as e:\n    pass"),
        (shared_names, "try:\n  try:\n    g()\n  except B as e:\n    pass\nexcept A as e:\n  pass"),
        (kept_slices, "def f():\n  yield slice(1, 2)"),
        (yields_in_handlers, "try:\n  f()\nexcept A:\n  yield 1"),
        (class_assignments, "class A:\n  a = b = 1"),
        (surrogates, r"return '\udcff'"),
    ],
)
def test_the_finders_find(find, source: str) -> None:
    inside = source if source.startswith(("def", "class")) else "def f():\n  " + source.replace("\n", "\n  ")
    assert len(find(ast.parse(inside))) == 1


def test_all_that_a_request_goes_through_is_compiled() -> None:
    rooms = {Path(module).parts[1] for module in COMPILED}
    assert {"http2", "rpc", "exchange", "reading", "models", "transports"} <= rooms
    assert not any(module.endswith("__init__.py") or "/pb/" in module for module in COMPILED)
