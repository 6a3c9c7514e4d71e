"""The Node example does what it says, killed or not."""

from __future__ import annotations

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.fault_proxy import FaultProxy
from tests.programs import node
from tests.waiting import wait_until
from tests.web.site import Site

STEP = Path(__file__).parents[2] / "examples" / "node" / "voice.mjs"


def test_a_step_in_node_answers_each_scene_once_also_when_it_forgets_its_place(site: Site, tmp_path: Path) -> None:
    scenes = [
        site.published(project_id="node", type="SCENE_WRITTEN", payload={"text": "a fox " * n})["event_id"]
        for n in range(1, 4)
    ]

    def run(count: int) -> str:
        done = subprocess.run(
            [node(), str(STEP), str(count)], cwd=tmp_path, env={"EVENTBUS_URL": site.url}, text=True, timeout=60,
            capture_output=True,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return done.stdout

    before = len(site.get("/events", type="SCENE_WRITTEN", limit=1000)["events"]) - 3
    first = run(before + 2)
    (tmp_path / "cursor.txt").unlink()
    second = run(before + 3)

    assert first.count("(was there)") == 0 and second.count("(was there)") == before + 2
    voices = site.get("/events", project="node", type="VOICE_RENDERED")["events"]
    assert [event["causation_id"] for event in voices] == scenes
    assert all(event["actor"] == "VoiceGen" and event["metadata"]["cost"] > 0 for event in voices)
    chain = site.get(f"/events/voice-{scenes[0]}/chain")["events"]
    assert [event["event_id"] for event in chain] == [scenes[0], f"voice-{scenes[0]}"]


def test_a_step_in_node_waits_for_a_web_process_that_is_away(site: Site, tmp_path: Path) -> None:
    last = site.published(type="QA_REPORT")["position"]
    (tmp_path / "cursor.txt").write_text(str(last))
    with FaultProxy(*site.address) as proxy, running(f"http://127.0.0.1:{proxy.port}", tmp_path, 2) as step:
        wait_until(lambda: proxy.connections, 30, "the stream to be opened")
        proxy.refuse(True)
        first = site.published(project_id="away", type="SCENE_WRITTEN")["event_id"]
        wait_until(lambda: "again in 1 s" in said(tmp_path), 30, f"it to miss the process; {said(tmp_path)}")
        proxy.cut()
        second = site.published(project_id="away", type="SCENE_WRITTEN")["event_id"]
        proxy.refuse(False)
        assert step.wait(60) == 0, said(tmp_path)

    voices = site.get("/events", project="away", type="VOICE_RENDERED")["events"]
    assert [event["causation_id"] for event in voices] == [first, second]


def test_a_step_in_node_asks_again_when_it_is_told_to(tmp_path: Path) -> None:
    posts: list[float] = []

    def answer(request: BaseHTTPRequestHandler) -> None:
        posts.append(time.monotonic())
        match len(posts):
            case 1:
                reply(request, 408, {})
            case 2:
                reply(request, 429, {}, {"retry-after": "2"})
            case 3:
                reply(request, 503, {})
            case 4:
                reply(request, 201, None, {"content-length": "100"})
                request.close_connection = True
            case _:
                reply(request, 200, {"event_id": "voice-EV-1", "is_new": False})

    with door(answer) as url, running(url, tmp_path, 1) as step:
        assert step.wait(60) == 0, said(tmp_path)

    assert len(posts) == 5 and posts[2] - posts[1] >= 1.9, said(tmp_path)
    assert "EV-1 -> voice-EV-1 (was there)" in said(tmp_path)


@pytest.mark.parametrize("status", [401, 403])
def test_a_step_in_node_whose_token_is_refused_says_so_and_ends(status: int, tmp_path: Path) -> None:
    refuses = {"detail": "Name a token."}

    with door(lambda _: None, status, refuses) as url, running(url, tmp_path, 1) as step:
        assert step.wait(30) == 1

    assert f"was refused: {status}" in said(tmp_path) and "Name a token." in said(tmp_path)


@contextmanager
def running(url: str, folder: Path, count: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run the step beside the test; what it writes is what `said` returns."""
    with open(folder / "said", "wb") as output:
        step = subprocess.Popen(
            [node(), str(STEP), str(count)], cwd=folder, env={"EVENTBUS_URL": url}, stdout=output, stderr=output
        )
    try:
        yield step
    finally:
        step.kill()
        step.wait()


def said(folder: Path) -> str:
    return (folder / "said").read_text()


@contextmanager
def door(answer: Callable[[BaseHTTPRequestHandler], None], status: int = 200, problem: object = None) -> Iterator[str]:
    """A server whose stream has one scene, or is refused; `answer` answers what is posted."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if problem is not None:
                return reply(self, status, problem)
            reply(self, 200, None)
            self.wfile.write(b'id: 1\ndata: {"event_id": "EV-1", "position": 1, "payload": {}}\n\n')
            self.wfile.flush()
            shut.wait(60)

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            answer(self)

        def log_message(self, *_: object) -> None:
            pass

    shut = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        shut.set()
        server.shutdown()
        server.server_close()


def reply(request: BaseHTTPRequestHandler, status: int, body: object, headers: dict[str, str] | None = None) -> None:
    """Send a head, and a body unless it is None: then the caller sends it, or breaks it off."""
    text = b"" if body is None else json.dumps(body).encode()
    request.send_response(status)
    for name, value in {**({} if body is None else {"content-length": str(len(text))}), **(headers or {})}.items():
        request.send_header(name, value)
    request.end_headers()
    request.wfile.write(text)
