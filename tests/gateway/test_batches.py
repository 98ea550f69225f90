"""Batches over HTTP: many lines, one ZIP, and whoever is interrupted goes on by sending them again."""

import hashlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from redis import Redis

from bench.httpapi import ENDLESS
from gateways import jobs, paced, serving
from rwkv_tts import TTSClient
from rwkv_tts.keys import BATCH_PREFIX
from waiting import until

SHORT: dict[str, Any] = {"input": "Hello.", "max_seconds": 0.2, "temperature": 5, "top_p": 1, "top_k": 0}


def lines(count: int, **fields: Any) -> list[dict[str, Any]]:
    return [{"custom_id": f"line-{number}", **SHORT, "seed": number, **fields} for number in range(count)]


def send(http: httpx.Client, told: list[dict[str, Any]], batch: str | None = None) -> httpx.Response:
    body = "\n".join(json.dumps(line) for line in told)
    return http.post("/v1/batches", content=body, params={"id": batch} if batch else None)


def ended(http: httpx.Client, batch: str) -> dict[str, Any]:
    until(lambda: http.get(f"/v1/batches/{batch}").json()["status"] != "in_progress", timeout=60)
    return dict(http.get(f"/v1/batches/{batch}").json())


def files(http: httpx.Client, batch: str) -> zipfile.ZipFile:
    answer = http.get(f"/v1/batches/{batch}/files")
    assert answer.headers["content-type"] == "application/zip"
    archive = zipfile.ZipFile(io.BytesIO(answer.content))
    assert archive.testzip() is None
    return archive


def told(archive: zipfile.ZipFile, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in archive.read(name).splitlines()]


def test_all_lines_of_a_batch_are_in_its_zip(http: httpx.Client, redis_url: str, worker: TTSClient) -> None:
    sent = [*lines(5, response_format="wav"), {"custom_id": "bad", **SHORT, "voice": "nobody"}]
    made = send(http, sent)
    assert made.status_code == 201, made.text
    batch = made.json()["id"]
    done = ended(http, batch)
    assert done["status"] == "completed"
    assert done["counts"] == {
        "total": 6, "queued": 0, "running": 0, "finished": 5, "failed": 1, "cancelled": 0, "missing": 0,
    }  # fmt: skip
    with serving(redis_url, queue=worker.queue) as other, httpx.Client(base_url=other) as copy:
        archive = files(copy, batch)
    names = [f"line-{number}.wav" for number in range(5)]
    assert archive.namelist() == [*names, "output.jsonl", "errors.jsonl"]
    assert all(archive.read(name).startswith(b"RIFF") for name in names)
    output = told(archive, "output.jsonl")
    assert [(line["custom_id"], line["file"], line["seed"]) for line in output] == [
        (f"line-{number}", name, number) for number, name in enumerate(names)
    ]
    (error,) = told(archive, "errors.jsonl")
    assert (error["custom_id"], error["error"]["param"]) == ("bad", "voice")


def test_lines_that_are_sent_again_are_spoken_once(http: httpx.Client, worker: TTSClient) -> None:
    batch = f"again-{uuid4().hex}"
    assert send(http, lines(2), batch).status_code == 201
    ended(http, batch)
    before = files(http, batch).read("output.jsonl")
    ran = worker.connection.keys("rq:job:batch-*")
    assert send(http, lines(3), batch).json()["counts"]["total"] == 3
    assert ended(http, batch)["counts"]["finished"] == 3
    assert files(http, batch).read("output.jsonl").startswith(before)
    assert len(set(worker.connection.keys("rq:job:batch-*")) - set(ran)) == 1
    gone = worker.connection.keys("rq:job:batch-*")
    worker.connection.delete(*gone)
    assert http.get(f"/v1/batches/{batch}").json()["counts"]["missing"] == 3
    assert {line["error"]["code"] for line in told(files(http, batch), "errors.jsonl")} == {"not_queued"}
    send(http, lines(3), batch)
    assert ended(http, batch)["counts"]["finished"] == 3
    differs = send(http, lines(1, input="Bye."), batch)
    assert (differs.status_code, differs.json()["error"]["code"]) == (400, "line_differs")


