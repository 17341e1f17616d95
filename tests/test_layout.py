"""Which part may import which; read from the source, in-function imports too."""

import ast
import functools
from pathlib import Path

import chunkwise

SRC = Path(chunkwise.__file__).parent
FREE = {"types", "scores", "errors"}
ALLOWED = {
    "errors": set(),
    "types": {"errors"},
    "scores": {"types", "errors"},
    "registry": FREE,
    "packaged": FREE,
    "model_names": {*FREE, "registry", "packaged"},
    "config": {*FREE, "registry", "packaged", "model_names"},
    "prompting": FREE,
    "store": FREE,
    "llm": {*FREE, "registry", "llm"},
    "rag": {*FREE, "registry", "rag"},
    "pipeline": FREE
    | {"registry", "config", "model_names", "packaged", "prompting", "store", "llm", "rag"}
    | {"pipeline", ""},
    "training": FREE
    | {"registry", "packaged", "prompting", "rag", "llm", "evaluation", "training", ""},
    "evaluation": {*FREE, "registry", "pipeline", "rag", "config", "store", "evaluation"},
    "tuning": FREE
    | {"registry", "config", "prompting", "store", "rag", "pipeline", "evaluation", "tuning", ""},
    "cli": None,  # may import anything
    "": None,  # the package's own face
    "__main__": None,
}
HEAVY = {"torch", "tokenizers", "safetensors", "transformers", "usearch", "tiktoken"}


@functools.cache
def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name below it."""
    found = {}
    for path in SRC.rglob("*.py"):
        parts = path.relative_to(SRC).with_suffix("").parts
        found[".".join(p for p in parts if p != "__init__")] = path
    return found


@functools.cache
def imports(path: Path) -> set[str]:
    """Dotted names that a module imports, outside of `if TYPE_CHECKING`."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def own(names: set[str]) -> set[str]:
    """Names below our package that are modules, without the package's name."""
    known = modules()
    inner = {n.removeprefix("chunkwise.") for n in names if n.startswith("chunkwise.")}
    return {n for n in inner if n in known}


def rooms_with_algorithms() -> list[str]:
    """Rooms of either wing whose `base` holds a registry."""
    bases = [name.removesuffix(".base") for name in modules() if name.endswith(".base")]
    uses = "chunkwise.registry.Registry"
    return [room for room in bases if uses in imports(modules()[f"{room}.base"])]


def shared_modules(room: str) -> set[str]:
    """Modules of a room that are no algorithms, from the room's registry."""
    import importlib

    from chunkwise.registry import Registry

    base = importlib.import_module(f"chunkwise.{room}.base")
    (registry,) = (v for v in vars(base).values() if isinstance(v, Registry))
    return {f"{room}.{name}" for name in registry.shared}


def test_parts_import_only_what_the_table_allows() -> None:
    wrong = []
    for name, path in modules().items():
        top = name.partition(".")[0]
        allowed = ALLOWED[top]
        if allowed is None:
            continue
        for other in own(imports(path)):
            if other.partition(".")[0] not in allowed | {top}:
                wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_a_leaf_imports_no_other_leaf_and_no_other_room() -> None:
    wrong = []
    for name, path in modules().items():
        parts = name.split(".")
        room = ".".join(parts[:2])
        if len(parts) < 3 or room not in rooms_with_algorithms():
            continue
        allowed = shared_modules(room) | {room, *FREE, "registry"}
        if parts[0] == "llm":
            allowed |= {"llm.sequence", "llm.kernels.ops"}
        private = {m for m in modules() if m.rpartition(".")[2].startswith("_")}
        for other in own(imports(path)) - allowed - private:
            wrong.append(f"{name} imports {other}")
    assert not wrong, "\n".join(wrong)


def test_heavy_packages_stay_in_leaves() -> None:
    """The text wing runs without torch; only the leaf that needs a package imports it."""
    wrong = []
    for name, path in modules().items():
        heavy = {n.partition(".")[0] for n in imports(path)} & HEAVY
        leaf = name.count(".") == 2 and name.startswith("rag.")
        if heavy and not leaf and not name.startswith(("llm.", "training.")):
            wrong.append(f"{name} imports {sorted(heavy)}")
    assert not wrong, "\n".join(wrong)


def test_only_kernels_know_what_hardware_there_is() -> None:
    wrong = []
    for name, path in modules().items():
        if not name.startswith("llm.") or name.startswith("llm.kernels."):
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        said = {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute)}
        said |= {n.partition(".")[0] for n in imports(path)}
        wrong += [f"{name}: {word}" for word in said & {"cuda", "is_available", "triton"}]
    assert not wrong


def test_importing_the_package_imports_nothing_heavy() -> None:
    import subprocess
    import sys

    code = (
        "import sys, chunkwise; "
        f"print([m for m in {sorted(HEAVY | {'numpy', 'typer', 'httpx'})!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_every_leaf_names_one_class() -> None:
    import importlib

    from chunkwise.registry import Registry

    for room in sorted(rooms_with_algorithms()):
        base = importlib.import_module(f"chunkwise.{room}.base")
        (registry,) = (v for v in vars(base).values() if isinstance(v, Registry))
        assert registry.own, f"{room} has no algorithm"
        for name in registry.own:
            cls = registry.load(name)
            assert isinstance(cls, type), f"{room}.{name}"
            assert cls.__doc__, f"{room}.{name}: {cls.__name__} has no docstring"


def test_no_file_holds_a_second_idea() -> None:
    long = {n: len(p.read_text().splitlines()) for n, p in modules().items()}
    assert not {n: lines for n, lines in long.items() if lines > 500}
