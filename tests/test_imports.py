"""What may import what: the arrows of the house, and what runs where almost nothing is installed."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import resolve_name
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parent.parent
ROOMS = ("export", "targets", "calibrate", "apps")
# The command line stands on top of the applications, in their folder.
LEVELS = {"core": 0, "targets": 1, "export": 2, "calibrate": 3, "apps": 4, "apps.cli": 5}
BARE = ("loop.caption_loop", "loop.deadline", "loop.lossless", "bundle.folder", "inputs.tokens", "rules")
HEAVY = ("torch", "onnx", "onnxruntime", "onnxscript", "safetensors", "executorch", "coremltools", "torchao")
HEAVY += ("tensorrt", "tensorrt_rtx", "cuda", "scipy", "hypothesis", "pytest", "matplotlib", "optuna")
HEAVY += ("rubicon", "starlette", "uvicorn", "cv2", "toga", "PySide6")
# File → what it may import from above it: `mue_edge.open`, inside the function, what opens a bundle and
# what makes the default model's; `python -m mue_edge` the command line.
DOORS = {
    "mue_edge/__init__.py": ("mue_edge.targets", "mue_edge.apps.cli.default_bundle"),
    "mue_edge/__main__.py": ("mue_edge.apps.cli.main",),
}
OFA = "mue_edge/models/ofa/"


@dataclass(frozen=True)
class Import:
    file: str
    line: int
    name: str
    in_function: bool

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.name}"

    @property
    def level(self) -> int:
        """Of the importing file."""
        return level(self.file.removesuffix(".py").removeprefix("mue_edge/").split("/"))

    @property
    def target(self) -> int:
        return level(self.name.split(".")[1:])

    @property
    def through_a_door(self) -> bool:
        wanted = self.in_function or self.file == "mue_edge/__main__.py"
        return wanted and self.name.startswith(DOORS.get(self.file, ()))


def level(path: list[str]) -> int:
    """Of a module by its path in the package."""
    room = path[0] if path else ""
    return LEVELS.get(".".join(path[:2]), LEVELS.get(room, 0))


def module(path: Path) -> str:
    """The dotted name of a file of the package."""
    name = path.relative_to(ROOT).with_suffix("").as_posix().removesuffix("/__init__").replace("/", ".")
    return name if name.startswith("mue_edge") else f"mue_edge.{name}"


def source_files() -> list[Path]:
    files = (p for top in ("mue_edge", *ROOMS) for p in (ROOT / top).rglob("*.py"))
    return sorted(p for p in files if p.resolve() == p)  # rooms are also links in mue_edge/


def imports_of(path: Path) -> Iterator[Import]:
    """Every import of this package in a file, but those for type checkers only."""
    file = path.relative_to(ROOT).as_posix()
    package = file if file.startswith("mue_edge") else f"mue_edge/{file}"
    package = package.rpartition("/")[0].replace("/", ".")

    def visit(node: ast.AST, in_function: bool) -> Iterator[Import]:
        names: list[str] = []
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = resolve_name("." * node.level + (node.module or ""), package) if node.level else node.module
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            names = [c.value for c in node.args if isinstance(c, ast.Constant) and isinstance(c.value, str)]
        for name in names:
            if name.split(".")[0] == "mue_edge":
                yield Import(file, getattr(node, "lineno", 0), name, in_function)
        inner = in_function or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from visit(child, inner)

    yield from visit(ast.parse(path.read_text(encoding="utf-8")), False)


IMPORTS = [found for path in source_files() for found in imports_of(path)]


def test_the_scan_sees_imports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROOT", tmp_path)
    file = tmp_path / "export" / "a.py"
    file.parent.mkdir()
    file.write_text(
        "import mue_edge.apps.x\nfrom . import b\nfrom ..calibrate import c\nif TYPE_CHECKING:\n"
        "    import mue_edge.no\ndef f():\n    importlib.import_module('mue_edge.targets')\n"
    )
    found = list(imports_of(file))
    assert [(i.name, i.in_function) for i in found] == [
        ("mue_edge.apps.x", False),
        ("mue_edge.export.b", False),
        ("mue_edge.calibrate.c", False),
        ("mue_edge.targets", True),
    ]
    assert [i.target > i.level for i in found] == [True, False, True, False]
    assert len(IMPORTS) > 50


def test_imports_point_one_way() -> None:
    against = [i for i in IMPORTS if i.target > i.level and not i.through_a_door]
    assert not against, "\n".join(map(str, against))


def test_core_imports_no_networks() -> None:
    core = [i for i in IMPORTS if i.level == 0 and not i.file.startswith("mue_edge/models/")]
    wrong = [i for i in core if i.name.startswith("mue_edge.models") and not i.through_a_door]
    assert not wrong, "\n".join(map(str, wrong))


def test_only_the_family_knows_ofa() -> None:
    wrong = [i for i in IMPORTS if i.name.startswith("mue_edge.models.ofa") and not i.file.startswith(OFA)]
    assert not wrong, "\n".join(map(str, wrong))


def test_families_are_named_nowhere_else() -> None:
    """No name of a family or of its sizes, and no reading of a network's own configuration."""
    # `ofa` is also a format of tables.
    registry = {"mue_edge/models/__init__.py": 1, "calibrate/data/examples.py": 3}
    found: dict[str, int] = {}
    for path in source_files():
        file = path.relative_to(ROOT).as_posix()
        if file.startswith(OFA):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = isinstance(node, ast.Constant) and isinstance(node.value, str)
            named = named and re.fullmatch("ofa(-.*)?", str(node.value)) is not None  # type: ignore[attr-defined]
            read = isinstance(node, ast.Attribute) and ast.unparse(node.value).endswith(".config")
            if named or read:
                found[file] = found.get(file, 0) + 1
    assert found == registry


