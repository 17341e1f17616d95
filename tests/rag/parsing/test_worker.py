"""Bad files, bad parsers and killed processes cost one file each, and leave nothing behind."""

import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from chunkwise.errors import ChunkwiseError, ConfigError
from chunkwise.rag.parsing import parse
from chunkwise.rag.parsing.worker import Job, Limits, Parsed, ParserPool

FAST = Limits(timeout_s=20, memory_bytes=512 * 2**20)
# An installed parser, as another package would bring it, that does what its file says.
UNRULY = """
import ctypes, os, sys, time
from typing import ClassVar
from chunkwise.types import Document

class Unruly:
    suffixes: ClassVar = (".unruly",)
    def parse(self, data, *, name):
        if data == b"loop":
            while True: pass
        if data == b"loop in C":
            import re; re.match("(a+)+$", "a" * 64 + "b")
        if data == b"crash":
            ctypes.string_at(0)
        if data == b"exit":
            os._exit(3)
        if data == b"memory":
            hog = [bytes(2**20) for _ in range(10**6)]
        if data == b"wrapped memory":
            try: hog = [bytes(2**20) for _ in range(10**6)]
            except MemoryError as error: raise ValueError("no room") from error
        if data == b"error":
            raise ZeroDivisionError("a defect")
        if data == b"print":
            print("noise" * 10_000); os.write(1, b"more noise"); sys.stdin.read()
        if data == b"large":
            return Document(name, "x" * 3_000_000)
        return Document(name, data.decode())
"""


@pytest.fixture(autouse=True)
def unruly(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path_factory.mktemp("installed")
    (folder / "unruly_parser.py").write_text(UNRULY)
    info = folder / "unruly-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: unruly\nVersion: 1\n")
    entry = "[chunkwise.rag.parsing]\nunruly = unruly_parser:Unruly\n"
    (info / "entry_points.txt").write_text(entry)
    before = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(folder), before])))


@pytest.fixture(autouse=True)
def nothing_left() -> Iterator[None]:
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    yield
    assert children_of(os.getpid()) == []
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before


