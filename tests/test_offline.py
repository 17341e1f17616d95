"""Offline means offline: the whole way works with sockets blocked."""

import subprocess
import sys
from pathlib import Path

SAMPLES = Path(__file__).parent.parent / "samples"

SITE = """
import socket, sys

def _blocked(*args, **kwargs):
    sys.stderr.write("SOCKET OPENED\\n")
    raise OSError("sockets are blocked in this test")

socket.socket.connect = _blocked
socket.socket.connect_ex = _blocked
socket.socket.sendto = _blocked
socket.create_connection = _blocked
socket.getaddrinfo = _blocked
"""


def run(site: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The command line in an environment in which no process can open a connection."""
    import os

    environ = {**os.environ, "PYTHONPATH": str(site), "HOME": str(site / "home")}
    command = [sys.executable, "-m", "chunkwise.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False)


def test_add_search_and_ask_open_no_socket(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(SITE)
    (tmp_path / "home").mkdir()
    corpus = str(tmp_path / "corpus")
    probe = "import socket; socket.create_connection(('localhost', 9))"
    blocked = subprocess.run(
        [sys.executable, "-c", probe],
        env={"PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "SOCKET OPENED" in blocked.stderr, "the block itself must work"
    for arguments in (
        ["add", str(SAMPLES), "--corpus", corpus],
        ["search", "battery pack", "--corpus", corpus, "--json"],
        ["ask", "How much did the battery pack cost?", "--corpus", corpus, "--json"],
        ["doctor", "--corpus", corpus, "--json"],
    ):
        done = run(tmp_path, *arguments)
        assert done.returncode == 0, done.stderr
        assert "SOCKET OPENED" not in done.stderr
