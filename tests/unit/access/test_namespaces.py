"""Label selectors mean what they mean in Kubernetes."""

from typing import Any

import pytest

from pullpass.access.namespaces import allows
from pullpass.api.scopemap import AllowedNamespaces

LABELS = {"team": "web", "stage": "prod", "empty": ""}


def selector(*expressions: dict[str, Any], **labels: str) -> dict[str, Any]:
    return {"from": "Selector", "selector": {"matchLabels": labels, "matchExpressions": list(expressions)}}


def requirement(key: str, operator: str, *values: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": list(values)}


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        ({"from": "All"}, True),
        ({"from": "Names", "names": ["web"]}, True),
        ({"from": "Names", "names": ["we", "web2"]}, False),
        ({"from": "Names", "names": []}, False),
        ({"from": "Names"}, False),
        ({"from": "Selector"}, False),
        (selector(), False),
        (selector(team="web"), True),
        (selector(team="db"), False),
        (selector(empty=""), True),
        (selector(absent=""), False),
        (selector(team="web", stage="prod"), True),
        (selector(team="web", stage="test"), False),
        (selector(requirement("team", "In", "db", "web")), True),
        (selector(requirement("team", "In", "db")), False),
        (selector(requirement("absent", "In", "db")), False),
        (selector(requirement("team", "NotIn", "db")), True),
        (selector(requirement("team", "NotIn", "db", "web")), False),
        (selector(requirement("absent", "NotIn", "db")), True),
        (selector(requirement("team", "Exists")), True),
        (selector(requirement("empty", "Exists")), True),
        (selector(requirement("absent", "Exists")), False),
        (selector(requirement("absent", "DoesNotExist")), True),
        (selector(requirement("team", "DoesNotExist")), False),
        (selector(requirement("absent", "DoesNotExist"), team="db"), False),
        (selector(requirement("team", "Exists"), requirement("stage", "NotIn", "prod")), False),
    ],
)
def test_allows(allowed: dict[str, Any], expected: bool) -> None:
    assert allows(AllowedNamespaces.model_validate(allowed), "web", LABELS) is expected
