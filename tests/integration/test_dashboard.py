"""The dashboard: its pages over HTTP, what hostile jobs do to them, its command, and a real browser."""

import os
import pickle
import re
import subprocess
import sys
import time
import zlib
from base64 import b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from redis import Redis
from rq.job import Job, JobStatus
from rq.queue import Queue
from rq.registry import DeferredJobRegistry, FailedJobRegistry, StartedJobRegistry
from rq.results import Result
from rq.serializers import JSONSerializer
from selenium.common.exceptions import StaleElementReferenceException
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By

from browsers import chromium
from rwkv_tts.client import TTSClient
from rwkv_tts.keys import FUNCTION
from rwkv_tts.results import JobFailedError
from waiting import until
from worker.cli.local import local_worker, workers_on
from worker.ops.dashboard import DashboardError
from worker.settings import Settings

pytest.importorskip("rq_dashboard", reason="no rq-dashboard: pip install -e '.[dashboard]'")
from flask.testing import FlaskClient

from worker.ops.dashboard import check_access, create_app

pytestmark = pytest.mark.slow

QUEUE = "shown"
IDLE = "unattended"
LONG_TEXT = "\n\n".join(10 * ["x" * 340])
"""Not spoken to its end while somebody looks."""

STATES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
MARKUP = "<img src=x onerror=\"document.title='taken'\">"


def rq_queue(connection: Redis, name: str) -> Queue:
    return Queue(name, connection=connection, serializer=JSONSerializer)


def fetch(connection: Redis, job_id: str) -> Job:
    return Job.fetch(job_id, connection=connection, serializer=JSONSerializer)


@pytest.fixture(scope="module")
def speaker(redis_url: str, slow_model: Path) -> Iterator[TTSClient]:
    """Producer of a queue that one worker with 4 rows serves; no text ends by itself."""
    with local_worker(Settings(model=slow_model, queue=(QUEUE,), max_rows=4), redis_url) as local:
        local.wait_until_ready()
        yield TTSClient(redis_url, QUEUE)


@contextmanager
def busy(speaker: TTSClient) -> Iterator[list[str]]:
    """Keep the worker's rows occupied; yields the ids of four running jobs."""
    jobs = [speaker.submit(LONG_TEXT, seed=seed) for seed in range(64)]
    try:
        until(lambda: fetch(speaker.connection, jobs[3]).get_status() == JobStatus.STARTED)
        yield jobs[:4]
    finally:
        for job_id in reversed(jobs):
            speaker.cancel(job_id)
        started = StartedJobRegistry(QUEUE, connection=speaker.connection, serializer=JSONSerializer)
        until(lambda: not started.get_job_ids())


@pytest.fixture
def pages(redis_url: str) -> FlaskClient:
    return create_app(Redis.from_url(redis_url), "redis://somewhere").test_client()


def read(pages: FlaskClient, path: str) -> Any:
    answer = pages.get(path)
    assert answer.status_code == 200, (path, answer.get_data(as_text=True))
    return answer.get_json() if path.endswith(".json") else answer.get_data(as_text=True)


def listed(pages: FlaskClient, queue: str, state: str) -> dict[str, dict[str, Any]]:
    read(pages, f"/0/view/jobs/{queue}/{state}/50/asc/1")
    return {job["id"]: job for job in read(pages, f"/0/data/jobs/{queue}/{state}/50/asc/1.json")["jobs"]}


def shown_job(pages: FlaskClient, job_id: str) -> dict[str, Any]:
    assert job_id in read(pages, f"/0/view/job/{job_id}")
    job = read(pages, f"/0/data/job/{job_id}.json")
    assert isinstance(job, dict)
    return job


def idle_jobs(connection: Redis) -> dict[str, str]:
    """A job of each state that needs no worker."""
    queue = rq_queue(connection, IDLE)
    client = TTSClient(connection, IDLE)
    jobs = {"queued": client.submit("a"), "canceled": client.submit("b")}
    client.cancel(jobs["canceled"])
    arguments: dict[str, Any] = {"request": {"text": "c"}}
    jobs["deferred"] = queue.enqueue(FUNCTION, **arguments, depends_on=[jobs["queued"]]).id
    jobs["scheduled"] = queue.enqueue_in(timedelta(hours=1), FUNCTION, **arguments).id
    return jobs


