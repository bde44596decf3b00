"""The OpenAPI document, made of the same types that check every request and shape every answer."""

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from sasrec import __version__
from sasrec.serving.problems import MEDIA_TYPE, Document

if TYPE_CHECKING:
    from sasrec.serving.operations import Operation

_REFERENCE = "#/components/schemas/{name}"


def document(operations: "Sequence[Operation]") -> dict[str, Any]:
    """OpenAPI 3.1 of all operations."""
    types = [one for operation in operations for one in (operation.takes, operation.gives)]
    schemas, components = msgspec.json.schema_components([*types, Document], ref_template=_REFERENCE)
    shapes = dict(zip([*types, Document], schemas, strict=True))
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = _described(operation, shapes, components)
    return {
        "openapi": "3.1.0",
        "info": {"title": "sasrec", "version": __version__, "description": "The next items for each user."},
        "paths": paths,
        "components": {"schemas": components},
    }


def _described(operation: "Operation", shapes: dict[Any, Any], components: dict[str, Any]) -> dict[str, Any]:
    answers = {"200": _answer("The answer", operation.media_type, shapes[operation.gives])}
    for status in sorted({kind.status for kind in operation.problems}):
        kinds = [kind for kind in operation.problems if kind.status == status]
        answers[str(status)] = _answer("; ".join(kind.title for kind in kinds), MEDIA_TYPE, shapes[Document])
        if status == 503:
            answers["503"]["headers"] = {"retry-after": {"schema": {"type": "integer"}, "description": "Seconds."}}
    described: dict[str, Any] = {
        "operationId": operation.handle.__name__,
        "summary": (inspect.getdoc(operation.handle) or "").partition("\n")[0],
        "responses": answers,
    }
    if operation.method == "POST":
        described["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": shapes[operation.takes]}},
        }
    else:
        described["parameters"] = _parameters(operation, components)
    return described


def _answer(description: str, media_type: str, schema: dict[str, Any]) -> dict[str, Any]:
    return {"description": description, "content": {media_type.partition(";")[0]: {"schema": schema}}}


def _parameters(operation: "Operation", components: dict[str, Any]) -> list[dict[str, Any]]:
    """The fields of a request without a body, each in the path or in the query."""
    fields = components[operation.takes.__name__]
    return [
        {
            "name": name,
            "in": "path" if f"{{{name}}}" in operation.path else "query",
            "required": name in fields.get("required", ()),
            "schema": schema,
        }
        for name, schema in fields["properties"].items()
    ]