def children_of(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text().rpartition(")")[2].split()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if int(fields[1]) == pid:
                found.append(int(entry.name))
    return found


def write(folder: Path, *contents: str) -> list[Job]:
    """Files for the unruly parser, one for each content."""
    jobs = []
    for number, content in enumerate(contents):
        path = folder / f"{number:04}.unruly"
        path.write_text(content)
        jobs.append(Job(path.name, str(path)))
    return jobs


def run(jobs: list[Job], *, workers: int = 2, limits: Limits = FAST) -> list[Parsed]:
    with ParserPool(workers, limits) as pool:
        return list(pool.parse_all(jobs))


def test_results_come_in_the_order_of_the_jobs_and_equal_parsing_here(tmp_path: Path) -> None:
    jobs = []
    for number in range(200):
        path = tmp_path / f"{number}.md"
        path.write_text(f"# Title {number}\n\n" + "Some words.\n\n" * (number * 37 % 101))
        jobs.append(Job(f"docs/{number}.md", str(path)))
    results = run(jobs)
    assert [r.name for r in results] == [j.name for j in jobs]
    for job, result in zip(jobs, results, strict=True):
        data = Path(job.path).read_bytes()
        assert result.document == parse(data, name=job.name)
        assert (result.error, result.size_bytes, result.unchanged) == (None, len(data), False)
        assert len(result.source_hash) == 32
        assert result.mtime_ns == os.stat(job.path).st_mtime_ns


def test_files_with_known_bytes_are_not_parsed(tmp_path: Path) -> None:
    jobs = write(tmp_path, "one", "two", "three")
    with ParserPool(2, FAST) as pool:
        known = {r.name: r.source_hash for r in pool.parse_all(jobs)}
        Path(jobs[1].path).write_text("new")
        again = list(pool.parse_all(jobs, known=known))
    assert [r.unchanged for r in again] == [True, False, True]
    assert [r.document is None for r in again] == [True, False, True]
    assert all(r.error is None for r in again)


@pytest.mark.parametrize(
    ("content", "error"),
    [
        ("crash", "SIGSEGV"),
        ("exit", "exit code 3"),
        ("error", "ZeroDivisionError: a defect"),
        ("memory", "512 MiB of memory; raise `parse_memory_mb`"),
        ("wrapped memory", "512 MiB of memory"),
    ],
)
def test_a_bad_file_costs_only_itself(tmp_path: Path, content: str, error: str) -> None:
    results = run(write(tmp_path, "a", "b", content, "c", content, "d"))
    good = [r.document.text for r in results if r.document]
    assert good == ["a", "b", "c", "d"]
    assert [error in (r.error or "") for r in results] == [False, False, True, False, True, False]


@pytest.mark.parametrize("content", ["loop", "loop in C"])
def test_a_parser_that_does_not_end_is_stopped(tmp_path: Path, content: str) -> None:
    jobs = write(tmp_path, "a", content, "b", "c")
    results = run(jobs, limits=Limits(timeout_s=0.5))
    assert [r.error is None for r in results] == [True, False, True, True]
    assert results[1].error == "took longer than 0.5 s; raise `parse_timeout_s`"
    assert 0.4 < results[1].seconds < 5


def test_time_the_caller_takes_is_not_counted(tmp_path: Path) -> None:
    with ParserPool(2, Limits(timeout_s=0.3)) as pool:
        results = []
        for result in pool.parse_all(write(tmp_path, *["large"] * 6)):
            results.append(result)
            time.sleep(0.4)
    assert [r.error for r in results] == [None] * 6


def test_what_a_parser_prints_or_reads_disturbs_nothing(tmp_path: Path) -> None:
    results = run(write(tmp_path, "print", "a", "print", "b"), workers=1)
    assert [r.document.text for r in results if r.document] == ["print", "a", "print", "b"]


def test_a_folder_of_scripts_hides_no_standard_module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "selectors.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "json.py").write_text("raise SystemExit('the wrong module')")
    monkeypatch.chdir(tmp_path)
    (result,) = run([Job("json.py", "json.py")])
    assert result.error is None


def test_files_that_are_no_regular_files_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.txt")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "circle.txt").symlink_to(tmp_path / "circle.txt")
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(tmp_path / "socket.txt"))
    names = ["fifo.txt", "folder.txt", "circle.txt", "socket.txt", "gone.txt", "nul\0.txt"]
    jobs = [Job(n, str(tmp_path / n)) for n in names] + [Job("zero", "/dev/zero")]
    errors = [r.error or "" for r in run(jobs)]
    server.close()
    expected = ["a FIFO", "a folder", "in a circle", "a socket", "not there", "null", "a character"]
    assert [e in error for e, error in zip(expected, errors, strict=True)] == [True] * 7, errors


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read everything")
def test_files_without_permission_are_reported(tmp_path: Path) -> None:
    (job,) = write(tmp_path, "a")
    os.chmod(job.path, 0)
    assert "permission denied" in (run([job])[0].error or "")


def test_files_over_the_size_limit_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "huge.txt").touch()
    os.truncate(tmp_path / "huge.txt", 2**40)  # sparse
    jobs = [Job("huge", str(tmp_path / "huge.txt")), *write(tmp_path, "a")]
    results = run(jobs)
    assert "raise `max_file_mb`" in (results[0].error or "")
    assert results[0].seconds < 1
    assert results[1].error is None


def test_a_file_that_keeps_changing_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "growing.txt"
    path.touch()
    os.truncate(path, 100 * 2**20)
    stop = threading.Event()

    def grow() -> None:
        with path.open("ab", buffering=0) as file:
            while not stop.wait(0.001):
                file.write(b"more\n")

    writer = threading.Thread(target=grow)
    writer.start()
    try:
        (result,) = run([Job("growing", str(path))])
    finally:
        stop.set()
        writer.join()
    assert "changed while it was read" in (result.error or "")


def test_one_line_of_50_mb_is_read_or_refused_but_never_fatal(tmp_path: Path) -> None:
    path = tmp_path / "line.txt"
    path.write_bytes(b"word " * (10 * 2**20))
    results = run([Job("line", str(path)), *write(tmp_path, "a")])
    assert results[0].document is not None or results[0].error
    assert results[1].error is None