def test_lists_and_job_pages_of_every_state(speaker: TTSClient, connection: Redis, pages: FlaskClient) -> None:
    jobs = idle_jobs(connection)
    jobs["finished"] = speaker.submit("hello", seed=2**64 - 1, max_seconds=0.5, metadata={"note": "a < b"})
    jobs["failed"] = speaker.enqueue({"text": "a", "voice": "nobody"})
    assert speaker.result(jobs["finished"], timeout=60).audio
    with pytest.raises(JobFailedError):
        speaker.result(jobs["failed"], timeout=60)
    with busy(speaker) as running:
        jobs = {"started": running[0], **jobs}
        assert set(running) <= set(listed(pages, QUEUE, "started"))
        assert set(jobs) == set(STATES)
        for state, job_id in jobs.items():
            queue = QUEUE if state in ("started", "finished", "failed") else IDLE
            assert listed(pages, queue, state)[job_id]["description"], state
            assert shown_job(pages, job_id)["status"] == state

    result = shown_job(pages, jobs["finished"])["result"]
    assert (result["job_id"], result["seed"]) == (jobs["finished"], str(2**64 - 1))
    assert result["metadata"] == {"note": "a &lt; b"}
    assert listed(pages, QUEUE, "failed")[jobs["failed"]]["exc_info"].startswith("voice: unknown voice 'nobody'")
    assert shown_job(pages, jobs["failed"])["exc_info"].startswith("voice: unknown voice")
    waiting = shown_job(pages, jobs["deferred"])
    assert (waiting["depends_on"], waiting["depends_on_status"]) == ([jobs["queued"]], ["active"])


def test_queues_and_workers_while_a_worker_is_busy(speaker: TTSClient, pages: FlaskClient) -> None:
    (worker,) = workers_on(speaker.connection, QUEUE)
    with busy(speaker) as running:
        queues = {queue["name"]: queue for queue in read(pages, "/0/data/queues.json")["queues"]}
        workers = {shown["name"]: shown for shown in read(pages, "/0/data/workers.json")["workers"]}
        assert QUEUE in read(pages, "/0/view/jobs")
        assert "redis://somewhere" in read(pages, "/")
        assert "Workers" in read(pages, "/0/view/workers")
    assert queues[QUEUE]["started_job_registry_count"] >= len(running)
    assert queues[QUEUE]["count"] > 0
    assert workers[worker.name]["state"] == "busy"
    assert FUNCTION in workers[worker.name]["current_job"]["call_string"]
    assert workers[worker.name]["queues"] == [QUEUE]


def test_requeue_delete_empty_and_compact(speaker: TTSClient, connection: Redis, pages: FlaskClient) -> None:
    assert pages.post(f"/queue/{QUEUE}/failed/empty").get_json() == {"status": "OK"}
    failed = [speaker.enqueue({"text": ""}) for _ in range(3)]
    for job_id in failed:
        with pytest.raises(JobFailedError):
            speaker.result(job_id, timeout=60)
    assert pages.post(f"/job/{failed[0]}/requeue").get_json() == {"status": "OK"}
    until(lambda: len(fetch(connection, failed[0]).results()) == 2)
    until(lambda: failed[0] in listed(pages, QUEUE, "failed"))
    assert pages.post(f"/requeue/{QUEUE}").get_json() == {"status": "OK", "count": 3}
    until(lambda: [len(fetch(connection, job_id).results()) for job_id in failed] == [3, 2, 2])

    jobs = idle_jobs(connection)
    assert pages.post(f"/queue/{IDLE}/compact").get_json() == {"status": "OK"}
    assert pages.post(f"/job/{jobs['queued']}/delete").get_json() == {"status": "OK"}
    assert pages.post(f"/job/{jobs['queued']}/delete").get_json() == {"status": "ERROR"}
    assert jobs["queued"] not in rq_queue(connection, IDLE).job_ids
    assert shown_job(pages, jobs["deferred"])["depends_on_status"] == ["expired"]
    for state in STATES:
        assert pages.post(f"/queue/{IDLE}/{state}/empty").get_json() == {"status": "OK"}
        assert listed(pages, IDLE, state) == {}
    gone = pages.get(f"/0/view/job/{jobs['queued']}")
    assert (gone.status_code, gone.get_data(as_text=True)) == (404, "no such job: it was deleted or has expired")


