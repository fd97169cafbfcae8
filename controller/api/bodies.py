"""Request bodies, read to a limit: one client must not fill our memory."""

from __future__ import annotations

from typing import Any

from fastapi import Request

from controller.api.problems import Problem

SPEC_LIMIT_BYTES = 1024**2
"""The contract's limit for a spec; one byte more is an answer, not a crash."""

SPEC_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/yaml": {
                "schema": {
                    "type": "object",
                    "description": "An app's spec; `oton schema` prints its whole JSON Schema",
                    "required": ["name", "image"],
                    "properties": {"name": {"type": "string"}, "image": {"type": "string"}},
                },
                "example": {
                    "name": "shop",
                    "image": "shop:1.4.2",
                    "port": 8000,
                    "routes": [{"host": "shop.example.com"}],
                },
            }
        },
    }
}
"""How OpenAPI shows an endpoint that takes a spec as YAML."""


async def read_spec(request: Request) -> bytes:
    """Return the body. Raises the 413 above 1 MiB and the 422 for an empty one."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > SPEC_LIMIT_BYTES:
            raise Problem(413, "too-large", "a spec has at most 1 MiB")
    if not data.strip():
        raise Problem(422, "refused", "the body is empty; send the spec as YAML", problems=["the body is empty"])
    return bytes(data)
