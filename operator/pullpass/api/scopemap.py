"""The ScopeMap kind: which actions on which repositories, and whose tokens may use it.

Modelled on the scope maps of Azure Container Registry.
"""

from typing import Annotated, Literal

from pydantic import ConfigDict, Field

from pullpass.api.fields import LABEL, Model, NamespaceName, rule, rules
from pullpass.api.names import DEFAULT_REGISTRY

Action = Literal["content/read", "content/write", "content/delete", "metadata/read", "metadata/write"]

MAX_REPOSITORIES = 500

# Alphanumeric runs with separators between them; the slash is one of these. Short, because its length is part of
# what the API server takes as the cost of the rule.
REPOSITORY_PATTERN = r"^(\*|[a-z0-9]+(([._-]+|/)[a-z0-9]+)*(/\*)?)$"

RepositoryPattern = Annotated[
    str,
    Field(
        min_length=1,
        max_length=255,
        json_schema_extra=rules(
            rule(
                f"self.matches(r'{REPOSITORY_PATTERN}')",
                "a repository is a lower-case name such as team/app, a prefix ending in /* such as team/*, "
                "or * alone; a * anywhere else is not supported",
            )
        ),
    ),
]


class Rule(Model):
    """Grants every action of the rule on every repository of the rule; rules add up."""

    repositories: Annotated[
        list[RepositoryPattern],
        Field(min_length=1, max_length=500, json_schema_extra={"x-kubernetes-list-type": "set"}),
    ]
    """Repository names, prefixes ending in `/*`, or `*` for all. `samples/*` does not match `samples` itself.
    Repositories need not exist yet."""
    actions: Annotated[
        list[Action], Field(min_length=1, max_length=5, json_schema_extra={"x-kubernetes-list-type": "set"})
    ]
    """What may be done: content/read (pull), content/write (push; a push also needs content/read),
    content/delete, metadata/read, metadata/write."""


LABEL_KEY = r"^([-.a-z0-9]{1,253}/)?[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$"
LABEL_KEY_SENTENCE = "a label key is a name such as team, or one with a prefix such as example.com/team"

LabelKey = Annotated[
    str,
    Field(
        min_length=1,
        max_length=317,
        json_schema_extra=rules(rule(f"self.matches('{LABEL_KEY}')", LABEL_KEY_SENTENCE)),
    ),
]
LabelValue = Annotated[
    str,
    Field(
        max_length=63,
        json_schema_extra=rules(
            rule(
                "self.matches('^([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?$')",
                "a label value consists of letters, digits, dashes, underscores and dots, and begins and ends with "
                "a letter or digit",
            )
        ),
    ),
]


class LabelRequirement(Model):
    """One requirement on the labels of a namespace."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "self.operator in ['In', 'NotIn'] ? has(self.values) && self.values.size() > 0 "
                ": !has(self.values) || self.values.size() == 0",
                "In and NotIn need values; Exists and DoesNotExist take none",
            )
        )
    )

    key: LabelKey
    """The label key."""
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    """How the label is compared with the values."""
    values: Annotated[list[LabelValue], Field(max_length=32, json_schema_extra={"x-kubernetes-list-type": "set"})] = []
    """The values for In and NotIn."""


class LabelSelector(Model):
    """Selects namespaces by their labels; all requirements must hold."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule(
                "(has(self.matchLabels) && self.matchLabels.size() > 0) || "
                "(has(self.matchExpressions) && self.matchExpressions.size() > 0)",
                "an empty selector would match every namespace; write 'from: All' if that is meant",
            ),
            **{"x-kubernetes-map-type": "atomic"},
        )
    )

    match_labels: Annotated[
        dict[str, LabelValue],
        Field(
            max_length=16,
            json_schema_extra=rules(rule(f"self.all(k, k.matches('{LABEL_KEY}'))", LABEL_KEY_SENTENCE)),
        ),
    ] = {}
    """Labels that must be there with exactly these values."""
    match_expressions: Annotated[
        list[LabelRequirement], Field(max_length=16, json_schema_extra={"x-kubernetes-list-type": "atomic"})
    ] = []
    """Further requirements."""


class AllowedNamespaces(Model):
    """Whose RegistryTokens may use a scope map."""

    model_config = ConfigDict(
        json_schema_extra=rules(
            rule("(self.from == 'Names') == has(self.names)", "names goes with 'from: Names', and only with it"),
            rule(
                "(self.from == 'Selector') == has(self.selector)",
                "selector goes with 'from: Selector', and only with it",
            ),
        )
    )

    from_: Annotated[Literal["All", "Names", "Selector"], Field(alias="from")]
    """All namespaces, those named, or those whose labels the selector matches."""
    names: Annotated[
        list[NamespaceName] | None, Field(max_length=500, json_schema_extra={"x-kubernetes-list-type": "set"})
    ] = None
    """Namespaces, with `from: Names`. An empty list allows none."""
    selector: LabelSelector | None = None
    """Which namespaces, with `from: Selector`."""


RegistryReference = Annotated[
    str,
    Field(
        min_length=1,
        max_length=30,
        json_schema_extra=rules(
            rule(
                f"self.matches('^{LABEL}$')",
                "a registry is named by lower-case letters, digits and dashes, and begins and ends with "
                "a letter or digit",
            ),
            rule(
                "self == oldSelf",
                "the registry of a scope map cannot be changed, pull secrets are made for its hosts; "
                "make another ScopeMap",
            ),
        ),
    ),
]


class ScopeMapSpec(Model):
    """What the scope map grants, at which registry, and to whom."""

    description: Annotated[str | None, Field(max_length=1024)] = None
    """For people: what this map is for."""
    registry: RegistryReference = DEFAULT_REGISTRY
    """The registry that has the repositories, one of those that pullpass was installed for. The first is named
    default."""
    rules: Annotated[
        list[Rule],
        Field(
            min_length=1,
            # Rules with the same actions can be merged. A higher bound, times that of repositories, would exceed
            # the cost which the API server allows the check of each repository.
            max_length=16,
            json_schema_extra=rules(
                rule(
                    f"self.map(r, r.repositories.size()).sum() <= {MAX_REPOSITORIES}",
                    f"a scope map has at most {MAX_REPOSITORIES} repository entries over all its rules",
                ),
                **{"x-kubernetes-list-type": "atomic"},
            ),
        ),
    ]
    """What is granted; rules add up."""
    allowed_namespaces: AllowedNamespaces
    """The namespaces whose RegistryTokens may use this map."""
