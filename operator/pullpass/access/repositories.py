"""Repository patterns of a ScopeMap, compiled so that a request costs a few dictionary look-ups.

A pattern is a literal name, a prefix ending in `/*`, or `*` alone. Nothing is ever matched by a regular
expression or glob that came out of a request or a ScopeMap.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from pullpass.access.actions import WORDS
from pullpass.api.scopemap import REPOSITORY_PATTERN, ScopeMapSpec

NOTHING: frozenset[str] = frozenset()

_PATTERN = re.compile(REPOSITORY_PATTERN)
_sets: dict[frozenset[str], frozenset[str]] = {NOTHING: NOTHING}


def _shared(words: frozenset[str]) -> frozenset[str]:
    """One object for each of the 32 sets there are: thousands of maps then share them."""
    return _sets.setdefault(words, words)


@dataclass(frozen=True, slots=True)
class Rights:
    """Which actions, as words of the registry, are granted on which repositories."""

    exact: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By repository name."""
    prefixes: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """By prefix with its closing slash: `samples/` for the pattern `samples/*`."""
    everywhere: frozenset[str] = NOTHING
    """On each repository, from the pattern `*`."""

    @classmethod
    def of(cls, spec: ScopeMapSpec) -> "Rights":
        """Compiles a ScopeMap; its rules add up. Raises ValueError for a pattern that the API would
        refuse."""
        exact: dict[str, frozenset[str]] = {}
        prefixes: dict[str, frozenset[str]] = {}
        everywhere = NOTHING
        for rule in spec.rules:
            words = frozenset(WORDS[action] for action in rule.actions)
            for pattern in rule.repositories:
                if _PATTERN.fullmatch(pattern) is None:
                    raise ValueError(f"{pattern!r} is not a repository pattern")
                if pattern == "*":
                    everywhere = _shared(everywhere | words)
                elif pattern.endswith("/*"):
                    prefix = pattern[:-1]
                    prefixes[prefix] = _shared(prefixes.get(prefix, NOTHING) | words)
                else:
                    exact[pattern] = _shared(exact.get(pattern, NOTHING) | words)
        return cls(exact, prefixes, everywhere)

    def on(self, repository: str) -> frozenset[str]:
        """The actions granted on one repository; none on the empty name, which stands for the catalog in
        zot."""
        if not repository:
            return NOTHING
        granted = self.everywhere | self.exact.get(repository, NOTHING)
        if self.prefixes:
            slash = repository.find("/")
            while slash >= 0:
                granted |= self.prefixes.get(repository[: slash + 1], NOTHING)
                slash = repository.find("/", slash + 1)
        return granted
