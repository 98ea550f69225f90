"""What ``/openapi.json`` says is true: whatever is sent, the answer is one that it names, and none is a fault."""

import re
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from gateway.app import PAGE, ROUTES
from gateway.openapi import document
from gateway.orders import KNOWN

CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance, status_code_conformance]
UNTOLD = {"/openapi.json", *PAGE}

schemathesis.serializer.alias("application/jsonl", "text/plain")
schema = schemathesis.openapi.from_dict(document())


@pytest.mark.slow
@pytest.mark.timeout(300)
@schema.parametrize()
@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_the_answer_is_one_of_the_document(case: "schemathesis.Case[Any]", url: str) -> None:
    if isinstance(case.body, dict) and "input" in case.body:
        case.body["max_seconds"] = case.body.get("max_seconds") or 0.1  # null is without end
    case.call_and_validate(base_url=url, checks=CHECKS)


def test_every_path_is_in_the_document(http: httpx.Client) -> None:
    told = http.get("/openapi.json").json()["paths"]
    offered: dict[str, set[str]] = {}
    for route in ROUTES:
        offered.setdefault(route.path, set()).update(route.methods or ())
    found = {path: {method.upper() for method in operations} for path, operations in told.items()}
    assert found == {path: methods - {"HEAD"} for path, methods in offered.items() if path not in UNTOLD}


def test_every_field_is_in_the_document() -> None:
    assert sorted(document()["components"]["schemas"]["Speech"]["properties"]) == KNOWN


@pytest.mark.parametrize("name", ["Speech", "Voice"])
def test_no_field_is_without_a_type(name: str) -> None:
    fields = document()["components"]["schemas"][name]["properties"]
    assert [
        field for field, told in fields.items() if not re.search("type|enum|anyOf|const", " ".join(told))
    ] == []
