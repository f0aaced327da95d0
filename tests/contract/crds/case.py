"""One constraint of a CRD with a value on either side of it, and the words that refusals have in common."""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

Object = dict[str, Any]

MAP: Object = {
    "apiVersion": "pullpass.dev/v1alpha1",
    "kind": "ScopeMap",
    "metadata": {"name": "nginx-read"},
    "spec": {
        "rules": [{"repositories": ["demo/nginx"], "actions": ["content/read"]}],
        "allowedNamespaces": {"from": "All"},
    },
}
TOKEN: Object = {
    "apiVersion": "pullpass.dev/v1alpha1",
    "kind": "RegistryToken",
    "metadata": {"name": "nginx-reader", "namespace": "default"},
    "spec": {"scopeMapRef": {"name": "nginx-read"}},
}
WHEN = "2027-01-01T00:00:00Z"

NAMESPACE = "a namespace is named by lower-case letters, digits and dashes, and begins and ends with a letter or digit"
NAME = (
    "a name consists of lower-case letters, digits, dashes and dots, and each part between dots begins and ends "
    "with a letter or digit"
)
REGISTRY = "a registry is named by lower-case letters, digits and dashes, and begins and ends with a letter or digit"
REPOSITORY = (
    "a repository is a lower-case name such as team/app, a prefix ending in /* such as team/*, or * alone; "
    "a * anywhere else is not supported"
)
LABEL_KEY = "a label key is a name such as team, or one with a prefix such as example.com/team"
LABEL_VALUE = (
    "a label value consists of letters, digits, dashes, underscores and dots, and begins and ends with "
    "a letter or digit"
)
DURATION = "a duration is written in hours, minutes and seconds, such as 720h, 1h30m or 45s"
RFC3339 = "a time is written as in RFC 3339, with seconds and zone, such as 2027-03-31T22:00:00Z"
DAY = "a time must be on a day that exists, in the years 2000 to 2999"
PASSWORD_ID = "the id of a password is six hexadecimal digits, such as 4f9c1e; status.passwords shows it"
TOO_MANY = "Too many: {}: must have at most {} items"
REQUIRED = "Required value"
DUPLICATE = 'Duplicate value: "{}"'


@dataclass(frozen=True)
class Case:
    """One constraint of the schema, with a value on either side of it."""

    kind: str
    constraint: str
    """Where it stands and what it is, as `constraints` names it."""
    at: str
    """Where the values go: a path whose parents are made, lists by index."""
    good: Any
    bad: Any
    sentence: str
    field: str = ""
    """The field that the refusal names, if it is not `at`."""
    base: Object | None = None
    """What the rest of the spec must be."""

    @property
    def name(self) -> str:
        """The constraint; a CEL rule with its sentence, as a field can have several."""
        return f"{self.constraint}: {self.sentence}" if self.constraint.endswith(" rule") else self.constraint

    def build(self, value: Any, name: str) -> Object:
        obj = deepcopy(MAP if self.kind == "ScopeMap" else TOKEN)
        obj["metadata"]["name"] = name
        for path, part in (self.base or {}).items():
            put(obj, path, deepcopy(part))
        put(obj, self.at, deepcopy(value))
        return obj


def put(obj: Any, path: str, value: Any) -> None:
    """Set a value at `a.b.0.c`; None takes the field away."""
    *parents, last = path.split(".")
    for part in parents:
        obj = obj[int(part)] if isinstance(obj, list) else obj.setdefault(part, {})
    if value is None:
        obj.pop(last)
    elif isinstance(obj, list):
        obj[int(last)] = value
    else:
        obj[last] = value


def names(count: int) -> list[str]:
    """As many different short names."""
    return [f"n{number}" for number in range(count)]


def unsupported(bad: str, *good: str) -> str:
    return f'Unsupported value: "{bad}": supported values: ' + ", ".join(f'"{value}"' for value in good)


def string_cases(
    kind: str,
    constraint: str,
    at: str,
    limit: int,
    good: str,
    bad: str,
    sentence: str,
    base: Object | None = None,
) -> Iterator[Case]:
    """The three constraints of a name."""
    yield Case(kind, f"{constraint} minLength", at, "a", "", "should be at least 1 chars long", base=base)
    too_long = f"Too long: may not be more than {limit}"
    yield Case(kind, f"{constraint} maxLength", at, "a" * limit, "a" * (limit + 1), too_long, base=base)
    yield Case(kind, f"{constraint} rule", at, good, bad, sentence, base=base)


def constraints(schema: Object, at: str = "") -> Iterator[str]:
    """Every constraint of a schema, as the cases name them; each CEL rule by its sentence too."""
    for name in ("minItems", "maxItems", "minLength", "maxLength", "maxProperties", "enum", "format"):
        if name in schema:
            yield f"{at} {name}"
    if schema.get("x-kubernetes-list-type") in ("set", "map"):
        yield f"{at} {schema['x-kubernetes-list-type']}"
    for name in schema.get("required", []):
        yield f"{at} required {name}".strip()
    for rule in schema.get("x-kubernetes-validations", []):
        yield f"{at} rule: {rule['message']}"
    for name, child in schema.get("properties", {}).items():
        yield from constraints(child, f"{at}.{name}".removeprefix("."))
    if "items" in schema:
        yield from constraints(schema["items"], f"{at}[]")
    if "additionalProperties" in schema:
        yield from constraints(schema["additionalProperties"], f"{at}{{}}")
