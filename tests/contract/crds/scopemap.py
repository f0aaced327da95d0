"""The constraints of a ScopeMap."""

from collections.abc import Iterator
from typing import Any, get_args

from pullpass.api.scopemap import Action

from .case import (
    DUPLICATE,
    LABEL_KEY,
    LABEL_VALUE,
    MAP,
    NAMESPACE,
    REGISTRY,
    REPOSITORY,
    REQUIRED,
    TOO_MANY,
    Case,
    Object,
    names,
    string_cases,
    unsupported,
)


def scope_map_cases() -> Iterator[Case]:
    """Every constraint of the ScopeMap."""
    yield from _registry()
    yield from _grants()
    yield from _allowed_namespaces()
    yield from _match_labels()
    yield from _match_expressions()


def case(constraint: str, at: str, good: Any, bad: Any, sentence: str, **more: Any) -> Case:
    return Case("ScopeMap", constraint, f"spec.{at}", good, bad, sentence, **more)


def _registry() -> Iterator[Case]:
    yield from string_cases("ScopeMap", "spec.registry", "spec.registry", 30, "a-1", "a.b", REGISTRY)


def _grants() -> Iterator[Case]:
    description = "spec.description"
    yield Case("ScopeMap", "required spec", "spec", MAP["spec"], None, REQUIRED)
    yield case(f"{description} maxLength", "description", "ü" * 1024, "u" * 1025, "Too long: may not be more than")
    yield case("spec required rules", "rules", MAP["spec"]["rules"], None, REQUIRED)
    yield case("spec.rules minItems", "rules", MAP["spec"]["rules"], [], "should have at least 1 items")
    rule = {"repositories": ["a"], "actions": ["content/read"]}
    yield case("spec.rules maxItems", "rules", [rule] * 16, [rule] * 17, TOO_MANY.format(17, 16))
    yield case(
        "spec.rules rule",
        "rules",
        [{**rule, "repositories": names(250)}, {**rule, "repositories": names(250)}],
        [{**rule, "repositories": names(250)}, {**rule, "repositories": names(251)}],
        "a scope map has at most 500 repository entries over all its rules",
    )
    rules, at = "spec.rules[]", "rules.0"
    yield case(f"{rules} required repositories", f"{at}.repositories", ["a"], None, REQUIRED)
    yield case(f"{rules} required actions", f"{at}.actions", ["content/read"], None, REQUIRED)
    at = "rules.0.repositories"
    yield case(f"{rules}.repositories minItems", at, ["a"], [], "should have at least 1 items")
    yield case(f"{rules}.repositories maxItems", at, names(500), names(501), TOO_MANY.format(501, 500))
    yield case(f"{rules}.repositories set", at, ["a", "b"], ["a", "a"], DUPLICATE.format("a"), field=f"spec.{at}.1")
    at = "rules.0.repositories.0"
    yield case(f"{rules}.repositories[] minLength", at, "a", "", "should be at least 1 chars long")
    yield case(f"{rules}.repositories[] maxLength", at, "a" * 255, "a" * 256, "Too long: may not be more than 255")
    for good, bad in (
        ("*", "**"),
        ("samples/*", "samples/"),
        ("a/b-c/d_e__f.g/*", "a/*/b"),
        ("a/team", "a/team*"),
        ("library/nginx", "library/Nginx"),
        ("a", "/a"),
        ("a--b", "a//b"),
        ("a/*", "a/**"),
        ("a1", "-a"),
        ("localhost/a", "localhost:5000/a"),
        ("0", "a/-b"),
        ("a.b", "a b"),
        ("a-b", "a-"),
    ):
        yield case(f"{rules}.repositories[] rule", at, good, bad, REPOSITORY)
    actions = get_args(Action)
    at = "rules.0.actions"
    yield case(f"{rules}.actions minItems", at, ["content/read"], [], "should have at least 1 items")
    # One more than five is a duplicate or none of the five.
    yield case(f"{rules}.actions maxItems", at, list(actions), [*actions, "x"], TOO_MANY.format(6, 5))
    yield case(
        f"{rules}.actions set",
        at,
        list(actions),
        ["content/read"] * 2,
        DUPLICATE.format("content/read"),
        field=f"spec.{at}.1",
    )
    for action in actions:
        yield case(f"{rules}.actions[] enum", f"{at}.0", action, "pull", unsupported("pull", *actions))


def _allowed_namespaces() -> Iterator[Case]:
    allowed, at = "spec.allowedNamespaces", "allowedNamespaces"
    yield case("spec required allowedNamespaces", at, {"from": "All"}, None, REQUIRED)
    yield case(f"{allowed} required from", f"{at}.from", "All", None, REQUIRED)
    sentence = unsupported("None", "All", "Names", "Selector")
    for value in ({"from": "All"}, {"from": "Names", "names": []}):
        yield case(f"{allowed}.from enum", at, value, {"from": "None"}, sentence, field=f"{allowed}.from")
    only = "names goes with 'from: Names', and only with it"
    yield case(f"{allowed} rule", at, {"from": "Names", "names": ["web"]}, {"from": "Names"}, only)
    yield case(f"{allowed} rule", at, {"from": "All"}, {"from": "All", "names": ["web"]}, only)
    some = {"matchLabels": {"team": "web"}}
    selector = "selector goes with 'from: Selector', and only with it"
    yield case(f"{allowed} rule", at, {"from": "Selector", "selector": some}, {"from": "Selector"}, selector)
    yield case(f"{allowed} rule", at, {"from": "All"}, {"from": "All", "selector": some}, selector)

    base = {"spec.allowedNamespaces": {"from": "Names", "names": ["web"]}}
    at = "allowedNamespaces.names"
    for constraint, good, bad, sentence, where in (
        ("maxItems", names(500), names(501), TOO_MANY.format(501, 500), ""),
        ("set", ["a", "b"], ["a", "a"], DUPLICATE.format("a"), f"spec.{at}.1"),
    ):
        yield case(f"{allowed}.names {constraint}", at, good, bad, sentence, base=base, field=where)
    yield from string_cases("ScopeMap", f"{allowed}.names[]", f"spec.{at}.0", 63, "a-1", "A", NAMESPACE, base)


