"""The server on a real socket: clients that leave, requests that wait, signals."""

import asyncio
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path

import httpx2
import pytest
from starlette.testclient import TestClient

import main
from serving import choices, streaming
from serving.app import make_app
from serving.command import address_of, open_socket
from serving.engine import Engine
from serving.runs import ServedRun
from serving.security import Access
from serving.server import Server

LONG = {"prompt": "The cat", "max_tokens": 200_000, "seed": 1, "logit_bias": {"0": -100}}
ROOT = Path(main.__file__).parent
ENGINE: dict[str, Engine] = {}  # of the server in a thread


@pytest.fixture(scope="module")
def url(runs: dict[str, ServedRun]) -> Iterator[str]:
    """The address of a server in a thread; its engines are its own."""
    own = {name: replace(run, engine=new_engine(run)) for name, run in runs.items()}
    ready = threading.Event()
    server = Server(make_app(own, Access()), [run.engine for run in own.values()], ready.set)
    opened = open_socket("127.0.0.1", 0)
    thread = threading.Thread(target=server.run, args=([opened],))
    thread.start()
    assert ready.wait(20)
    ENGINE["small"] = own["small"].engine
    yield f"http://127.0.0.1:{opened.getsockname()[1]}"
    server.should_exit = True
    thread.join(20)
    assert not thread.is_alive()


def new_engine(run: ServedRun, slots: int = 4, max_waiting: int = 8) -> Engine:
    engine = Engine(run.model, run.tokenizer, slots, max_waiting)
    engine.start()
    return engine


def wait_until(holds: Callable[[], bool]) -> None:
    for _ in range(1000):
        if holds():
            return
        time.sleep(0.01)
    pytest.fail("it did not come to that within 10 s")


def is_idle() -> bool:
    return ENGINE["small"].n_running + ENGINE["small"].n_waiting == 0


def test_a_client_that_leaves_a_stream_frees_its_slot(url: str) -> None:
    with httpx2.stream("POST", f"{url}/v1/completions", json={**LONG, "stream": True}) as answer:
        assert answer.status_code == 200
        next(answer.iter_lines())
        assert ENGINE["small"].n_running == 1
    wait_until(is_idle)


@pytest.mark.parametrize("fields", [{}, {"n": 8}, {"echo": True, "logprobs": 1, "n": 8}])
def test_a_client_that_leaves_before_its_answer_frees_its_slots(url: str, fields: dict) -> None:
    """Also those that wait: four of eight texts have a slot."""
    with pytest.raises(httpx2.ReadTimeout):
        httpx2.post(f"{url}/v1/completions", json={**LONG, **fields}, timeout=0.3)
    wait_until(is_idle)
    assert httpx2.get(f"{url}/health").status_code == 200


def test_where_too_many_wait_a_client_is_told_when_to_come_again(url: str) -> None:
    with httpx2.stream("POST", f"{url}/v1/completions", json={**LONG, "stream": True, "n": 8}):
        wait_until(lambda: ENGINE["small"].n_running == 4)
        answer = httpx2.post(f"{url}/v1/completions", json={**LONG, "n": 8})
    assert answer.status_code == 429 and answer.headers["retry-after"] == "1"
    assert answer.json()["error"]["type"] == "rate_limit_error"
    wait_until(is_idle)


def test_a_request_that_takes_too_long_ends(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "SECONDS", 0.2)
    answer = httpx2.post(f"{url}/v1/completions", json=LONG)
    assert answer.status_code == 504 and answer.headers["x-should-retry"] == "false"
    stream = httpx2.post(f"{url}/v1/completions", json={**LONG, "stream": True})
    assert stream.status_code == 200
    last = stream.text.strip().split("\n\n")[-1]
    assert "took more than" in json.loads(last.removeprefix("data: "))["error"]["message"]
    wait_until(is_idle)


def test_a_silent_stream_sends_comments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SECONDS_OF_SILENCE", 0.02)

    async def slow() -> AsyncIterator[dict[str, object]]:
        yield {"a": 1}
        await asyncio.sleep(0.07)
        yield {"b": "я"}

    async def collected() -> list[str]:
        return [line async for line in streaming.events(slow())]

    first, *comments, second, done = asyncio.run(collected())
    assert (first, second, done) == ('data: {"a": 1}\n\n', 'data: {"b": "я"}\n\n', streaming.DONE)
    assert 1 <= len(comments) <= 4 and set(comments) == {": waiting\n\n"}


def test_metrics_are_what_prometheus_reads(url: str) -> None:
    httpx2.post(f"{url}/v1/completions", json={**LONG, "max_tokens": 5, "prompt": [1, 2, 3]})
    httpx2.get(f"{url}/no/such/path")
    text = httpx2.get(f"{url}/metrics").text
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    assert int(values['gpt2_prompt_tokens_total{model="small"}']) >= 3
    assert int(values['gpt2_generated_tokens_total{model="small"}']) >= 5
    assert int(values['gpt2_requests_total{path="-",status="404"}']) >= 1
    assert int(values['gpt2_requests_total{path="/v1/completions",status="200"}']) >= 1
    count = values['gpt2_answer_seconds_count{model="small"}']
    assert values['gpt2_answer_seconds_bucket{model="small",le="+Inf"}'] == count
    named = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE")}
    assert {name.split("{")[0].removesuffix("_bucket").removesuffix("_sum") for name in values} <= {
        *named, *(f"{name}_count" for name in named)
    }  # fmt: skip


