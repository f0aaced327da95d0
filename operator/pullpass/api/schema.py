"""The CustomResourceDefinitions, made from the models: the one source of `crds/*.yaml`.

A pydantic JSON schema becomes a structural schema (apiextensions.k8s.io/v1): references are inlined, titles and
`null` alternatives dropped, an optional field is one that is not required.
"""

from typing import Any

from pydantic import BaseModel

from pullpass.api.names import GROUP, VERSION
from pullpass.api.registrytoken import ROOT_RULES, RegistryTokenSpec, RegistryTokenStatus
from pullpass.api.scopemap import ScopeMapSpec

Schema = dict[str, Any]


def _structural(node: Any, definitions: dict[str, Schema]) -> Any:
    if isinstance(node, list):
        return [_structural(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    node = dict(node)
    if "$ref" in node:
        target = definitions[node.pop("$ref").removeprefix("#/$defs/")]
        node = {**target, **node}
    if "anyOf" in node:
        (only,) = [option for option in node.pop("anyOf") if option != {"type": "null"}]
        if "$ref" in only:
            only = definitions[only["$ref"].removeprefix("#/$defs/")]
        node = {**only, **node}
    node.pop("title", None)
    node.pop("$defs", None)
    if node.get("default", ...) in (None, []) or "additionalProperties" in node:
        node.pop("default", None)  # an absent list or map and an empty one mean the same to us
    if isinstance(node.get("description"), str):
        node["description"] = " ".join(node["description"].split())
    for key in ("items", "additionalProperties"):
        if key in node:
            node[key] = _structural(node[key], definitions)
    if "properties" in node:
        node["properties"] = {name: _structural(p, definitions) for name, p in node["properties"].items()}
    return node


def structural_schema(model: type[BaseModel]) -> Schema:
    """The structural schema of a model, with defaults as the API server applies them."""
    schema = model.model_json_schema(by_alias=True)
    result: Schema = _structural(schema, schema.get("$defs", {}))
    return result


def _definition(
    *,
    kind: str,
    plural: str,
    short: str,
    scope: str,
    description: str,
    spec: Schema,
    status: Schema | None,
    columns: list[dict[str, Any]],
    rules: list[dict[str, Any]],
    selectable: list[str],
) -> dict[str, Any]:
    root: Schema = {
        "type": "object",
        "description": description,
        "required": ["spec"],
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"type": "object"},
            "spec": spec,
        },
    }
    if rules:
        root["x-kubernetes-validations"] = rules
    version: dict[str, Any] = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "additionalPrinterColumns": columns,
        "schema": {"openAPIV3Schema": root},
    }
    if selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in selectable]
    if status is not None:
        root["properties"]["status"] = status
        version["subresources"] = {"status": {}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": [short],
                "categories": ["pullpass"],
            },
            "versions": [version],
        },
    }


def _column(name: str, path: str, type_: str = "string", **more: Any) -> dict[str, Any]:
    return {"name": name, "type": type_, "jsonPath": path, **more}


_AGE = _column("Age", ".metadata.creationTimestamp", "date")


def definitions() -> dict[str, dict[str, Any]]:
    """Both CustomResourceDefinitions, by the name of their file."""
    scope_map = _definition(
        kind="ScopeMap",
        plural="scopemaps",
        short="sm",
        scope="Cluster",
        description=(
            "A ScopeMap says which actions on which repositories of a registry, and whose RegistryTokens may use it."
        ),
        spec=structural_schema(ScopeMapSpec),
        status=None,
        columns=[
            _column("Registry", ".spec.registry"),
            _column("Allowed", ".spec.allowedNamespaces.from"),
            _column("Description", ".spec.description"),
            _AGE,
        ],
        rules=[],
        selectable=[],
    )
    token = _definition(
        kind="RegistryToken",
        plural="registrytokens",
        short="rt",
        scope="Namespaced",
        description="A RegistryToken is an identity with rotating passwords, bound to one ScopeMap.",
        spec=structural_schema(RegistryTokenSpec),
        status=structural_schema(RegistryTokenStatus),
        columns=[
            _column("Ready", '.status.conditions[?(@.type=="Ready")].status'),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason'),
            _column("Scope map", ".spec.scopeMapRef.name"),
            # A future time in a column of type date shows as <invalid>.
            _column("Expires", ".status.accessEndsAt"),
            _column("Next", ".status.nextTransitionTime"),
            _column("What", ".status.nextTransition", priority=1),
            _column("Username", ".status.username", priority=1),
            _AGE,
        ],
        rules=ROOT_RULES,
        selectable=[".spec.scopeMapRef.name", ".spec.enabled"],
    )
    return {f"{GROUP}_scopemaps.yaml": scope_map, f"{GROUP}_registrytokens.yaml": token}
