"""How the package's modules import each other: one way, and at most eight deep.

What is looked at is what runs when a module is loaded: not imports for the type checker alone, nor those inside
functions, such as that of matplotlib, or of packages that may be missing (`try`).
"""

import ast
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import polyjax

FOLDER = Path(polyjax.__file__).parent
DEEPEST = 8
# Packages, and what they may import of the others.
MAY_IMPORT = {
    "toy": set(),
    "theory": {"toy"},
    "embedding": set(),
    "engine": {"toy", "embedding"},
    "runs": {"toy", "engine", "embedding"},
    "draw": {"toy", "theory", "embedding", "engine"},
    "cli": {"runs", "draw"},
}


def name_of(file: Path) -> str:
    parts = ["polyjax", *file.relative_to(FOLDER).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(file): file for file in FOLDER.rglob("*.py")}


def is_for_the_type_checker(node: ast.stmt) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


@cache
def imported(name: str) -> frozenset[str]:
    """Return the modules of the package that a module imports when it is loaded."""
    found = set()
    for node in ast.parse(FILES[name].read_text()).body:
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name} imports by dots"
            for each in node.names:
                whole = f"{node.module}.{each.name}"
                found.add(whole if whole in FILES else node.module)
        elif isinstance(node, ast.Import):
            found |= {each.name for each in node.names}
        else:
            inside = any(isinstance(each, ast.Import | ast.ImportFrom) for each in ast.walk(node))
            others = isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Try) or is_for_the_type_checker(node)
            assert others or not inside, f"{name} imports where this test does not look"
    return frozenset(found & FILES.keys())


def test_no_module_is_more_than_eight_imports_from_the_ground():
    chains: dict[str, tuple[str, ...]] = {}  # the longest from each module down
    for name in TopologicalSorter({name: imported(name) for name in FILES}).static_order():  # raises for a circle
        chains[name] = (name, *max((chains[each] for each in imported(name)), key=len, default=()))
    deepest = max(chains.values(), key=len)
    assert len(deepest) - 1 <= DEEPEST, " -> ".join(deepest)


@pytest.mark.parametrize("package", MAY_IMPORT)
def test_packages_import_one_way(package):
    inside = [name for name in FILES if name.startswith(f"polyjax.{package}.")]
    packages = {each.split(".")[1] for name in inside for each in imported(name) if each.count(".") >= 1}
    assert packages & MAY_IMPORT.keys() <= MAY_IMPORT[package] | {package}