class Attack:
    """Unpickling it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self._folder),)


def test_nothing_is_unpickled_and_no_page_breaks(connection: Redis, pages: FlaskClient, tmp_path: Path) -> None:
    attack = pickle.dumps(Attack(tmp_path / "executed"))
    other, good = TTSClient(connection, "pickled"), TTSClient(connection, "pickled").submit("fine")
    fields: dict[str, bytes] = {"data": zlib.compress(attack), "meta": attack, "result": attack}
    hostile = {name: other.submit("hostile") for name in fields} | {"all": other.submit("hostile")}
    for name, job_id in hostile.items():
        written = fields if name == "all" else {name: fields[name]}
        connection.hset(Job.key_for(job_id), mapping=written)  # type: ignore[arg-type]
    stream = f"rq:results:{hostile['all']}"
    connection.xadd(stream, {"type": Result.Type.SUCCESSFUL.value, "return_value": b64encode(attack)})
    for registry, suffix in ((FailedJobRegistry, ""), (StartedJobRegistry, ":1"), (DeferredJobRegistry, "")):
        entries = {hostile["all"] + suffix: 2e9, good + suffix: 2e9}
        connection.zadd(registry("pickled", connection=connection).key, entries)

    assert set(listed(pages, "pickled", "queued")) == {good, *hostile.values()}
    for state in ("failed", "started", "deferred"):
        assert set(listed(pages, "pickled", state)) == {good, hostile["all"]}
    for job_id in hostile.values():
        assert shown_job(pages, job_id)["status"] == "queued"
    shown = shown_job(pages, hostile["all"])
    assert "meta: not readable" in shown["metadata"]
    assert "result: not readable" in shown["result"]
    with strange_worker(connection, hostile["all"]):
        assert "data: not readable" in current_job(pages, "stranger")["call_string"]
        assert pages.post(f"/job/{hostile['all']}/requeue").get_json() == {"status": "OK"}
        assert pages.post(f"/job/{hostile['all']}/delete").get_json() == {"status": "OK"}
        assert current_job(pages, "stranger") == "idle"
    assert pages.post("/queue/pickled/queued/empty").get_json() == {"status": "OK"}
    assert not (tmp_path / "executed").exists()
    pickle.loads(attack)  # noqa: S301 - it would have worked
    assert (tmp_path / "executed").exists()


def test_a_job_that_is_pickled_is_shown_if_it_is_plain(connection: Redis, pages: FlaskClient) -> None:
    queue = Queue("plainly-pickled", connection=connection)
    job = queue.enqueue("worker.tasks.synthesize", request={"text": "a"}, meta={"order": 7})
    Result.create(job, Result.Type.SUCCESSFUL, 600, return_value={"seconds": 1.5})
    shown = shown_job(pages, job.id)
    assert "order" in shown["metadata"]
    assert shown["result"] == {"seconds": 1.5}
    assert listed(pages, queue.name, "queued").keys() == {job.id}
    connection.hset(job.key, "status", "started")
    with strange_worker(connection, job.id):
        assert "synthesize(request={" in current_job(pages, "stranger")["call_string"]


@pytest.mark.parametrize("state", ["queued", "failed"])
@pytest.mark.parametrize(("order", "page"), [("asc", 5), ("dsc", 2), ("asc", 7), ("dsc", 7), ("asc", 8)])
def test_a_page_has_as_many_jobs_as_it_should_wherever_it_is(
    connection: Redis, pages: FlaskClient, state: str, order: str, page: int
) -> None:
    """Each reads its own jobs only: further ones made the last page of a long list slow."""
    jobs = [f"{state}-{number:03}" for number in range(310)]
    queue = rq_queue(connection, f"long-{state}")
    if not queue.count and not queue.failed_job_registry.get_job_count(cleanup=False):
        names = [Queue.prepare_data(FUNCTION, kwargs={"request": {"text": "a"}}, job_id=job) for job in jobs]
        queue.enqueue_many(names)
        if state == "failed":
            connection.delete(queue.key)
            connection.zadd(queue.failed_job_registry.key, {job: 2e9 + at for at, job in enumerate(jobs)})
    expected = (jobs if order == "asc" else jobs[::-1])[50 * (page - 1) : 50 * page]

    def jobs_read() -> Any:
        before = connection.info("commandstats")["cmdstat_hgetall"]["calls"]
        shown = read(pages, f"/0/data/jobs/{queue.name}/{state}/50/{order}/{page}.json")
        assert [job["id"] for job in shown["jobs"]] == expected
        return connection.info("commandstats")["cmdstat_hgetall"]["calls"] - before

    until(lambda: jobs_read() <= 50)  # a worker may read some as well, now and then


@contextmanager
def strange_worker(connection: Redis, job_id: str) -> Iterator[None]:
    """What Redis holds while another application's worker, called stranger, runs a job."""
    key, execution = "rq:worker:stranger", f"{job_id}:1"
    connection.sadd("rq:workers", key)
    connection.hset(key, mapping={"queues": "pickled", "state": "busy"})
    connection.sadd(f"{key}:executions", execution)
    fields: dict[Any, Any] = {"id": "1", "job_id": job_id, "created_at": 0, "last_heartbeat": time.time()}
    connection.hset(f"rq:execution:{execution}", mapping=fields)
    try:
        yield
    finally:
        connection.srem("rq:workers", key)
        connection.delete(key, f"{key}:executions")


