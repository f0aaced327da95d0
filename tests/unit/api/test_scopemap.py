from typing import Any

import pytest
from pydantic import ValidationError

from pullpass.api.scopemap import ScopeMapSpec

RULES = [{"repositories": ["demo/nginx", "samples/*"], "actions": ["content/read", "metadata/read"]}]


def test_a_whole_spec() -> None:
    selector = {
        "matchLabels": {"team": "web"},
        "matchExpressions": [{"key": "stage", "operator": "NotIn", "values": ["old"]}],
    }
    spec = ScopeMapSpec.model_validate(
        {
            "description": "Read access",
            "rules": RULES,
            "allowedNamespaces": {"from": "Selector", "selector": selector},
        }
    )
    assert spec.rules[0].repositories == ["demo/nginx", "samples/*"]
    assert spec.rules[0].actions == ["content/read", "metadata/read"]
    assert spec.allowed_namespaces.from_ == "Selector"
    assert spec.allowed_namespaces.names is None
    assert spec.allowed_namespaces.selector is not None
    assert spec.allowed_namespaces.selector.match_labels == {"team": "web"}
    (requirement,) = spec.allowed_namespaces.selector.match_expressions
    assert (requirement.key, requirement.operator, requirement.values) == ("stage", "NotIn", ["old"])
    assert spec.model_dump(by_alias=True, exclude_none=True)["allowedNamespaces"]["selector"] == selector


@pytest.mark.parametrize(
    "wrong",
    [
        {"rules": []},
        {"rules": [{"repositories": ["a"], "actions": ["pull"]}]},
        {"rules": [{"repositories": [], "actions": ["content/read"]}]},
        {"allowedNamespaces": {}},
        {"allowedNamespaces": {"from": "None"}},
    ],
)
def test_what_cannot_be_read_is_an_error(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        ScopeMapSpec.model_validate({"rules": RULES, "allowedNamespaces": {"from": "All"}, **wrong})