def test_a_server_without_its_engine_is_not_well(runs: dict[str, ServedRun]) -> None:
    run = runs["small"]
    engine = new_engine(run)
    engine.stop(0)
    app = make_app({"small": replace(run, engine=engine)}, Access())
    client = TestClient(app, base_url="http://127.0.0.1")
    assert client.get("/health").status_code == 503
    answer = client.post("/v1/completions", json={"prompt": "The"})
    assert answer.status_code == 503 and "shutting down" in answer.json()["error"]["message"]


def started(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    """A process of `main.py serve` that is ready, and its address."""
    line = [sys.executable, str(ROOT / "main.py"), "serve", *arguments, "--port", "0"]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_texts_end_or_tells_them_and_leaves_nothing(
    small: Path, sig: signal.Signals
) -> None:
    process, url = started(str(small))
    ended: list[str] = []
    begun = threading.Semaphore(0)

    def read(max_tokens: int) -> None:
        body = {**LONG, "max_tokens": max_tokens, "stream": True}
        with httpx2.stream("POST", f"{url}/v1/completions", json=body, timeout=60) as answer:
            begun.release()
            ended.append([line for line in answer.iter_lines() if line][-1])

    sizes = [500] * 4 + [200_000_000] * 4
    threads = [threading.Thread(target=read, args=(n,)) for n in sizes]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert begun.acquire(timeout=30)
    began = time.monotonic()
    process.send_signal(sig)
    time.sleep(0.5)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")
    for thread in threads:
        thread.join(30)
    assert process.wait(30) == 128 + sig
    assert time.monotonic() - began < 14
    told = [line for line in ended if "not finished" in line]
    assert len(told) == 4 and ended.count("data: [DONE]") == 4
    assert process.stderr is not None and "Traceback" not in process.stderr.read()


@pytest.mark.slow
def test_200_impatient_clients_leave_nothing_behind(url: str) -> None:
    """vLLM's test: requests of 0.5 s, half of them streamed; the next one answers at once."""

    async def all_of_them() -> None:
        async with httpx2.AsyncClient() as client:
            bodies = [{**LONG, "stream": n % 2 == 0} for n in range(200)]
            asked = (client.post(f"{url}/v1/completions", json=body) for body in bodies)
            in_time = (asyncio.wait_for(each, 0.5) for each in asked)
            await asyncio.gather(*in_time, return_exceptions=True)

    asyncio.run(all_of_them())
    began = time.monotonic()
    answer = httpx2.post(f"{url}/v1/completions", json={**LONG, "max_tokens": 3}, timeout=10)
    assert answer.status_code == 200 and time.monotonic() - began < 5
    wait_until(is_idle)


MIXED: list[tuple[str, dict[str, object]]] = [  # of whom some leave early, and some are wrong
    ("completions", {"prompt": "The cat", "max_tokens": 12}),
    ("completions", {"prompt": ["Где", "Hello"], "max_tokens": 9, "n": 2, "stream": True}),
    ("completions", {"prompt": [[5, 6, 7]] * 4, "max_tokens": 1, "echo": True, "logprobs": 5}),
    ("completions", {"prompt": "The", "max_tokens": 30, "stop": ["a", "e"], "top_k": 9}),
    ("completions", {**LONG, "stream": True}),
    ("completions", {"prompt": "The", "temperature": -1}),
    ("completions", {"prompt": "cat " * 99}),
    ("chat/completions", {"messages": [{"role": "user", "content": "Where?"}], "max_tokens": 9}),
    ("chat/completions", {"messages": [{"role": "tool", "content": "4"}]}),
]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="reads /proc, which Linux has")
def test_2000_mixed_requests_leave_memory_and_files_as_they_were(small: Path) -> None:
    process, url = started(str(small))
    proc = Path(f"/proc/{process.pid}")

    def used() -> tuple[float, int]:
        pages = int((proc / "statm").read_text().split()[1])
        return pages * 4096 / 1e6, len([*(proc / "fd").iterdir()])

    async def send(n: int) -> list[int]:
        statuses: list[int] = []
        numbers = iter(range(n))

        async def one_client(client: httpx2.AsyncClient) -> None:
            for number in numbers:
                path, body = MIXED[number % len(MIXED)]
                seconds = 0.2 if body.get("max_tokens") == LONG["max_tokens"] else 60
                try:
                    async with asyncio.timeout(seconds):
                        answer = await client.post(f"{url}/v1/{path}", json=body, timeout=60)
                    statuses.append(answer.status_code)
                except TimeoutError:
                    statuses.append(0)

        async with httpx2.AsyncClient() as client:
            await asyncio.gather(*(one_client(client) for _ in range(16)))
        return statuses

    asyncio.run(send(300))
    time.sleep(6)  # connections that nobody uses are closed after 5 s
    memory, files = used()
    statuses = asyncio.run(send(2000))
    time.sleep(6)
    assert len(statuses) == 2000 and max(statuses) < 500
    assert statuses.count(0) > 100 and statuses.count(200) > 1000
    assert used()[0] < memory + 20 and used()[1] == files
    process.terminate()
    assert process.wait(20) == 143


def test_a_socket_of_ipv6_has_an_address_for_the_browser() -> None:
    if not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with open_socket("::1", 0) as opened:
        assert address_of(opened).startswith("http://[::1]:")