def test_no_module_exists_twice() -> None:
    """In a checkout `mue_edge.mue_edge.plan` would be a second instance of `mue_edge.plan`."""
    found = [i for path in (ROOT / "tests").rglob("*.py") for i in imports_of(path)] + IMPORTS
    doubled = [str(i) for i in found if i.name.startswith("mue_edge.mue_edge")]
    assert doubled == []


def test_the_rooms_are_links_in_the_package() -> None:
    links = {p.name: p.readlink().as_posix() for p in (ROOT / "mue_edge").iterdir() if p.is_symlink()}
    assert links == {room: f"../{room}" for room in ROOMS}


def test_the_package_imports_no_tools() -> None:
    """`tools/` is not installed."""
    outside = {path.name.removesuffix(".py") for path in (ROOT / "tools").iterdir()} | {"tools", "tests"}
    wrong = []
    for path in source_files():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [str(node.module)]
            wrong += [f"{path.relative_to(ROOT)} imports {n}" for n in names if n.partition(".")[0] in outside]
    assert not wrong


def test_packages_equal_the_folders() -> None:
    """Folders with code are installed, and each top folder under the name by which it is imported."""
    setuptools = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    folders = {p.parent.relative_to(ROOT).as_posix() for p in source_files()}
    names = {f if f.startswith("mue_edge") else f"mue_edge/{f}" for f in folders}
    assert set(setuptools["packages"]) == {name.replace("/", ".") for name in names}
    rooms = {f"mue_edge.{room}": room for room in ROOMS}
    assert setuptools["package-dir"] == {"mue_edge": "mue_edge"} | rooms
    for folder in folders:
        assert (ROOT / folder / "__init__.py").is_file(), f"{folder} has no __init__.py"


BLOCKER = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {blocked!r}:
            raise ImportError("blocked: " + name)
sys.meta_path.insert(0, Blocker())
import importlib
for name in {modules!r}:
    importlib.import_module(name)