def _match_labels() -> Iterator[Case]:
    allowed = "spec.allowedNamespaces"
    some = {"matchLabels": {"team": "web"}}
    base = {"spec.allowedNamespaces": {"from": "Selector", "selector": {"matchLabels": {"team": "web"}}}}
    at, selector = "allowedNamespaces.selector", f"{allowed}.selector"
    empty = "an empty selector would match every namespace; write 'from: All' if that is meant"
    expression = {"key": "team", "operator": "Exists"}
    yield case(f"{selector} rule", at, {"matchExpressions": [expression]}, {}, empty, base=base)
    yield case(f"{selector} rule", at, some, {"matchLabels": {}, "matchExpressions": []}, empty, base=base)
    labels = f"{selector}.matchLabels"
    many = dict.fromkeys(names(17), "x")
    few = dict(list(many.items())[:16])
    yield case(
        f"{labels} maxProperties", f"{at}.matchLabels", few, many, "Too many: 17: must have at most 16", base=base
    )
    for good, bad in (("example.com/team", "a/b/c"), ("a" * 63, "a" * 64), ("Team_a.b", "team-")):
        yield case(f"{labels} rule", f"{at}.matchLabels", {good: "x"}, {bad: "x"}, LABEL_KEY, base=base)
    where = f"{at}.matchLabels.team"
    limit = "Too long: may not be more than 63"
    yield case(f"{labels}{{}} maxLength", where, "a" * 63, "a" * 64, limit, base=base)
    for good, bad in (("", "-"), ("A_b.c-d", "a b")):
        yield case(f"{labels}{{}} rule", where, good, bad, LABEL_VALUE, base=base, field=f"{labels}[team]")


def _match_expressions() -> Iterator[Case]:
    allowed = "spec.allowedNamespaces"
    at, selector = "allowedNamespaces.selector", f"{allowed}.selector"
    expression = {"key": "team", "operator": "Exists"}
    limit = "Too long: may not be more than 63"
    base: Object = {"spec.allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [expression]}}}
    at, expressions = f"{at}.matchExpressions", f"{selector}.matchExpressions"
    many_expressions = [{**expression, "key": name} for name in names(17)]
    sentence = TOO_MANY.format(17, 16)
    yield case(f"{expressions} maxItems", at, many_expressions[:16], many_expressions, sentence, base=base)
    yield case(f"{expressions}[] required key", f"{at}.0.key", "team", None, REQUIRED, base=base)
    yield case(f"{expressions}[] required operator", f"{at}.0.operator", "Exists", None, REQUIRED, base=base)
    # A key of the longest form: 253 for the prefix, 63 for the name.
    key = f"{at}.0.key"
    yield case(f"{expressions}[].key minLength", key, "a", "", "should be at least 1 chars long", base=base)
    long = f"{'p' * 253}/{'n' * 63}"
    yield case(f"{expressions}[].key maxLength", key, long, long + "n", "Too long: may not be more than 317", base=base)
    yield case(f"{expressions}[].key rule", key, "example.com/team", "/team", LABEL_KEY, base=base)
    operators = ("In", "NotIn", "Exists", "DoesNotExist")
    for operator in operators:
        wanted: Object = {"key": "team", "operator": operator}
        if operator.endswith("In"):
            wanted["values"] = ["a"]
        bad: Object = {"key": "team", "operator": "Is"}
        sentence, where = unsupported("Is", *operators), f"spec.{at}.0.operator"
        yield case(f"{expressions}[].operator enum", f"{at}.0", wanted, bad, sentence, base=base, field=where)
        bad = {**wanted, "values": [] if operator.endswith("In") else ["a"]}
        sentence = "In and NotIn need values; Exists and DoesNotExist take none"
        yield case(f"{expressions}[] rule", f"{at}.0", wanted, bad, sentence, base=base)
    one_of = {"key": "team", "operator": "In", "values": ["a"]}
    base = {"spec.allowedNamespaces": {"from": "Selector", "selector": {"matchExpressions": [one_of]}}}
    at, values = f"{at}.0.values", f"{expressions}[].values"
    yield case(f"{values} maxItems", at, names(32), names(33), TOO_MANY.format(33, 32), base=base)
    yield case(f"{values} set", at, ["a"], ["a", "a"], DUPLICATE.format("a"), base=base, field=f"spec.{at}.1")
    yield case(f"{values}[] maxLength", f"{at}.0", "a" * 63, "a" * 64, limit, base=base)
    yield case(f"{values}[] rule", f"{at}.0", "", "a/b", LABEL_VALUE, base=base)
