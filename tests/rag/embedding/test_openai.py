"""Against a real HTTP server on a real socket."""

from __future__ import annotations

import json
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest

from chunkwise.errors import ConfigError, RemoteError
from chunkwise.rag.embedding.openai import OpenAIEmbedder

KEY = "sk-very-secret-0123456789"
Reply = Callable[["Handler", dict[str, Any]], None]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append((self.path, dict(self.headers), body))
        turn = min(len(self.server.seen), len(self.server.script)) - 1
        self.server.script[turn](self, body)

    def send(self, status: int, content: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    daemon_threads = True
    script: list[Reply]
    seen: list[tuple[str, dict[str, str], dict[str, Any]]]

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("TEST_KEY", KEY)
    served = Server(("127.0.0.1", 0), Handler)
    served.script, served.seen = [vectors()], []
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.shutdown()
    served.server_close()
    thread.join()


def vector(text: str) -> list[float]:
    return [float(len(text)) + 1.0, 3.0, -2.0]


def vectors(change: Callable[[list[dict[str, Any]]], Any] = lambda data: data) -> Reply:
    def reply(handler: Handler, body: dict[str, Any]) -> None:
        data = [{"index": i, "embedding": vector(t)} for i, t in enumerate(body["input"])]
        handler.send(200, json.dumps({"data": change(data)}).encode())

    return reply


def fails(status: int, content: bytes = b'{"error": {"message": "no"}}', **headers: str) -> Reply:
    return lambda handler, body: handler.send(status, content, **headers)


def breaks_off(handler: Handler, body: dict[str, Any]) -> None:
    handler.send_response(200)
    handler.send_header("Content-Length", "1000")
    handler.end_headers()
    handler.wfile.write(b'{"data": [')
    handler.wfile.flush()
    handler.close_connection = True
    handler.connection.shutdown(socket.SHUT_RDWR)


def embedder(server: Server, **options: Any) -> OpenAIEmbedder:
    given = {"api_key_env": "TEST_KEY", "backoff_s": 0.001, "max_retries": 2, **options}
    return OpenAIEmbedder("tiny", base_url=server.base_url, **given)


def test_vectors_are_unit_and_in_the_order_of_texts_over_several_requests(server: Server) -> None:
    server.script = [vectors(lambda data: data[::-1])]
    made = embedder(server, batch_size=2)
    texts = ["a", "bbb", "cc", "dddd", "e\ud800"]
    got = made.embed(texts)
    want = np.array([vector(t) for t in texts])
    np.testing.assert_allclose(got, want / np.linalg.norm(want, axis=1, keepdims=True), rtol=1e-6)
    assert got.dtype == np.float32
    assert [len(body["input"]) for _, _, body in server.seen] == [2, 2, 1]
    path, headers, body = server.seen[0]
    assert path == "/v1/embeddings"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body["model"] == "tiny"
    assert made.dim == 3


def test_prefixes_and_blank_texts(server: Server) -> None:
    made = embedder(server, query_prefix="q: ", passage_prefix="p: ")
    made.embed(["x", " \n"], "query")
    made.embed(["x"])
    assert [body["input"] for _, _, body in server.seen] == [["q: x", "."], ["p: x"]]


def test_nothing_is_sent_at_construction_nor_for_no_texts(server: Server) -> None:
    assert embedder(server, dim=3).embed([]).shape == (0, 3)
    assert not server.seen


def test_no_key_is_sent_when_no_variable_is_named(server: Server) -> None:
    embedder(server, api_key_env="").embed(["x"])
    assert "Authorization" not in server.seen[0][1]


@pytest.mark.parametrize(
    "first",
    [fails(429, Retry_After="0"), fails(500), fails(503, b"<html>busy</html>"), breaks_off],
    ids=["429", "500", "503 html", "closed half-way"],
)
def test_a_passing_failure_is_tried_again(server: Server, first: Reply) -> None:
    server.script = [first, first, vectors()]
    assert embedder(server).embed(["x"]).shape == (1, 3)
    assert len(server.seen) == 3


def test_the_wait_the_server_asks_for_is_kept(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr("time.sleep", waits.append)
    server.script = [
        fails(429, Retry_After="7"),
        fails(429, Retry_After="9999"),
        fails(429, Retry_After="Wed, 21 Oct 2015 07:28:00 GMT"),
        fails(429, Retry_After="soon"),
        vectors(),
    ]
    embedder(server, max_retries=4, backoff_s=1.0).embed(["x"])
    assert waits[:2] == [7.0, 60.0]
    assert 3.0 <= waits[2] <= 5.0
    assert 6.0 <= waits[3] <= 10.0


def test_failures_past_the_last_try_are_an_error(server: Server) -> None:
    server.script = [fails(500, b'{"error": {"message": "out of memory"}}')]
    with pytest.raises(RemoteError, match=r"HTTP 500 'out of memory'. Gave up after 3 tries"):
        embedder(server).embed(["x"])
    assert len(server.seen) == 3


def test_a_server_that_is_not_there_is_an_error() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    made = OpenAIEmbedder("m", base_url=url, api_key_env="", max_retries=1, backoff_s=0.001)
    with pytest.raises(RemoteError, match=r"ConnectError.*Gave up after 2 tries"):
        made.embed(["x"])


def test_a_server_that_never_answers_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/v1"
        made = OpenAIEmbedder("m", url, "", max_retries=0, timeout_s=0.05)
        with pytest.raises(RemoteError, match="ReadTimeout"):
            made.embed(["x"])


@pytest.mark.parametrize(
    ("status", "says"),
    [(401, "Is the key in TEST_KEY right"), (404, "`base_url` end with"), (400, "HTTP 400")],
)
def test_a_lasting_failure_is_not_tried_again(server: Server, status: int, says: str) -> None:
    server.script = [fails(status)]
    with pytest.raises(RemoteError, match=says):
        embedder(server).embed(["x"])
    assert len(server.seen) == 1


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (lambda handler, body: handler.send(200, b"<html>"), "no JSON"),
        (lambda handler, body: handler.send(200, b"[1]"), "another form"),
        (lambda handler, body: handler.send(200, b'{"data": [{"index": 0}]}'), "another form"),
        (vectors(lambda data: data[:-1]), "1 vectors for 2 texts"),
        (vectors(lambda data: [data[0], data[0]]), "2 vectors for 2 texts"),
        (vectors(lambda data: [data[0], {**data[1], "embedding": [1.0]}]), "another form"),
        (vectors(lambda data: [{**d, "embedding": [float("nan")] * 3} for d in data]), "finite"),
        (vectors(lambda data: [{**d, "embedding": [0.0] * 3} for d in data]), "zero"),
        (vectors(lambda data: [{**d, "embedding": []} for d in data]), "shape"),
        (vectors(lambda data: [{**d, "embedding": 1.0} for d in data]), "shape"),
    ],
)
def test_an_answer_that_cannot_be_used_is_an_error(server: Server, reply: Reply, says: str) -> None:
    server.script = [reply]
    with pytest.raises(RemoteError, match=says):
        embedder(server).embed(["x", "y"])


