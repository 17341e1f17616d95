"""Engines in processes of their own, and the questions asked of them, one line of JSON each.

Each engine runs in its own environment, so this file needs the standard library only. A runner
(`run_*.py`) makes an engine of its settings and calls `serve`; a benchmark starts it as a `Worker`
and asks. A worker that is not asked sleeps, so several may be loaded while one is measured.

Time of a token: when the step that made it gave it out. Nothing is streamed to the benchmark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

HERE = Path(__file__).parent


class Engine(Protocol):
    """What a runner gives to `serve`: an engine that is driven step by step.

    Attributes:
        about: Versions and settings, for the report.
    """

    about: dict[str, Any]

    def add(self, key: int, prompt: list[int], new: int) -> None:
        """Take a request for `new` greedy tokens, end tokens ignored."""

    def step(self) -> list[tuple[int, list[int]]]:
        """Do one step; the new tokens of each request that has some."""

    def busy(self) -> bool:
        """Whether requests are unfinished."""


class Worker:
    """An engine in a process of its own, as the benchmark sees it.

    Args:
        name: How it is called in reports.
        python: Interpreter of its environment.
        runner: Its script in this folder.
        settings: For the runner; see each `run_*.py`.
    """

    def __init__(self, name: str, python: str, runner: str, settings: dict[str, Any]) -> None:
        self.name, self.settings = name, settings
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115
        command = [python, str(HERE / runner), json.dumps(settings)]
        environment = {**os.environ, **_environment(runner, python, settings)}
        self.started = time.perf_counter()
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )

    def ready(self) -> dict[str, Any]:
        """Wait until the model is loaded; versions and settings, with `load_s` since the start."""
        about = self._answer()
        return {**about, "load_s": round(time.perf_counter() - self.started, 2)}

    def run(
        self,
        prompts: Sequence[Sequence[Any]],
        new: int | Sequence[int],
        arrivals: Sequence[float] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Serve requests; `times` (seconds from the start, one for each token) and `tokens`.

        Args:
            prompts: Token ids of each request (pieces, where a runner says so).
            new: Tokens wanted, of all or of each.
            arrivals: Seconds from the start at which each request comes, rising; None: at once.
            options: Further settings of one run, for runners that know some.
        """
        each = [new] * len(prompts) if isinstance(new, int) else list(new)
        job = {"op": "run", "prompts": prompts, "new": each, "arrivals": arrivals, **options}
        return self._ask(job)

    def logits(self, prompt: Sequence[Any]) -> list[float]:
        """Logits of the token after the prompt."""
        return list(self._ask({"op": "logits", "prompt": prompt})["logits"])

    def memory(self) -> dict[str, float]:
        """Peak and present resident memory of the process, in MiB."""
        return self._ask({"op": "memory"})

    def quit(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(timeout=60)

    def exit_code(self) -> int | None:
        """How the process ended, or None."""
        return self._process.poll()

    def kill(self) -> None:
        """End the process at once, whatever it does."""
        self._process.kill()
        self._process.wait(timeout=60)

    def _ask(self, job: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(job) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            raise RuntimeError(f"{self.name} ended with {code}:\n{self._errors.read()[-3000:]}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def serve(make: Callable[[dict[str, Any]], Engine]) -> None:
    """Make the engine of the settings on the command line and answer until stdin is closed."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not come between the answers
    engine = make(json.loads(sys.argv[1]))
    print(json.dumps(engine.about), file=replies, flush=True)
    for line in sys.stdin:
        job = json.loads(line)
        answer = _OPERATIONS[job.pop("op")](engine, **job)
        print(json.dumps(answer), file=replies, flush=True)


def drive(
    engine: Engine, prompts: list[list[int]], new: list[int], arrivals: list[float] | None
) -> dict[str, Any]:
    """Serve requests that come at given times; see `Worker.run`."""
    due = list(arrivals or [0.0] * len(prompts))
    times: list[list[float]] = [[] for _ in prompts]
    tokens: list[list[int]] = [[] for _ in prompts]
    added, steps = 0, 0
    start = time.perf_counter()
    while added < len(prompts) or engine.busy():
        now = time.perf_counter() - start
        while added < len(prompts) and due[added] <= now:
            engine.add(added, prompts[added], new[added])
            added += 1
        if not engine.busy():
            time.sleep(max(due[added] - now, 0.0))
            continue
        got = engine.step()
        now, steps = time.perf_counter() - start, steps + 1
        for key, fresh in got:
            times[key] += [now] * len(fresh)
            tokens[key] += fresh
    return {"times": times, "tokens": tokens, "steps": steps}


def _run(engine: Any, prompts: Any, new: Any, arrivals: Any, **options: Any) -> dict[str, Any]:
    if hasattr(engine, "run"):  # engines without a step of their own
        answer: dict[str, Any] = engine.run(prompts, new, **options)
        return answer
    return drive(engine, prompts, new, arrivals)


def _logits(engine: Any, prompt: list[int]) -> dict[str, Any]:
    return {"logits": engine.logits(prompt)}


def _memory(engine: Any) -> dict[str, float]:
    lines = Path("/proc/self/status").read_text().splitlines()
    wanted = ("VmHWM", "VmRSS", "RssAnon", "RssFile")
    pairs = (line.split(":") for line in lines if line.startswith(wanted))
    return {name: round(int(size.split()[0]) / 1024, 1) for name, size in pairs}


_OPERATIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "run": _run,
    "logits": _logits,
    "memory": _memory,
}


def _environment(runner: str, python: str, settings: dict[str, Any]) -> dict[str, str]:
    """Threads of every library; and for vLLM the libraries that it asks to be loaded first."""
    threads = str(settings["threads"])
    variables = {"OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
    libraries = sorted((Path(python).parent.parent / "lib").glob("libiomp5.so"))
    if runner == "run_vllm.py" and libraries:
        variables["LD_PRELOAD"] = str(libraries[0])
    return variables
