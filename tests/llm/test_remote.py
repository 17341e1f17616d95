"""`RemoteModel` against a small real HTTP server."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from chunkwise.errors import ConfigError, RemoteError, RequestError
from chunkwise.llm.remote import RemoteModel
from chunkwise.types import Delta, Prompt, SamplingParams, Segment
from tests.fakes import ManualClock

PROMPT = Prompt((Segment("system", "Be brief."), Segment("user", "Hi"), Segment("user", "!")))
Reply = Callable[["Handler"], None]


class Handler(BaseHTTPRequestHandler):
    """Answers each request with the next scripted reply; keeps what was asked."""

    def do_POST(self) -> None:
        size = int(self.headers["content-length"])
        self._reply(json.loads(self.rfile.read(size)))

    def do_GET(self) -> None:
        self._reply(None)

    def _reply(self, body: object) -> None:
        server = self.server
        assert isinstance(server, Server)
        server.asked.append((self.path, self.headers.get("authorization"), body))
        server.replies.pop(0)(self)

    def head(self, status: int, kind: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        pass


class Server(ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.replies: list[Reply] = []
        self.asked: list[tuple[str, str | None, dict]] = []
        self.hung_up = threading.Event()
        self.release = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}/v1"


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.release.set()
        server.shutdown()
        thread.join()


def event(text: str = "", finish: str | None = None, **extra: object) -> bytes:
    choice = {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": finish}
    data = json.dumps({"choices": [choice], **extra}, ensure_ascii=False)
    return f"data: {data}\n\n".encode()


USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 2}}\n\n'
DONE = b"data: [DONE]\n\n"


def sse(*parts: bytes) -> Reply:
    def reply(handler: Handler) -> None:
        handler.head(200, "text/event-stream")
        for part in parts:
            handler.wfile.write(part)
            handler.wfile.flush()

    return reply


def body(status: int, data: object, **headers: str) -> Reply:
    def reply(handler: Handler) -> None:
        handler.head(status, "application/json", **headers)
        handler.wfile.write(json.dumps(data).encode())

    return reply


def ask(model: RemoteModel, **sampling: object) -> list[Delta]:
    return list(model.stream(PROMPT, SamplingParams(**sampling)))


def test_pieces_stream_in_order_and_the_last_delta_carries_the_usage(server: Server) -> None:
    server.replies = [
        sse(b": hello\n\n", event("Hel"), event("lo"), event("", "stop"), USAGE, DONE)
    ]
    with RemoteModel(server.url, "m") as model:
        deltas = ask(model, max_tokens=9, stop=("X",), seed=3)
    assert [d.text for d in deltas] == ["Hel", "lo", ""]
    assert deltas[-1].usage == {"prompt_tokens": 7, "completion_tokens": 2}
    path, key, sent = server.asked[0]
    assert (path, key) == ("/v1/chat/completions", None)
    assert sent["messages"] == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Hi!"},
    ]
    assert (sent["model"], sent["max_tokens"], sent["stop"], sent["seed"]) == ("m", 9, ["X"], 3)
    assert sent["stream"] is True
    assert sent["stream_options"] == {"include_usage": True}


def test_unicode_survives_split_writes_and_raw_line_separators(server: Server) -> None:
    whole = event("né\u2028\x85 漢字 🎉") + event("", "stop") + DONE.replace(b"\n", b"\r\n")
    server.replies = [sse(*(whole[i : i + 1] for i in range(len(whole))))]
    with RemoteModel(server.url, "m") as model:
        assert "".join(d.text for d in ask(model)) == "né\u2028\x85 漢字 🎉"


def test_a_server_without_stream_options_is_asked_again_without_and_only_once(
    server: Server,
) -> None:
    refusal = body(400, {"error": {"message": "Unrecognized argument: stream_options"}})
    server.replies = [refusal, sse(event("a"), DONE), sse(event("b"), DONE)]
    with RemoteModel(server.url, "m") as model:
        assert [ask(model)[0].text, ask(model)[0].text] == ["a", "b"]
    assert ["stream_options" in sent for _, _, sent in server.asked] == [True, False, False]


def test_a_server_that_wants_max_completion_tokens_gets_it(server: Server) -> None:
    said = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.replies = [body(400, {"error": {"message": said}}), sse(event("a"), DONE)]
    with RemoteModel(server.url, "m") as model:
        ask(model, max_tokens=5)
    assert server.asked[1][2]["max_completion_tokens"] == 5
    assert "max_tokens" not in server.asked[1][2]


@pytest.mark.parametrize("status", [429, 503])
def test_a_passing_failure_is_tried_again_after_the_time_the_server_asks_for(
    server: Server, status: int
) -> None:
    clock = ManualClock()
    server.replies = [
        body(status, {"error": {"message": "busy"}}, retry_after="2"),
        body(status, {"error": {"message": "busy"}}),
        sse(event("ok"), DONE),
    ]
    with RemoteModel(server.url, "m", sleep=clock.sleep) as model:
        assert ask(model)[0].text == "ok"
    assert clock.slept == [2.0, 1.0]


def test_retry_after_may_be_a_date_and_too_long_a_wait_is_an_error(server: Server) -> None:
    clock = ManualClock()
    server.replies = [body(429, {}, retry_after=formatdate(4e9, usegmt=True))]
    with (
        RemoteModel(server.url, "m", sleep=clock.sleep) as model,
        pytest.raises(RemoteError, match=r"asks to wait .* `max_wait_s`=30"),
    ):
        ask(model)
    assert clock.slept == []


def test_retries_end(server: Server) -> None:
    clock = ManualClock()
    server.replies = [body(500, {"error": "broken"}) for _ in range(3)]
    with (
        RemoteModel(server.url, "m", retries=2, sleep=clock.sleep) as model,
        pytest.raises(RemoteError, match=r"failed \(500\): broken"),
    ):
        ask(model)
    assert clock.slept == [0.5, 1.0]


def test_a_spent_quota_is_not_tried_again(server: Server) -> None:
    server.replies = [body(429, {"error": {"message": "No.", "code": "insufficient_quota"}})]
    with RemoteModel(server.url, "m") as model, pytest.raises(RemoteError, match="quota"):
        ask(model)
    assert len(server.asked) == 1


def test_the_key_is_sent_and_shown_nowhere(
    server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("SOME_KEY", "sk-secret")
    caplog.set_level("DEBUG")
    echo = {"error": {"message": "Incorrect API key: sk-secret"}}
    server.replies = [
        body(401, echo),
        body(500, echo),
        body(400, {"error": {"message": "bad sk-secret"}}),
        sse(b'data: {"error": {"message": "sk-secret expired"}}\n\n'),
    ]
    said = []
    with RemoteModel(server.url, "m", api_key_env="SOME_KEY", retries=0) as model:
        for _ in range(4):
            with pytest.raises((RemoteError, RequestError)) as caught:
                ask(model)
            said.append(str(caught.value))
        said += [repr(model), model.fingerprint, caplog.text]
    assert server.asked[0][1] == "Bearer sk-secret"
    assert "'SOME_KEY'" in said[0]
    assert not [text for text in said if "secret" in text]


def test_a_missing_key_names_the_variable(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOME_KEY", raising=False)
    with (
        RemoteModel(server.url, "m", api_key_env="SOME_KEY") as model,
        pytest.raises(RemoteError, match="'SOME_KEY' holds no API key"),
    ):
        ask(model)
    assert server.asked == []


@pytest.mark.parametrize("key", ["sk-se\ncret", "sk-sécret", "sk secret"])
def test_a_key_that_no_header_can_hold_is_an_error_without_the_key(
    server: Server, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setenv("SOME_KEY", key)
    with (
        RemoteModel(server.url, "m", api_key_env="SOME_KEY") as model,
        pytest.raises(RemoteError, match="no usable API key") as caught,
    ):
        ask(model)
    assert "cret" not in str(caught.value)


def test_an_unknown_model_names_model_and_address(server: Server) -> None:
    server.replies = [body(404, {"error": {"message": "no"}})]
    with (
        RemoteModel(server.url, "gpt-9", api_key_env=None) as model,
        pytest.raises(RemoteError, match=r"127\.0\.0\.1:\d+/v1 does not know the model 'gpt-9'"),
    ):
        ask(model)


def test_a_refused_connection_names_the_address_and_is_not_tried_again() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    clock = ManualClock()
    with (
        RemoteModel(f"http://127.0.0.1:{port}", "m", sleep=clock.sleep) as model,
        pytest.raises(RemoteError, match=rf"Cannot connect to http://127\.0\.0\.1:{port}/v1"),
    ):
        ask(model)
    assert clock.slept == []


def test_a_stream_that_ends_early_is_an_error_and_text_never_comes_twice(server: Server) -> None:
    server.replies = [sse(event("The fee is 3"))]
    with RemoteModel(server.url, "m") as model:
        deltas = model.stream(PROMPT, SamplingParams())
        assert next(deltas).text == "The fee is 3"
        with pytest.raises(RemoteError, match="closed the stream before"):
            next(deltas)
    assert len(server.asked) == 1


def test_a_stream_that_ends_before_its_first_piece_is_tried_again(server: Server) -> None:
    clock = ManualClock()
    server.replies = [sse(), sse(event("ok"), DONE)]
    with RemoteModel(server.url, "m", sleep=clock.sleep) as model:
        assert ask(model)[0].text == "ok"
    assert clock.slept == [0.5]


def test_a_connection_cut_inside_a_chunk_is_an_error(server: Server) -> None:
    def cut(handler: Handler) -> None:
        handler.protocol_version = "HTTP/1.1"
        handler.head(200, "text/event-stream", transfer_encoding="chunked")
        piece = event("part")
        handler.wfile.write(b"%x\r\n%s\r\n40\r\ndata: {" % (len(piece), piece))
        handler.close_connection = True

    server.replies = [cut]
    with RemoteModel(server.url, "m") as model, pytest.raises(RemoteError, match="broke"):
        ask(model)


def test_a_finish_reason_ends_a_stream_without_done_and_a_cut_answer_says_so(
    server: Server,
) -> None:
    server.replies = [sse(event("a", "length"))]
    with RemoteModel(server.url, "m") as model:
        assert ask(model)[-1].usage == {"stopped_by_length": 1}


@pytest.mark.parametrize("kind", ["application/json", "text/plain"])
def test_a_server_that_does_not_stream_is_understood(server: Server, kind: str) -> None:
    whole = {
        "choices": [{"message": {"content": "All of it."}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3},
    }

    def reply(handler: Handler) -> None:
        handler.head(200, kind)
        handler.wfile.write(json.dumps(whole).encode())

    server.replies = [reply]
    with RemoteModel(server.url, "m") as model:
        deltas = ask(model)
    assert [d.text for d in deltas] == ["All of it.", ""]
    assert deltas[-1].usage == {"prompt_tokens": 5, "completion_tokens": 3}


def test_a_page_that_is_no_api_is_an_error(server: Server) -> None:
    server.replies = [lambda h: (h.head(200, "text/html"), h.wfile.write(b"<html>"))[0]]
    with RemoteModel(server.url, "m") as model, pytest.raises(RemoteError, match="no JSON"):
        ask(model)


def test_a_prompt_too_long_is_the_requests_fault(server: Server) -> None:
    server.replies = [body(400, {"error": {"message": "maximum context length is 4096 tokens"}})]
    with RemoteModel(server.url, "m") as model, pytest.raises(RequestError, match="4096"):
        ask(model)


def test_closing_the_iterator_closes_the_connection(server: Server) -> None:
    def endless(handler: Handler) -> None:
        handler.head(200, "text/event-stream")
        try:
            while not server.release.wait(0.005):
                handler.wfile.write(event("more "))
                handler.wfile.flush()
        except OSError:
            server.hung_up.set()

    server.replies = [endless]
    with RemoteModel(server.url, "m") as model:
        deltas = model.stream(PROMPT, SamplingParams())
        assert next(deltas).text == "more "
        deltas.close()
        assert server.hung_up.wait(5)


def test_a_silent_server_times_out(server: Server) -> None:
    server.replies = [lambda handler: server.release.wait(5) and None]
    with (
        RemoteModel(server.url, "m", timeout_s=0.1, retries=0) as model,
        pytest.raises(RemoteError, match="silent for too long"),
    ):
        ask(model)


def test_models_lists_names(server: Server) -> None:
    server.replies = [body(200, {"data": [{"id": "a"}, {"id": "b"}]}), body(200, {"x": 1})]
    with RemoteModel(server.url, "m") as model:
        assert model.models() == ["a", "b"]
        with pytest.raises(RemoteError, match="no list of models"):
            model.models()


def test_addresses_are_completed_and_shown_without_password() -> None:
    with RemoteModel("http://user:pw@localhost:1234/", "m") as model:
        assert model.base_url == "http://localhost:1234/v1"
        assert "pw" not in repr(model) + model.fingerprint
    for wrong in ("localhost:8000", "ftp://x", ""):
        with pytest.raises(ConfigError, match="base_url"):
            RemoteModel(wrong, "m")
    with pytest.raises(ConfigError, match="retries"):
        RemoteModel("http://x", "m", retries=-1)
    with pytest.raises(ConfigError, match="timeout_s"):
        RemoteModel("http://x", "m", timeout_s=0)