def test_another_dimension_than_promised_is_an_error(server: Server) -> None:
    with pytest.raises(RemoteError, match="length 3, not `dim`=8"):
        embedder(server, dim=8).embed(["x"])
    with pytest.raises(RemoteError, match="length 3, not `dim`=8"):
        embedder(server, dimensions=8).embed(["x"])
    assert server.seen[-1][2]["dimensions"] == 8


def test_the_key_is_nowhere_but_in_the_request(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [fails(401, f'{{"error": "bad key {KEY}"}}'.encode())]
    made = embedder(server)
    with caplog.at_level(logging.DEBUG), pytest.raises(RemoteError) as raised:
        made.embed(["x"])
    shown = f"{made!r} {made.fingerprint} {raised.value} {caplog.text}"
    assert KEY not in shown
    assert "bad key ***" in shown


def test_a_key_that_is_missing_or_broken_is_named_by_its_variable(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TEST_KEY")
    with pytest.raises(ConfigError, match="TEST_KEY is not set"):
        embedder(server).embed(["x"])
    monkeypatch.setenv("TEST_KEY", "schlüssel")
    with pytest.raises(ConfigError, match="TEST_KEY holds characters") as raised:
        embedder(server).embed(["x"])
    assert "schlüssel" not in str(raised.value)


@pytest.mark.parametrize(
    "options",
    [
        {"base_url": "localhost:11434"},
        {"base_url": "ftp://host/v1"},
        {"base_url": "http://[::1/v1"},
        {"base_url": "http://user:pass@host/v1"},
        {"model": ""},
        {"batch_size": 0},
        {"timeout_s": float("nan")},
        {"max_retries": -1},
        {"dim": 3, "dimensions": 4},
    ],
)
def test_an_option_that_cannot_work_is_refused_at_once(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError) as raised:
        OpenAIEmbedder(**{"model": "m", **options})
    assert "pass@" not in str(raised.value)


def test_the_fingerprint_follows_what_changes_vectors() -> None:
    def made(**options: Any) -> str:
        return OpenAIEmbedder(**{"model": "m", **options}).fingerprint

    assert made() == made(base_url="http://elsewhere/v1", api_key_env="", batch_size=3)
    changed = [{"model": "n"}, {"dimensions": 5}, {"query_prefix": "q"}, {"passage_prefix": "q"}]
    assert len({made(**options) for options in [{}, *changed]}) == 5