def current_job(pages: FlaskClient, worker: str) -> Any:
    workers = {shown["name"]: shown for shown in read(pages, "/0/data/workers.json")["workers"]}
    return workers[worker]["current_job"]


def test_one_unreadable_job_hides_no_other(connection: Redis, pages: FlaskClient) -> None:
    client = TTSClient(connection, "damaged")
    bad, good = client.submit("bad"), client.submit("good")
    broken = {"created_at": b"\xff", "timeout": "soon", "description": b"\xff"}
    connection.hset(Job.key_for(bad), mapping=broken)  # type: ignore[arg-type]
    connection.set(Job.key_for("not-a-hash"), "text")
    connection.rpush("rq:queue:damaged", "not-a-hash", "no such id!")
    jobs = listed(pages, "damaged", "queued")
    assert set(jobs) == {bad, good}
    assert "job: not readable" in jobs[bad]["description"]
    assert "job: not readable" in shown_job(pages, bad)["description"]
    failed = FailedJobRegistry("damaged", connection=connection)
    connection.zadd(failed.key, {bad: 2e9})
    assert pages.post("/requeue/damaged").status_code == 200
    assert (failed.get_job_ids(), connection.hget(Job.key_for(bad), "timeout")) == ([bad], b"soon")
    connection.hset(Job.key_for(bad), "status", "failed")
    assert pages.post(f"/job/{bad}/delete").get_json() == {"status": "OK"}
    assert not failed.get_job_ids()


def test_text_of_jobs_and_queues_is_no_markup(connection: Redis, pages: FlaskClient) -> None:
    queue = rq_queue(connection, "<b>queue")
    job = queue.enqueue(FUNCTION, request={"text": MARKUP}, description=MARKUP, meta={MARKUP: MARKUP})
    for path in (f"/0/data/job/{job.id}.json", "/0/data/queues.json", "/0/data/workers.json"):
        assert "<" not in str(read(pages, path)), path
    hostile = "');document.title='taken';('"
    assert hostile not in read(pages, f"/0/view/jobs/{quote(hostile)}/queued/8/asc/1")
    queue.delete()


