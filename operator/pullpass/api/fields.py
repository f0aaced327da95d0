"""Field types of the models, each with its bounds as the API server will enforce them.

Syntax is checked by CEL rules and not by `pattern`: a failed pattern shows people the regular expression, a rule
shows a sentence. So the models themselves do not check it again: what they read has passed the API server.
"""

from datetime import datetime, timedelta
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema
from pydantic.alias_generators import to_camel

from pullpass.api.times import (
    DURATION_PATTERN,
    TIME_PATTERN,
    format_duration,
    format_time,
    parse_duration,
    parse_time,
)


def rule(expression: str, message: str, **more: Any) -> dict[str, Any]:
    """One entry of `x-kubernetes-validations`: a CEL rule and the sentence a person gets when it fails."""
    return {"rule": expression, "message": message, **more}


def rules(*entries: dict[str, Any], **more: Any) -> dict[str, Any]:
    """`json_schema_extra` of a model or field that carries CEL rules."""
    return {"x-kubernetes-validations": list(entries), **more}


Duration = Annotated[
    timedelta,
    BeforeValidator(parse_duration),
    PlainSerializer(format_duration),
    WithJsonSchema(
        {
            # Not `format: duration`: that one also takes days and weeks, in seven spellings.
            "type": "string",
            "maxLength": 16,
            **rules(
                rule(
                    f"self != '' && self.matches('{DURATION_PATTERN}')",
                    "a duration is written in hours, minutes and seconds, such as 720h, 1h30m or 45s",
                )
            ),
        }
    ),
]

Time = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time),
    WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40}),
]

EndTime = Annotated[
    datetime,
    BeforeValidator(parse_time),
    PlainSerializer(format_time),
    WithJsonSchema(
        {
            # Not `format: date-time`: that one lets through what is no RFC 3339, such as +24:00.
            "type": "string",
            "maxLength": 40,
            **rules(
                rule(
                    f"self.matches(r'{TIME_PATTERN}')",
                    "a time is written as in RFC 3339, with seconds and zone, such as 2027-03-31T22:00:00Z",
                ),
                rule(
                    f"!self.matches(r'{TIME_PATTERN}') || (timestamp(self) >= timestamp('2000-01-01T00:00:00Z') "
                    "&& timestamp(self) < timestamp('3000-01-01T00:00:00Z'))",
                    "a time must be on a day that exists, in the years 2000 to 2999",
                ),
            ),
        }
    ),
]
"""A time that people write; `Time` is one that we write."""

LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
SUBDOMAIN = rf"{LABEL}(\\.{LABEL})*"
"""A DNS subdomain (RFC 1123), in a form that stands inside the quotes of a CEL string."""

NamespaceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=63,
        json_schema_extra=rules(
            rule(
                f"self.matches('^{LABEL}$')",
                "a namespace is named by lower-case letters, digits and dashes, and begins and ends with "
                "a letter or digit",
            )
        ),
    ),
]

ObjectName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=253,
        json_schema_extra=rules(
            rule(
                f"self.matches('^{SUBDOMAIN}$')",
                "a name consists of lower-case letters, digits, dashes and dots, and each part between dots begins "
                "and ends with a letter or digit",
            )
        ),
    ),
]


class Model(BaseModel):
    """Base of all models: camelCase outside, unknown fields ignored, as the API server prunes them."""

    model_config = ConfigDict(
        alias_generator=to_camel,
        populate_by_name=True,
        extra="ignore",
        frozen=True,
        use_attribute_docstrings=True,
    )