"""


def run_blocked(blocked: tuple[str, ...], modules: list[str], then: str = "") -> None:
    code = BLOCKER.format(blocked=set(blocked), modules=modules) + then
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_loop_and_bundle_need_nothing_but_python() -> None:
    modules = [f"mue_edge.{name}" for name in BARE]
    run_blocked((*HEAVY, "numpy", "click", "PIL"), modules)


def test_the_blocker_blocks() -> None:
    with pytest.raises(AssertionError, match="blocked: PIL"):
        run_blocked(("PIL",), ["mue_edge.inputs.image"])


def test_core_needs_neither_torch_nor_onnx() -> None:
    files = [path for path in source_files() if level(module(path).split(".")[1:]) == 0]
    modules = [module(path) for path in files if "models" not in path.parts and path.stem != "__main__"]
    files = (ROOT / "apps" / "cli" / "commands").glob("*/[!_]*.py")
    commands = sorted((file.parent.name, file.stem) for file in files)
    modules += ["mue_edge", "mue_edge.targets", "mue_edge.models", "mue_edge.models.ofa.config"]
    modules += [f"mue_edge.apps.cli.commands.{group}.{name}" for group, name in commands]
    modules += ["mue_edge.apps.cli.main"]
    helps = [["--help"], *([name.rstrip("_").replace("_", "-"), "--help"] for _, name in commands)]
    # Every command's help is printed too: its options must not need the room behind it.
    run_blocked(
        HEAVY,
        modules,
        f"for args in {helps!r}:\n    try: sys.modules['mue_edge.apps.cli.main'].main(args)\n"
        "    except SystemExit as end: assert not end.code, args\n",
    )


# Where a word that is also a stack's name means something else, or the contract's segment is meant.
OTHER_MEANINGS = {
    "mue_edge/loop/protocol.py": "DECODER itself; buffers' kind",
    "mue_edge/bundle/version_1.py": "the names in 0.1's files",
    "apps/cli/commands/run/entail.py": "an argument of the command line",
    "calibrate/data/examples.py": "a table's column",
    "calibrate/data/statement_tables.py": "a table's column",
    "apps/camera/watching.py": "a key of the page's data",
    "export/coreml/format.py": "a package's name",
}


def test_no_stack_is_spelled_outside_its_family() -> None:
    """What goes through a layout's stacks knows none by name but DECODER."""
    names = {"image", "encoder", "decoder"}
    spelled = set()
    for path in source_files():
        file = path.relative_to(ROOT).as_posix()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and node.value in names:
                spelled.add(file)
    wrong = {file for file in spelled if not file.startswith(("mue_edge/models/", *OTHER_MEANINGS))}
    assert not wrong


# Lines `PACKAGE: room ← room, room ← …` of the page.
ARROWS = dict(
    re.findall(r"^(mue_edge[a-z_.]*): (.+ ← .+)$", (ROOT / "docs/architecture.md").read_text(encoding="utf-8"), re.M)
)


@pytest.mark.parametrize("package", ARROWS)
def test_arrows_of_the_page_are_the_imports(package: str) -> None:
    """A room imports only rooms to its left."""
    places = {room: i for i, rooms in enumerate(ARROWS[package].split(" ← ")) for room in rooms.split(", ")}

    def place(name: str) -> int | None:
        return places.get(name.removeprefix(f"{package}.").partition(".")[0])

    inside = [(i, place(module(ROOT / i.file)), place(i.name)) for i in IMPORTS if i.name.startswith(package)]
    pairs = [(i, own, other) for i, own, other in inside if own is not None and other is not None]
    assert len({own for _, own, _ in pairs}) > 3
    wrong = [str(i) for i, own, other in pairs if other > own]
    assert not wrong, "\n".join(wrong)


def test_the_page_has_arrows() -> None:
    assert list(ARROWS) == ["mue_edge", "mue_edge.calibrate"]
    for package, rooms in ARROWS.items():
        folder = ROOT / package.replace("mue_edge.calibrate", "calibrate")
        assert all((folder / room).is_dir() for room in re.split(" ← |, ", rooms))


def test_rooms_are_small() -> None:
    """At most 16 files a folder."""
    files = Counter(path.parent.relative_to(ROOT).as_posix() for path in source_files())
    assert {folder: count for folder, count in files.items() if count > 16} == {}


def test_a_class_name_means_one_thing() -> None:
    classes = Counter(
        node.name
        for path in source_files()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef)
    )
    assert [name for name, count in classes.items() if count > 1] == []
