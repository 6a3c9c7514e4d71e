"""Holds answers of the API against what its OpenAPI document says of them."""

from __future__ import annotations

import re
from functools import cache
from typing import Any

import jsonschema_rs

from console.web.app import OPERATIONS
from console.web.openapi import document

_SERVED_ALONE = "/api/v1/openapi.json"


@cache
def _document() -> dict[str, Any]:
    return document(OPERATIONS)


@cache
def _operations() -> list[tuple[str, re.Pattern[str], dict[str, Any]]]:
    found = []
    for path, methods in _document()["paths"].items():
        pattern = re.compile(re.sub(r"\{\w+\}", "[^/]+", path) + r"\Z")
        found += [(method.upper(), pattern, operation) for method, operation in methods.items()]
    return sorted(found, key=lambda each: "[^/]" in each[1].pattern)


def check(method: str, path: str, status: int, body: Any) -> None:
    """Fail unless the document describes such an answer."""
    if path == _SERVED_ALONE:
        return
    operation = next(each for verb, pattern, each in _operations() if verb == method and pattern.match(path))
    described = operation["responses"][str(status)]
    if body is None:
        assert "content" not in described
        return
    schema = described["content"]["application/json"]["schema"]
    whole = {**schema, "components": _document()["components"]}
    jsonschema_rs.Draft202012Validator(whole).validate(body)