@pytest.mark.slow
def test_a_batch_is_cancelled_and_goes_on(redis_url: str, connection: Redis) -> None:
    sent = [{"custom_id": f"{number}", "input": ENDLESS, "response_format": "pcm"} for number in range(4)]
    with (
        paced(redis_url, rows=2) as queue,
        serving(redis_url, queue=queue) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        assert send(http, sent, "all").status_code == 201
        until(lambda: http.get("/v1/batches/all").json()["counts"]["running"] >= 2)
        assert http.get("/v1/batches/all").json()["status"] == "in_progress"
        assert http.delete("/v1/batches/all").json()["status"] == "cancelled"
        until(lambda: not jobs(connection, queue), timeout=15)
        assert http.get("/v1/batches/all").json()["counts"]["cancelled"] == 4
        again = send(http, sent, "all").json()
        assert again["status"] == "in_progress"
        assert again["counts"]["cancelled"] == 0
        http.delete("/v1/batches/all")
        assert 0 < connection.ttl(f"{BATCH_PREFIX}{queue}:anybody:all") <= 7 * 24 * 3600


@pytest.mark.slow
def test_a_full_queue_takes_the_rest_later(redis_url: str) -> None:
    sent = [{"custom_id": f"{number}", "input": ENDLESS, "response_format": "pcm"} for number in range(5)]
    with (
        paced(redis_url, rows=1, max_queue=1) as queue,
        serving(redis_url, queue=queue) as url,
        httpx.Client(base_url=url, timeout=30) as http,
    ):
        refused = send(http, sent, "many")
        assert refused.status_code == 429
        assert "?id=many" in refused.json()["error"]["message"]
        counts = http.get("/v1/batches/many").json()["counts"]
        assert 1 <= counts["queued"] + counts["running"] < counts["total"] == 5
        http.delete("/v1/batches/many")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "body: empty"),
        ("{", "line 1: accepted: a JSON object"),
        ("[]", "line 1: accepted: a JSON object"),
        ('{"input": "x"}', "line 1: custom_id: accepted"),
        ('{"custom_id": "../x", "input": "x"}', "line 1: custom_id: accepted"),
        (
            '{"custom_id": "a", "input": "x"}\n\n{"custom_id": "a", "input": "y"}',
            "line 3: custom_id: 'a' is there",
        ),
        ('{"custom_id": "a", "input": "x"}\n{"custom_id": "b"}', "line 2: input: missing"),
        ('{"custom_id": "a", "input": "x", "speed": 9}', "line 1: speed: accepted"),
        (10_001 * '{"custom_id": "a", "input": "x"}\n', "line 2: custom_id: 'a' is there"),
    ],
)
def test_a_batch_with_a_wrong_line_queues_nothing(
    http: httpx.Client, worker: TTSClient, body: str, message: str
) -> None:
    before = set(worker.connection.keys("rq:job:batch-*"))
    answer = http.post("/v1/batches", content=body)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(message)
    assert set(worker.connection.keys("rq:job:batch-*")) <= before  # of which some may expire meanwhile


def test_nobody_gets_at_the_batches_of_others(redis_url: str, worker: TTSClient, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(
        "".join(f"{name} {hashlib.sha256(name.encode()).hexdigest()}\n" for name in ("shop", "studio"))
    )
    with serving(redis_url, queue=worker.queue, keys=keys) as url:
        shop, studio = (
            httpx.Client(base_url=url, headers={"authorization": f"Bearer {name}"}) for name in ("shop", "studio")
        )
        with shop, studio:
            batch = send(shop, lines(1)).json()["id"]
            for method, path in (("GET", ""), ("GET", "/files"), ("DELETE", "")):
                answer = studio.request(method, f"/v1/batches/{batch}{path}")
                assert (answer.status_code, answer.json()["error"]["code"]) == (404, "batch_not_found")
            assert ended(shop, batch)["counts"]["finished"] == 1
        assert httpx.get(f"{url}/v1/batches/{batch}").status_code == 401
