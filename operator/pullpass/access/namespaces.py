"""Whose RegistryTokens may use a ScopeMap. Label selectors mean what they mean everywhere in Kubernetes."""

from collections.abc import Mapping

from pullpass.api.scopemap import AllowedNamespaces, LabelRequirement, LabelSelector


def allows(allowed: AllowedNamespaces, namespace: str, labels: Mapping[str, str]) -> bool:
    """Whether a namespace with these labels is among those allowed."""
    if allowed.from_ == "All":
        return True
    if allowed.from_ == "Names":
        return namespace in (allowed.names or ())
    return allowed.selector is not None and selects(allowed.selector, labels)


def selects(selector: LabelSelector, labels: Mapping[str, str]) -> bool:
    """Whether all requirements hold. An empty selector selects nothing: the API refuses it, as it may be
    a slip."""
    if not selector.match_labels and not selector.match_expressions:
        return False
    return all(labels.get(key) == value for key, value in selector.match_labels.items()) and all(
        _holds(requirement, labels) for requirement in selector.match_expressions
    )


def _holds(requirement: LabelRequirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case "In":
            return value is not None and value in requirement.values
        case "NotIn":
            # As in Kubernetes, NotIn also matches where the label is absent.
            return value is None or value not in requirement.values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
