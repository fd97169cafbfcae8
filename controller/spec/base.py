"""What all models of a spec share."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Part(BaseModel):
    """A frozen piece of a spec; unknown fields are refused, attribute docstrings are the schema's texts."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        serialize_by_alias=True,
        validate_default=False,
        use_attribute_docstrings=True,
    )