def test_basic_authentication_and_other_sites(connection: Redis, pages: FlaskClient) -> None:
    guarded = create_app(connection, "redis://somewhere", ("me", "sécret")).test_client()
    for path in ("/", "/0/data/queues.json", "/static/css/main.css"):
        assert guarded.get(path).status_code == 401
        assert guarded.get(path, auth=("me", "wrong")).status_code == 401
        assert guarded.get(path, auth=("me", "sécret")).status_code == 200
    assert guarded.post("/job/x/delete").status_code == 401
    assert guarded.get("/", headers={"Authorization": "Bearer x"}).status_code == 401

    foreign = {"Sec-Fetch-Site": "cross-site"}
    assert pages.post("/queue/nothing/queued/empty", headers=foreign).status_code == 403
    assert pages.get("/requeue/nothing", headers=foreign).status_code == 403
    assert pages.get("/", headers=foreign).status_code == 200
    own = {"Sec-Fetch-Site": "same-origin"}
    assert pages.post("/queue/nothing/queued/empty", headers=own).status_code == 200


def command(arguments: Sequence[str], environment: dict[str, str]) -> tuple[list[str], dict[str, str]]:
    prefixes = ("REDIS_URL", "RWKV_TTS_REDIS", "RQ_DASHBOARD_")
    clean = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
    return [sys.executable, "-m", "worker.cli", "dashboard", *arguments], {**clean, **environment}


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--host=0.0.0.0"], "--host: '0.0.0.0' is not a loopback address; accepted: 127.0.0.1, ::1, "),
        (["--host", ""], "--host: '' is not a loopback address"),
        (["--host", "example.org"], "RQ_DASHBOARD_PASSWORD or --password"),
        (["--username", "me"], "--username: accepted only with a password (RQ_DASHBOARD_PASSWORD or --password)"),
        (["--password-file=/no/such"], "--password-file: /no/such: No such file or directory; accepted: "),
        (
            [],
            "--redis: no Redis to show, and no worker runs in this folder; "
            "accepted: a URL here, in RWKV_TTS_REDIS or in REDIS_URL",
        ),
    ],
)
def test_the_command_refuses_in_one_line(arguments: list[str], reason: str) -> None:
    line, environment = command(arguments, {})
    done = subprocess.run(line, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    (refusal,) = [line for line in done.stderr.splitlines() if not line.startswith("warning:")]
    assert reason in refusal


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_password_and_a_network_one(host: str) -> None:
    check_access(host, None, None)
    for network in ("::", "192.0.2.1", "127.0.0.1.example.org", "unix:///tmp/socket"):
        check_access(network, None, "secret")
        with pytest.raises(DashboardError, match=r"--host: .* is not a loopback address"):
            check_access(network, None, "")


def test_without_rq_dashboard_the_command_says_what_to_install() -> None:
    code = (
        "import sys; sys.modules['rq_dashboard'] = None; sys.argv[1:] = ['dashboard']\n"
        "from worker.cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "pip install 'rwkv-tts-worker[dashboard]'" in done.stderr


@contextmanager
def dashboard(log: Path, *arguments: str, **environment: str) -> Iterator[str]:
    """Run the command on a free loopback port; yields the address that it prints."""
    line, variables = command(["--port", "0", *arguments], environment)
    with log.open("w") as output, subprocess.Popen(line, env=variables, stderr=output) as process:
        try:
            until(lambda: " on http://" in log.read_text() or process.poll() is not None)
            found = re.search(r" on (http://\S+)/", log.read_text())
            assert found, log.read_text()
            yield found[1]
        finally:
            process.terminate()


def test_passwords_come_from_the_environment_and_are_not_shown(
    redis_url: str, connection: Redis, tmp_path: Path
) -> None:
    connection.acl_setuser("watcher", enabled=True, passwords=["+redis-secret"], categories=["+@all"], keys=["*"])
    url = redis_url.replace("unix://", "unix://watcher:redis-secret@")
    log = tmp_path / "log"
    with dashboard(log, REDIS_URL=url, RQ_DASHBOARD_PASSWORD="web-secret") as address:
        refused, allowed = get(address, "admin:guess"), get(address, "admin:web-secret")
    assert (refused[0], allowed[0]) == (401, 200)
    assert redis_url in allowed[1]
    assert "secret" not in refused[1] + allowed[1] + log.read_text()


def get(address: str, login: str) -> tuple[int, str]:
    connection = HTTPConnection(address.removeprefix("http://"), timeout=30)
    connection.request("GET", "/", headers={"Authorization": f"Basic {b64encode(login.encode()).decode()}"})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chrome]:
    with chromium(tmp_path_factory.mktemp("profile")) as chrome:
        yield chrome


@pytest.fixture(scope="module")
def site(redis_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with dashboard(tmp_path_factory.mktemp("site") / "log", "--redis", redis_url) as address:
        yield address


class Screen:
    """One browser on one dashboard."""

    def __init__(self, chrome: Chrome, site: str, pictures: Path) -> None:
        self.chrome = chrome
        self._site = site
        self._pictures = pictures

    def open(self, path: str) -> None:
        self.chrome.get(self._site + path)

    def text(self, selector: str) -> str:
        try:
            return "\n".join(element.text for element in self.chrome.find_elements(By.CSS_SELECTOR, selector))
        except StaleElementReferenceException:  # the page has just refreshed its table
            return ""

    def shows(self, selector: str, *texts: str) -> None:
        until(lambda: all(text in self.text(selector) for text in texts))

    def save(self, name: str) -> None:
        self._pictures.mkdir(parents=True, exist_ok=True)
        assert self.chrome.save_screenshot(str(self._pictures / f"dashboard-{name}.png"))


@pytest.fixture
def screen(browser: Chrome, site: str, tmp_path: Path) -> Screen:
    return Screen(browser, site, Path(os.environ.get("TEST_ARTIFACTS") or tmp_path))


@pytest.mark.browser
def test_browser_shows_queues_running_jobs_and_the_busy_worker(screen: Screen, speaker: TTSClient) -> None:
    (worker,) = workers_on(speaker.connection, QUEUE)
    with busy(speaker) as running:
        screen.open("/")
        screen.shows("#queues", QUEUE)
        row = f"//table[@id='queues']//tr[td[1][normalize-space()='{QUEUE}']]/td"
        counts = [cell.text for cell in screen.chrome.find_elements(By.XPATH, row)]
        assert int(counts[1]) > 0
        assert int(counts[4]) >= len(running)
        screen.save("queues")

        screen.open("/0/view/workers")
        screen.shows("#workers", worker.name, f"{FUNCTION}(", QUEUE)
        screen.save("workers")

        screen.open(f"/0/view/jobs/{QUEUE}/started/8/asc/1")
        screen.shows("#jobs", "speech")
        assert len(screen.text("#jobs .job_id").split()) >= len(running)
        screen.save("started")
    screen.open("/0/view/workers")
    screen.shows("#workers", worker.name, "idle")


@pytest.mark.browser
def test_browser_shows_why_a_job_failed_and_requeues_it(
    screen: Screen, speaker: TTSClient, connection: Redis
) -> None:
    job_id = speaker.enqueue({"text": "a", "voice": MARKUP})
    with pytest.raises(JobFailedError) as failure:
        speaker.result(job_id, timeout=60)
    reason = str(failure.value)
    assert "onerror" in reason
    screen.open(f"/0/view/jobs/{QUEUE}/failed/50/dsc/1")
    screen.shows("#jobs", job_id, reason)
    screen.save("failed")
    screen.open(f"/0/view/job/{job_id}")
    screen.shows(".exc_info", reason)
    screen.shows("#job-data", "failed")
    screen.save("failed-job")
    assert screen.chrome.title == "RQ dashboard"

    button = screen.chrome.find_element(By.ID, "requeue-job-btn")
    until(button.is_displayed)
    button.click()
    until(lambda: len(fetch(connection, job_id).results()) == 2)
    assert fetch(connection, job_id).get_status() == JobStatus.FAILED


@pytest.mark.browser
def test_browser_deletes_a_queued_job(screen: Screen, connection: Redis) -> None:
    queue = rq_queue(connection, "deleted")
    job_id = TTSClient(connection, "deleted").submit("a")
    screen.open("/0/view/jobs/deleted/queued/8/asc/1")
    screen.shows("#jobs", job_id)
    screen.chrome.find_element(By.CSS_SELECTOR, "[data-role=delete-job-btn]").click()
    confirm = screen.chrome.find_element(By.ID, "confirmation-modal-yes")
    until(confirm.is_displayed)
    confirm.click()
    until(lambda: not connection.exists(Job.key_for(job_id)))
    assert queue.job_ids == []