def test_killing_a_child_costs_one_file(tmp_path: Path) -> None:
    jobs = write(tmp_path, "loop", "a", "b")

    def kill() -> None:
        (child,) = wait_for_busy_children(os.getpid(), 1)
        os.kill(child, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    killer.start()
    results = run(jobs, workers=1)
    killer.join()
    assert "SIGKILL" in (results[0].error or "")
    assert [r.error for r in results[1:]] == [None, None]


PARENT = """
import sys
from chunkwise.rag.parsing.worker import Job, Limits, ParserPool
with ParserPool(2) as pool:
    jobs = [Job(p, p) for p in sys.argv[1:]]
    try:
        print([r.error for r in pool.parse_all(jobs)])
    except KeyboardInterrupt:
        print("interrupted", [r.error for r in pool.parse_all(jobs[2:])], flush=True)
"""


@pytest.mark.parametrize("content", ["loop", "loop in C"])
def test_children_end_with_a_killed_parent(tmp_path: Path, content: str) -> None:
    paths = [job.path for job in write(tmp_path, content, content)]
    with subprocess.Popen([sys.executable, "-c", PARENT, *paths]) as parent:
        found = wait_for_busy_children(parent.pid)
        parent.kill()
    end = time.monotonic() + 10
    while any(is_running(pid) for pid in found):
        assert time.monotonic() < end, "a child outlived its parent"
        time.sleep(0.02)


def test_an_interrupt_is_for_the_parent_alone(tmp_path: Path) -> None:
    paths = [job.path for job in write(tmp_path, "loop", "loop", "a")]
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, *paths],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    wait_for_busy_children(parent.pid)
    os.killpg(parent.pid, signal.SIGINT)
    out, err = parent.communicate(timeout=30)
    assert (out, err) == (b"interrupted [None]\n", b"")


def wait_for_busy_children(pid: int, number: int = 2) -> list[int]:
    """Children that have computed for longer than a start takes."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        found = [child for child in children_of(pid) if cpu_seconds(child) > 1.2]
        if len(found) == number:
            return found
        time.sleep(0.02)
    raise AssertionError("the children did not start")


def cpu_seconds(pid: int) -> float:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_jobs_are_read_lazily_and_a_batch_can_be_left(tmp_path: Path) -> None:
    jobs = write(tmp_path, *map(str, range(300)))
    taken = []

    def source() -> Iterator[Job]:
        for job in jobs:
            taken.append(job)
            yield job

    with ParserPool(2, FAST) as pool:
        batch = pool.parse_all(source())
        next(batch)
        assert len(taken) < 100
        with pytest.raises(ChunkwiseError, match="busy"):
            next(pool.parse_all(jobs))
        batch.close()  # type: ignore[attr-defined]
        assert [r.document.text for r in pool.parse_all(jobs[:3]) if r.document] == ["0", "1", "2"]
    with pytest.raises(ChunkwiseError, match="closed"):
        next(pool.parse_all(jobs))
    pool.close()


def test_an_interpreter_that_cannot_start_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(sys, "executable", "/bin/false")
        with pytest.raises(ChunkwiseError, match="do not start"):
            run(write(tmp_path, "a"))


def test_no_jobs_no_processes() -> None:
    assert run([]) == []


@pytest.mark.parametrize(
    "wrong", [{"timeout_s": 0}, {"memory_bytes": 1}, {"max_bytes": 0}, {"timeout_s": float("nan")}]
)
def test_limits_are_checked(wrong: dict[str, float]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="workers"):
        ParserPool(0)


def test_a_caller_needs_no_main_guard(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(
            f"""
            from chunkwise.rag.parsing.worker import Job, ParserPool
            with ParserPool(2) as pool:
                (result,) = pool.parse_all([Job("a.txt", {str(tmp_path / "a.txt")!r})])
            print(result.document.text)
            """
        )
    )
    (tmp_path / "a.txt").write_text("once")
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True)
    assert done.stdout == "once\n"
