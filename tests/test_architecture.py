"""The walls: imports go down, the surface has no torch, files and functions stay small, nothing unsafe is called."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssl_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_FUNCTION, LONGEST_LOOP = 350, 60, 40

WORDS = {"config", "recipes", "registry", "events", "errors", "names", "world"}
PARTS = {"distributed", "draws", "nn", "losses", "augment", "optim", "data", "export"}
CONTRACT = {"objective"}  # what a batch and a method are: parts are handed batches, so it lies below them
OBJECTIVES = {"methods", "transfer"}
SURFACE = {"commands", "ui", "cli", "__main__", "__init__"}
FLOORS = [WORDS, CONTRACT, PARTS, OBJECTIVES, {"engine"}, {"bench"}, SURFACE]
EVERYWHERE = {"distributed", "draws"}  # single modules of floor 1 that its folders may use
HEAVY = {"torch", "torchvision", "numpy", "PIL", "onnx", "onnxruntime", "onnxscript", "safetensors", "sklearn"}


def relative(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


def home(path: Path) -> str:
    """The folder, or the top-level module, that a file belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(tree: ast.AST) -> Iterator[str]:
    """Dotted names of all modules imported anywhere in a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"a relative import in line {node.lineno}"
            # what is imported may itself be a module: `from ssl_cli import distributed`
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def neighbours(path: Path) -> set[str]:
    """The folders and top-level modules of ours that a file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    parts = (name.split(".") for name in imported(tree))
    return {name[1] for name in parts if name[0] == "ssl_cli" and len(name) > 1} - {home(path), "__version__"}


def floor(name: str) -> int:
    return next(number for number, names in enumerate(FLOORS) if name in names)


def test_every_module_has_a_floor() -> None:
    assert {home(path) for path in FILES} <= set().union(*FLOORS)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_imports_go_down(path: Path) -> None:
    for other in neighbours(path):
        assert floor(other) <= floor(home(path)), f"{relative(path)} imports {other}, which is above it"


@pytest.mark.parametrize("path", [path for path in FILES if home(path) in PARTS], ids=relative)
def test_parts_do_not_import_one_another(path: Path) -> None:
    sideways = neighbours(path) & PARTS - EVERYWHERE
    assert not sideways, f"{relative(path)} imports {sideways}"


def test_methods_and_transfer_never_see_each_other() -> None:
    for path in FILES:
        if home(path) == "methods":
            assert "transfer" not in neighbours(path), relative(path)
        if home(path) == "transfer":
            assert "methods" not in neighbours(path), relative(path)


def test_losses_see_torch_alone() -> None:
    standard = {"math", "collections", "typing", "dataclasses", "__future__"}
    for path in FILES:
        if home(path) == "losses":
            roots = {name.partition(".")[0] for name in imported(ast.parse(path.read_text(encoding="utf-8")))}
            assert roots <= {"torch", "ssl_cli", *standard}, relative(path)
            assert not neighbours(path), relative(path)


@pytest.mark.parametrize("path", [path for path in FILES if home(path) in SURFACE | WORDS], ids=relative)
def test_the_surface_has_no_torch_at_module_level(path: Path) -> None:
    outside_functions = ast.Module(
        [node for node in ast.parse(path.read_text(encoding="utf-8")).body if not isinstance(node, ast.FunctionDef)], []
    )
    names = set(imported(outside_functions))
    assert not {name.partition(".")[0] for name in names} & HEAVY
    assert not any(name.startswith("ssl_cli.engine") for name in names)


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert len(text.splitlines()) <= LONGEST_FILE
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            limit = LONGEST_LOOP if (relative(path), node.name) == ("engine/train.py", "train") else LONGEST_FUNCTION
            assert length <= limit, f"{node.name} has {length} lines"


def test_the_loop_is_there() -> None:
    tree = ast.parse((PACKAGE / "engine" / "train.py").read_text(encoding="utf-8"))
    assert "train" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_file_is_called_utils() -> None:
    names = {path.stem for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]}
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_unsafe_is_called(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    modules = set(imported(tree))
    assert not {name.partition(".")[0] for name in modules} & {
        "pickle",
        "cPickle",
        "dill",
        "marshal",
        "shelve",
        "click",
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if isinstance(node.func, ast.Name):
            assert node.func.id not in {"eval", "exec", "compile", "__import__"}, f"line {node.lineno}"
        given = {word.arg: word.value.value for word in node.keywords if isinstance(word.value, ast.Constant)}
        assert given.get("shell") is not True, f"line {node.lineno}"
        assert given.get("weights_only") is not False, f"line {node.lineno}"
        if ast.unparse(node.func) == "torch.load":
            assert given.get("weights_only") is True, f"line {node.lineno}"
