"""Reads what a worker shows to Prometheus, with the client library's own parser."""

from contextlib import closing
from http.client import HTTPConnection

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

Samples = dict[str, float]
"""Values by name and labels as ``name{label="value",...}``, labels sorted; without dates of creation."""


def samples(text: str) -> Samples:
    """The samples of a page.

    Raises:
        ValueError: The page is not what Prometheus reads.
        AssertionError: A sample is there twice.
    """
    found: Samples = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            name = f"{sample.name}{{{labels}}}" if labels else sample.name
            if not sample.name.endswith("_created"):
                assert name not in found, name
                found[name] = sample.value
    return found


def shown(registry: CollectorRegistry) -> Samples:
    return samples(generate_latest(registry).decode())


def ask(port: int, path: str, method: str = "GET") -> tuple[int, str]:
    """Status and body of an answer from this machine.

    Raises:
        OSError: Nobody listens.
    """
    with closing(HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def scrape(port: int) -> Samples:
    status, text = ask(port, "/metrics")
    assert status == 200
    return samples(text)
