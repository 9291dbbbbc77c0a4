"""The walls: imports go down, the surface has no torch, files stay small, nothing unsafe is called; and the words."""

import ast
import functools
import graphlib
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ssl_cli"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST_FILE, LONGEST_CLASS, LONGEST_FUNCTION = 350, 150, 60
LINES = {"engine/train.py": 280, "engine": 4000, "bench": 500}
"""Most lines of a file, or of all files of a folder."""

WORDS = {"config", "disk", "recipes", "registry", "error_file", "events", "errors", "logs", "names", "signals", "world"}
WORDS |= {"packages", "records", "verdict"}
SHARED = {"cgroups", "distributed", "draws", "lock", "lettering", "memory", "spinning", "status", "tensor_file"}
"""Single modules that the other parts may use."""
PARTS = SHARED | {"watchdog", "nn", "losses", "augment", "optim", "data", "formats"}
CONTRACT = {"objective", "own_loop"}  # what a batch and a method are: parts are handed batches, so it lies below them
OBJECTIVES = {"methods", "transfer"}
READING = {"run_path", "runs", "curves", "comparison", "watch", "trackers"}
"""What reads the files of runs, and their events; `records` is below them, for the verdict."""
SURFACE = {"commands", "ui", "cli", "__main__", "__init__"}
FLOORS = [
    WORDS,
    CONTRACT,
    PARTS,
    OBJECTIVES | READING | {"checkpoint", "planning", "weights"},
    {"engine"},
    {"bench", "doctor", "data_check", "sheet", "pipeline", "study", "vectors", "maps", "exports", "protocols", "api"},
    SURFACE,
]
ENGINE = [
    "rows",
    "gradient",
    "build",
    "plan",
    "run",
    "views",
    "evaluation",
    "metrics",
    "workers/exchange",
    "train",
    "workers",
    "pretrain",
]
"""The files and folders of the engine; each imports only those before it."""
HEAVY = {"torch", "torchvision", "numpy", "PIL", "onnx", "onnxruntime", "onnxscript", "safetensors", "sklearn", "umap"}


@functools.cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


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
    parts = (name.split(".") for name in imported(parsed(path)))
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
    sideways = neighbours(path) & PARTS - SHARED
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
            roots = {name.partition(".")[0] for name in imported(parsed(path))}
            assert roots <= {"torch", "ssl_cli", *standard}, relative(path)
            assert not neighbours(path), relative(path)


@pytest.mark.parametrize("path", [path for path in FILES if home(path) in SURFACE | WORDS], ids=relative)
def test_the_surface_has_no_torch_at_module_level(path: Path) -> None:
    outside_functions = ast.Module([node for node in parsed(path).body if not isinstance(node, ast.FunctionDef)], [])
    names = set(imported(outside_functions))
    assert not {name.partition(".")[0] for name in names} & HEAVY
    assert not any(name.startswith("ssl_cli.engine") for name in names)


def within_engine(path: Path) -> set[str]:
    """The modules of the engine that one of them imports, by their paths below the engine, without a suffix."""
    found = set()
    for name in imported(parsed(path)):
        root, _, below = name.partition("ssl_cli.engine.")
        parts = [] if root else below.split(".")
        for length in range(len(parts), 0, -1):
            if PACKAGE.joinpath("engine", *parts[:length]).with_suffix(".py").is_file():
                found.add("/".join(parts[:length]))
                break
    return found


MODULES = {
    path.relative_to(PACKAGE / "engine").with_suffix("").as_posix(): path
    for path in FILES
    if home(path) == "engine" and path.stem != "__init__"
}


def unit_of(module: str) -> str:
    return module if module in ENGINE else module.partition("/")[0]


@pytest.mark.parametrize("module", MODULES)
def test_imports_within_the_engine_go_down(module: str) -> None:
    unit = unit_of(module)
    assert unit in ENGINE
    for other in within_engine(MODULES[module]):
        below = unit_of(other)
        assert ENGINE.index(below) < ENGINE.index(unit) or ("/" in module and below == unit), f"it imports {other}"


