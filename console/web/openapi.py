"""The OpenAPI document, made of the operations. Source: OpenAPI 3.1."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, TypeAdapter

from console.web.access import COOKIE, Role
from console.web.operations import JSON, PREFIX, Answer, Operation
from console.web.problems import MEDIA, Problem

_REF = "#/components/schemas/{model}"
_PART = re.compile(r"\{(\w+)\}")
# How a docstring goes on after what it is about; and its attributes, `name: text. other, another: text.`
_SECTION = re.compile(r"\n\n[A-Z]\w+:\s")
_ATTRIBUTES = re.compile(r"(?:^|(?<=\. ))([a-z]\w*(?:, [a-z]\w*)*): ")
# What each operation may answer besides its own.
_ALWAYS = {
    400: "A parameter or the body cannot be read.",
    401: "No token is named, or one that is none of ours.",
    403: "It needs the operator's token, or comes from another site's page.",
    408: "The body comes too slowly.",
    413: "The body, or an event, is too large.",
    429: "Too many different wrong tokens came from this address: `Retry-After` says when one is looked at again.",
    500: "A bug, or what a hand has written into Redis: the process's log says what.",
    503: "Redis or the database cannot be reached or is not ready, or this process is busy: ask again after "
    "`Retry-After` seconds.",
}
_REFUSALS = {
    404: "There is no such thing.",
    409: "It contradicts what is there.",
    415: "The body is of a type that is not read here.",
    422: "The event is not valid.",
}


def document(operations: Iterable[Operation]) -> dict[str, Any]:
    """Return the document that describes the operations."""
    schemas: dict[str, Any] = {}
    problem = _schema(Problem, schemas)
    paths: dict[str, Any] = {}
    for operation in operations:
        paths.setdefault(PREFIX + operation.path, {})[operation.method.lower()] = _operation(
            operation, problem, schemas
        )
    for schema in schemas.values():
        _tell(schema)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Event bus",
            "version": _version(),
            "description": "Publish events, read history, ask why things happened and what they cost, and steer the "
            "fleet. Errors are problems (RFC 9457), each with a sentence.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
                "session": {"type": "apiKey", "in": "cookie", "name": COOKIE},
            },
        },
        "security": [{}, {"token": []}, {"basic": []}, {"session": []}],
    }


def _operation(operation: Operation, problem: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    needs = "Needs the operator's token." if operation.needs == Role.OPERATOR else ""
    found: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "description": " ".join(filter(None, (operation.about, needs))),
        "parameters": [
            *_path_parameters(operation),
            *_query_parameters(operation, schemas),
            *_header_parameters(operation),
        ],
        "responses": {str(status): _answer(answer, schemas) for status, answer in operation.answers.items()},
    }
    refusals = _ALWAYS | {status: _REFUSALS[status] for status in operation.refusals}
    for status, says in sorted(refusals.items()):
        found["responses"][str(status)] = {"description": says, "content": {MEDIA: {"schema": problem}}}
    if operation.body:
        content = {media: {"schema": _schema(kind, schemas)} for media, kind in operation.body.items()}
        found["requestBody"] = {"required": "*/*" not in content, "content": content}
    return found


def _answer(answer: Answer, schemas: dict[str, Any]) -> dict[str, Any]:
    if answer.schema is None:
        return {"description": answer.says}
    kinds = answer.schema if isinstance(answer.schema, Mapping) else {JSON: answer.schema}
    return {
        "description": answer.says,
        "content": {media: {"schema": _schema(kind, schemas, "serialization")} for media, kind in kinds.items()},
    }


def _path_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "in": "path",
            "required": True,
            "description": "Percent-encoded: a slash in it is `%2F`.",
            "schema": {"type": "string", "minLength": 1},
        }
        for name in _PART.findall(operation.path)
    ]


def _query_parameters(operation: Operation, schemas: dict[str, Any]) -> list[dict[str, Any]]:
    if operation.query is None:
        return []
    whole = operation.query.model_json_schema(ref_template=_REF)
    schemas.update(whole.get("$defs", {}))
    return [
        {"name": name, "in": "query", "required": name in whole.get("required", ()), **_described(schema)}
        for name, schema in whole["properties"].items()
    ]


def _header_parameters(operation: Operation) -> list[dict[str, Any]]:
    return [
        {"name": name, "in": "header", "required": False, "description": says, "schema": {"type": "string"}}
        for name, says in operation.headers.items()
    ]


def _described(schema: dict[str, Any]) -> dict[str, Any]:
    """Split a property into its description and its schema; a parameter that is left out needs no null."""
    own = {key: value for key, value in schema.items() if key not in ("description", "title")}
    kinds = [kind for kind in own.pop("anyOf", ()) if kind.get("type") != "null"]
    if kinds:
        own = {**kinds[0], **own} if len(kinds) == 1 else {"anyOf": kinds, **own}
        if own.get("default", 0) is None:
            del own["default"]
    return {"description": schema.get("description", ""), "schema": own}


def _schema(kind: Any, schemas: dict[str, Any], mode: Any = "validation") -> dict[str, Any]:
    """Return a reference to the schema of a type, or the schema; what it refers to is added to `schemas`."""
    found = TypeAdapter(kind).json_schema(ref_template=_REF, mode=mode)
    schemas.update(found.pop("$defs", {}))
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        schemas[kind.__name__] = found
        return {"$ref": _REF.format(model=kind.__name__)}
    return dict(found)


def _tell(schema: dict[str, Any]) -> None:
    """Make of a docstring the schema's description, and of its `Attributes:` those of properties that have none."""
    about, _, attributes = schema.get("description", "").partition("\n\nAttributes:")
    if about:
        schema["description"] = " ".join(_SECTION.split(about)[0].split())
    _, *parts = _ATTRIBUTES.split(" ".join(attributes.split()))
    for names, says in zip(parts[::2], parts[1::2], strict=True):
        for name in names.split(", "):
            of = schema.get("properties", {}).get(name)
            if of is not None and "description" not in of:
                of["description"] = says[:1].upper() + says[1:].strip()


def _version() -> str:
    try:
        return version("multi-agent-event-bus")
    except PackageNotFoundError:
        return "0"
