"""Commands that load a language model: what a newcomer gets wrong is named, nothing is broken."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_commands import HASHING, process, run

pytest.importorskip("torch")
pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "m"
    run("models", "fake", folder, "--like", "tiny-yarn", "--dtype", "float32")
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    (folder / "a.txt").write_text("The pier is green.")
    run("add", folder / "a.txt", "--corpus", folder / "c", *HASHING)
    return folder / "c"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["models", "fake", "file"], 2, "'file' is a file; name a folder"),
        (["models", "fake", "file/below"], 1, "file/below: Not a directory"),
        (["models", "fake", "new", "--tokenizer", "file"], 2, "'file' cannot be read as a token"),
        (["models", "fake", "new", "--dtype", "f8"], 2, "got 'f8'"),
        (["models", "convert", "x.gguf", "new"], 1, "x.gguf is damaged or cut short"),
        (["models", "convert", "nothing", "new"], 1, "'nothing' is no .gguf file"),
        (["models", "convert", "x.gguf", "file"], 2, "'file' is a file; name a folder"),
        (["models", "convert", "bin", "new"], 1, "cannot be read as a PyTorch checkpoint"),
        (["ask", "x", "--model", "x.gguf"], 1, "chunkwise models convert x.gguf NEW_FOLDER"),
        (["ask", "x", "--model", "bin", "-s", "quantize=int5"], 2, "Did you mean 'int8'"),
    ],
)
def test_wrong_arguments_are_named_and_write_nothing(
    arguments: list[str], code: int, message: str, tmp_path: Path, corpus: Path
) -> None:
    (tmp_path / "file").write_text("text")
    (tmp_path / "x.gguf").write_text("text")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "config.json").write_text("{}")
    (tmp_path / "bin" / "pytorch_model.bin").write_text("text")
    in_use = ("--corpus", corpus) if arguments[0] == "ask" else ()
    done = process(*arguments, *in_use, cwd=tmp_path)
    assert done.returncode == code, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="a terminal of its own")
@pytest.mark.slow  # depends on when the signal comes: not beside other tests
def test_ctrl_c_stops_an_answer_and_not_the_chat(model: Path, corpus: Path) -> None:
    ours, theirs = pty.openpty()
    settings = ("max_tokens=400", "kernels=reference", "dtype=float32", "token_budget=1")
    sets = [word for setting in settings for word in ("-s", setting)]
    chat = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "chunkwise",
            "chat",
            "--model",
            str(model),
            "-c",
            str(corpus),
            *sets,
        ],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=_own_terminal,
    )
    os.close(theirs)
    try:
        _until(ours, b"> ")
        os.write(ours, b"What is green?\n")
        _until(ours, b"green?\r\n")
        time.sleep(0.5)
        os.write(ours, b"\x03")
        said = _until(ours, b"> ")
        assert b"Traceback" not in said
        assert b"Ctrl-D ends" in said
        os.write(ours, b"\x04")
        assert chat.wait(20) == 0
    finally:
        chat.kill()
        chat.wait()
        os.close(ours)


def _own_terminal() -> None:
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _until(terminal: int, mark: bytes) -> bytes:
    """What a program says up to and with a mark."""
    said, end = b"", time.monotonic() + 30
    while mark not in said and time.monotonic() < end:
        if select.select([terminal], [], [], 0.2)[0]:
            said += os.read(terminal, 4096)
    assert mark in said, said.decode(errors="replace")
    return said