def test_the_engine_has_no_import_cycle() -> None:
    order = graphlib.TopologicalSorter({module: within_engine(path) for module, path in MODULES.items()})
    assert set(order.static_order()) == set(MODULES)


def test_dividing_is_arithmetic_and_measuring_knows_no_settings() -> None:
    places = PACKAGE / "planning" / "divide.py", MODULES["plan/measure"]
    divide, measure = (set(imported(parsed(path))) for path in places)
    assert not {name.partition(".")[0] for name in divide} & HEAVY
    assert not [name for name in divide | measure if name.startswith("ssl_cli.config")]


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_files_classes_and_functions_are_small(path: Path) -> None:
    assert lines(path) <= LONGEST_FILE
    for node in ast.walk(parsed(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            length = (node.end_lineno or 0) - node.lineno + 1
            limit = LONGEST_CLASS if isinstance(node, ast.ClassDef) else LONGEST_FUNCTION
            assert length <= limit, f"{node.name} has {length} lines"


def lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("name", LINES)
def test_the_budgets_of_lines_are_held(name: str) -> None:
    place = PACKAGE / name
    found = sum(map(lines, sorted(place.rglob("*.py")) if place.is_dir() else [place]))
    assert found <= LINES[name], f"{name} has {found} lines"


def test_the_loop_is_there() -> None:
    tree = parsed(PACKAGE / "engine" / "train.py")
    assert "train" in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


def test_no_file_is_called_utils() -> None:
    names = {path.stem for path in [*FILES, *(ROOT / "tests").rglob("*.py"), *(ROOT / "examples").rglob("*.py")]}
    assert not names & {"utils", "util", "helpers", "helper", "misc", "common"}


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_nothing_unsafe_is_called(path: Path) -> None:
    tree = parsed(path)
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


INSTEAD = {
    r"(?<!model )cards?": "GPU, device",
    r"told|tells?": "reported, prints, states; between ranks: broadcast",
    r"exchanged": "all_gather, all_reduce",
    r"(first|other|second) process(es)?|those beside it": "rank 0, the other ranks, worker process",
    r"peers?": "the other ranks",
    r"dealt|spanning": "local rows, shard, across ranks",
    r"shortage|(run|runs|ran|running) out|memory that (runs|ran) out": "out of memory (OOM)",
    r"begun": "started; for views: prefetched",
    r"ahead": "prefetch",
    r"(pass|passes|passed|pass it|passes it|go|goes) (again|anew)": "recompute",
    r"housed|housing|residences?|images stay": "cache in GPU memory, cache in RAM, decode every epoch",
    r"gates?|gated|admits?|admitted": "skip a non-finite step",
    r"(take|takes|taken|took|taking) back": "roll back",
    r"pace": "throughput, time of a forward and a backward pass",
    r"understood": "converted (an exception)",
    r"borrow(ed|s)?": "library backbone, third-party",
    r"(go|goes|going|gone|went) on": "resumes, continues",
    r"divisions?": "micro-batch plan",
    r"beside": "in addition to, next to, without",
}
"""Regular expressions of whole words that are never written, upper or lower case, and what is written instead."""
IN_PROSE = {"ahead": "README.md", "divisions?": "README.md", r"told|tells?": "write.py"}
"""Files in which a word has its plain meaning, or is a name of Python's own (`tell`)."""
EARLIER = re.compile(r"[\"'](card_bytes|kept|shortage)[\"']")
"""Keys in the plan.json and checkpoints of earlier versions."""


@functools.cache
def text(path: Path) -> tuple[str, ...]:
    """The lines of a file, identifiers taken apart: `on_card` and `OnCard` are `on card`."""
    whole = EARLIER.sub("", path.read_text(encoding="utf-8"))
    return tuple(re.sub(r"_|(?<=[a-z])(?=[A-Z])", " ", line).lower() for line in whole.splitlines())


TEXTS = [
    *FILES,
    *sorted(PACKAGE.rglob("*.toml")),
    *sorted(path for path in (ROOT / "examples").iterdir() if path.is_file()),
    ROOT / "README.md",
    ROOT / "Makefile",
]


@pytest.mark.parametrize("word", INSTEAD)
def test_words_are_the_field_s(word: str) -> None:
    met = re.compile(rf"\b({word})\b")
    found = [
        f"{path.relative_to(ROOT)}:{number}: {hit[0]}"
        for path in TEXTS
        if IN_PROSE.get(word) != path.name
        for number, line in enumerate(text(path), 1)
        for hit in [met.search(line)]
        if hit
    ]
    assert not found, f"Write: {INSTEAD[word]}\n" + "\n".join(found)


NAMES = {
    "LateGate": "nothing: a non-finite step is skipped before the update",
    "admits": "nothing: a non-finite step is skipped before the update",
    "took_back": "nothing: a non-finite step is skipped before the update",
    "Residence": "the cache in GPU memory or RAM",
    "housed": "the cache in GPU memory or RAM",
    "Need": "a memory estimate",
    "Division": "MicroBatchPlan",
    "divided": "a MicroBatchPlan, micro_batch",
    "beside": "what is counted in addition",
    "Pace": "Timing, throughput",
    "Passes": "Timing, throughput",
    "Share": "Shard",
    "dealt": "local rows",
    ".own": "local, local_rows",
    "shared": "shard, across_ranks",
    "spanning": "splits_groups, across_ranks",
    "Peer": "the other rank",
    "follow": "update_ema",
    "told": "broadcast, events",
    "exchanged": "all_gather",
    "highest": "all_reduce_max",
    "meet": "barrier",
    "_heard": "broadcast",
    "sent": "to_device",
    ".some": "select",
    "kept": "kept_graphs",
    "pull": "import, prefetch",
    "understood": "convert_exception",
    "early": "prefetch",
    "Branch": "Section",
    "Written": "what the file holds",
}
"""Identifiers that are never used (with a dot: as an attribute or a function), and what is used instead."""


def identifiers(path: Path) -> Iterator[tuple[str, int]]:
    """Yield names of variables, attributes, arguments, functions, classes and imports in a file, with their lines."""
    for node in ast.walk(parsed(path)):
        match node:
            case ast.Attribute(attr=name) | ast.FunctionDef(name=name):
                yield f".{name}", node.lineno
        match node:
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.keyword(arg=str(name)):
                yield name, getattr(node, "lineno", 0)
            case ast.FunctionDef(name=name) | ast.ClassDef(name=name):
                yield name, node.lineno
            case ast.alias(name=name, asname=other):
                yield other or name.rpartition(".")[2], node.lineno


@functools.cache
def used() -> dict[str, list[str]]:
    """For each identifier in the package, where it is used."""
    found: dict[str, list[str]] = {}
    for path in FILES:
        for name, number in identifiers(path):
            found.setdefault(name, []).append(f"{relative(path)}:{number}")
    return found


@pytest.mark.parametrize("name", NAMES)
def test_names_are_the_field_s(name: str) -> None:
    found = used().get(name, [])
    assert not found, f"{name} -> {NAMES[name]}: {', '.join(found)}"


PASSED_OVER = {"dist", "build", "venv", "_build", "site-packages", "node_modules", "buck-out", "CVS", "_darcs"}
"""Folders that pytest or ruff leave out by default."""


def test_no_folder_is_passed_over_by_the_tools() -> None:
    folders = {folder.name for part in (PACKAGE, ROOT / "tests") for folder in part.rglob("*") if folder.is_dir()}
    assert not folders & PASSED_OVER
