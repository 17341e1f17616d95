"""Documentation cannot fall behind: generated pages are current, rooms and errors are named."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest

import chunkwise
from chunkwise import errors

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"


def make_docs() -> object:
    spec = importlib.util.spec_from_file_location("make_docs", ROOT / "scripts" / "make_docs.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["make_docs"] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", ["settings.md", "methods.md", "papers.md"])
def test_generated_pages_are_current(page: str) -> None:
    assert make_docs().PAGES[page]() == (DOCS / page).read_text(), "run `make docs`"  # type: ignore[attr-defined]


def test_architecture_names_every_part_and_room() -> None:
    text = (DOCS / "architecture.md").read_text()
    source = Path(chunkwise.__file__).parent
    parts = {p.stem for p in source.glob("*.py") if not p.stem.startswith("_")}
    parts |= {p.parent.name for p in source.rglob("__init__.py") if p.parent != source}
    missing = sorted(part for part in parts if f"`{part}" not in text and f"/{part}" not in text)
    assert not missing


def test_every_error_is_in_the_tree_that_errors_draws() -> None:
    drawn = errors.__doc__ or ""
    names = [name for name, value in vars(errors).items() if inspect.isclass(value)]
    assert not [name for name in names if name not in drawn]


def test_every_command_is_in_the_readme() -> None:
    from chunkwise.cli import documents, inspection, questions  # noqa: F401
    from chunkwise.cli.app import app

    readme = (ROOT / "README.md").read_text()
    names = [c.name or c.callback.__name__ for c in app.registered_commands if c.callback]
    assert not [name for name in names if f"`{name}`" not in readme]


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for page in [*DOCS.glob("*.md"), ROOT / "README.md"]:
        for target in re.findall(r"\]\(([^)#\s]+)", page.read_text()):
            if not target.startswith("http") and not (page.parent / target).exists():
                broken.append(f"{page.name}: {target}")
    assert not broken


def test_no_document_names_a_place_on_a_machine() -> None:
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    assert not [
        p.name for p in pages if re.search(r"(?<![\w.])/(root|home|work|tmp)/", p.read_text())
    ]
