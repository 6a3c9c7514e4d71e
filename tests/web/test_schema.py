"""Requests made from the OpenAPI document, good and bad ones: never a server error, never what it does not describe."""

from __future__ import annotations

import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from console.web.app import OPERATIONS
from console.web.openapi import document
from tests.web.site import Site

DOCUMENT = document(OPERATIONS)
ENDLESS = ("/api/v1/events/stream", "/api/v1/overview/stream")
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)


schema = schemathesis.openapi.from_dict(DOCUMENT).exclude(path=list(ENDLESS))


def test_schemas_are_described_for_readers_of_the_document() -> None:
    schemas = DOCUMENT["components"]["schemas"]
    described = {name: found["description"] for name, found in schemas.items() if "description" in found}

    assert len(described) > 20
    for name, text in described.items():
        assert "Attributes:" not in text and "Args:" not in text and "\n" not in text, name
        assert text.endswith("."), name
    numbers = schemas["ProjectNumbers"]
    assert numbers["description"] == "What one project amounts to, among others."
    assert numbers["properties"]["project_id"]["description"] == "The project."


@schema.parametrize()
@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
def test_every_operation_answers_as_the_document_says(case: schemathesis.Case, site: Site) -> None:
    case.call_and_validate(base_url=site.url, checks=CHECKS, timeout=30)
