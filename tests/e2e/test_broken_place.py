"""A place harms only itself: of three namespaces that get a token's password one is broken, and nobody else notices.

In each story a token of its own rotates twice while its third namespace is broken. The stories run side by side, as
each is mostly waiting; customers log in with what the two other namespaces hold all the time.
"""

import json
import secrets
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.cluster.install import Release
from tests.e2e.exposure import Exposure
from tests.e2e.pull_secrets import PAUSE, READ_SECONDS, Customers, Place, PullSecrets, repeating
from tests.e2e.tenant import Tenant, condition
from tests.e2e.waiting import until

ACCEPT = "pullpass.dev/accept-pull-secrets-from"
PASSWORDS = {"lifetime": "60s", "renewBefore": "40s", "overlap": "10s"}
OVERLAP_SECONDS = 8.0
"""A password is good for so long after it was read: its overlap, less the rounding of its end and the reading."""
ROTATIONS = 2
"""How often each token rotates while its third namespace is broken."""
NOT_WRITTEN = frozenset({"WriteRefused", "WriteFailed"})


# What can happen to a namespace, each for as long as its context lasts.


@contextmanager
def unreachable_webhook(third: Tenant, resource: str) -> Iterator[None]:
    """No object of this kind can be written: the webhook that has to agree cannot be reached."""
    rule = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": [resource]}
    webhook = {
        "name": "guard.tests.example",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "failurePolicy": "Fail",
        "timeoutSeconds": 1,
        "clientConfig": {"url": "https://127.0.0.1:1/validate"},
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": third.namespace}},
        "rules": [rule],
    }
    kind = "ValidatingWebhookConfiguration"
    meta = {"name": third.namespace}
    version = "admissionregistration.k8s.io/v1"
    third.apply({"apiVersion": version, "kind": kind, "metadata": meta, "webhooks": [webhook]})
    probe = ("create", resource.removesuffix("s"), *(["generic"] if resource == "secrets" else []), "probe")
    try:
        until(lambda: third.kubectl(*probe, "--dry-run=server", check=False).returncode, "the webhook is asked")
        yield
    finally:
        third.kubectl("delete", kind, third.namespace)
    until(lambda: not third.kubectl(*probe, "--dry-run=server", check=False).returncode, "the webhook is gone")


@contextmanager
def webhook_on_secrets(third: Tenant, secret: str) -> Iterator[None]:
    with unreachable_webhook(third, "secrets"):
        yield


@contextmanager
def webhook_on_service_accounts(third: Tenant, secret: str) -> Iterator[None]:
    with unreachable_webhook(third, "serviceaccounts"):
        yield


@contextmanager
def terminating(third: Tenant, secret: str) -> Iterator[None]:
    """The namespace is deleted, and something in it keeps it from being gone; afterwards there is a new one."""
    meta = {"name": "kept", "namespace": third.namespace, "finalizers": ["tests.example/kept"]}
    third.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": meta})
    consent = third.find("namespace", third.namespace)["metadata"]["annotations"][ACCEPT]
    third.kubectl("delete", "namespace", third.namespace, "--wait=false")
    try:
        yield
    finally:
        third.kubectl("patch", "configmap", "kept", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
    until(lambda: not third.find("namespace", third.namespace), "the namespace is gone")
    third.create()
    accept(third, consent)


@contextmanager
def quota(third: Tenant, secret: str) -> Iterator[None]:
    """Somebody deletes the pull secret, and a quota lets nobody make another."""
    spec = {"hard": {"count/secrets": "0"}}
    meta = {"name": "none", "namespace": third.namespace}
    third.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": spec})
    until(lambda: third.find("resourcequota", "none").get("status", {}).get("hard"), "the quota is in force")
    third.kubectl("delete", "secret", secret)
    yield
    third.kubectl("delete", "resourcequota", "none")


@contextmanager
def foreign_secret(third: Tenant, secret: str) -> Iterator[None]:
    """Somebody puts a Secret of his own in the place of the pull secret, before the operator makes another."""

    def put() -> bool:
        third.kubectl("delete", "secret", secret, "--ignore-not-found")
        return not third.kubectl("create", "secret", "generic", secret, "--from-literal=a=b", check=False).returncode

    until(put, "a foreign Secret has the name")
    yield
    third.kubectl("delete", "secret", secret)


@contextmanager
def no_consent(third: Tenant, secret: str) -> Iterator[None]:
    consent = third.find("namespace", third.namespace)["metadata"]["annotations"][ACCEPT]
    third.kubectl("annotate", "namespace", third.namespace, f"{ACCEPT}-")
    yield
    accept(third, consent)


def accept(guest: Tenant, owner: str) -> None:
    guest.kubectl("annotate", "namespace", guest.namespace, f"{ACCEPT}={owner}", "--overwrite")


@dataclass(frozen=True)
class Story:
    """How the third namespace breaks, and the reasons that the token may give for it."""

    broken: Callable[[Tenant, str], AbstractContextManager[None]]
    reasons: frozenset[str]
    from_the_start: bool = False
    """Whether it is broken already when the token is made."""

    @property
    def name(self) -> str:
        return self.broken.__name__.replace("_", "-")


STORIES = (
    Story(webhook_on_secrets, NOT_WRITTEN),
    Story(webhook_on_service_accounts, NOT_WRITTEN, from_the_start=True),
    Story(terminating, frozenset({"NamespaceNotFound"}) | NOT_WRITTEN),
    Story(quota, NOT_WRITTEN | {"Contested"}),
    Story(foreign_secret, frozenset({"SecretNotOwned", "Contested"})),
    Story(no_consent, frozenset({"NamespaceNotConsenting"})),
)


@dataclass
class World:
    """The namespace of all tokens, the healthy one besides, a third one for each story, and those who look."""

    own: Tenant
    healthy: Tenant
    thirds: dict[str, Tenant]
    secrets: PullSecrets
    places: list[Place] = field(default_factory=list)
    """The healthy places, with which customers log in."""

    def tell(self, story: Story) -> None:
        """The story from its beginning to its end."""
        third, secret = self.thirds[story.name], f"{story.name}-pull"
        with ExitStack() as stack:
            if story.from_the_start:
                stack.enter_context(story.broken(third, secret))
            namespaces = [self.healthy.namespace, third.namespace]
            pull_secret = {"namespaces": namespaces, "serviceAccounts": ["default"]}
            self.own.token(story.name, "read", passwords=PASSWORDS, pullSecret=pull_secret)
            ours = [Place(tenant.namespace, secret) for tenant in (self.own, self.healthy)]
            self.places.extend(ours)
            until(lambda: all(self.secrets.held(place) for place in ours), "the healthy places have a password")
            if not story.from_the_start:
                self.own.ready(story.name)
                stack.enter_context(story.broken(third, secret))
            before = {place: len(self.secrets.ids[place]) for place in ours}
            for count in range(1, ROTATIONS + 1):
                for place in ours:
                    self.rotated(place, before[place] + count)
                self.shows(story, third.namespace)
        until(lambda: self.current(third, secret), f"{third.namespace} has the current password", timeout=120)
        self.own.ready(story.name, timeout=120)

    def rotated(self, place: Place, passwords: int) -> None:
        """Waits until a place has held so many passwords."""
        until(lambda: len(self.secrets.ids[place]) >= passwords, f"{place} is rotated", timeout=180)

    def shows(self, story: Story, namespace: str) -> None:
        """Waits until whoever looks at the token learns which namespace is broken, and why."""

        def condition_says() -> dict[str, Any] | None:
            found = condition(self.own.find("registrytoken", story.name), "PullSecretsSynced")
            return found if found.get("status") == "False" and namespace in found["message"] else None

        found = until(condition_says, f"PullSecretsSynced of {story.name} names {namespace}")
        assert found["reason"] in story.reasons, found
        until(lambda: self.warning(story.name, namespace), f"a warning event of {story.name} names {namespace}")
        ready = condition(self.own.find("registrytoken", story.name), "Ready")
        assert (ready["status"], ready["reason"] in story.reasons) == ("False", True), ready
        assert namespace in ready["message"]
        described = self.own.kubectl("describe", "registrytoken", story.name).stdout
        assert ready["message"] in " ".join(described.split())
        columns = self.own.kubectl("get", "registrytoken", story.name, "--no-headers").stdout.split()
        assert ["False", ready["reason"]] == columns[1:3]

    def rotations(self, tenant: Tenant) -> int:
        """How often a pull secret of a healthy namespace was given another password."""
        ids = self.secrets.ids
        return sum(len(ids[place]) - 1 for place in self.places if place.namespace == tenant.namespace and place in ids)

    def warning(self, token: str, namespace: str) -> bool:
        selector = f"involvedObject.kind=RegistryToken,involvedObject.name={token},type=Warning"
        done = self.own.kubectl("get", "events", "--field-selector", selector, "-o", "json")
        return any(namespace in item["message"] for item in json.loads(done.stdout)["items"])

    def current(self, third: Tenant, secret: str) -> bool:
        """Whether the third namespace has what the token's own has, and it is accepted."""
        if not third.find("secret", secret):
            return False
        there, here = third.credentials(secret), self.own.credentials(secret)
        return there.password == here.password and self.own.login(there).accepted


@dataclass(frozen=True)
class Told:
    """The stories, each told in a thread of its own, and what customers met meanwhile."""

    world: World
    stories: dict[str, Future[None]]
    customers: Customers


@pytest.fixture(scope="module")
def told(release: Release, exposure: Exposure) -> Iterator[Told]:
    word = secrets.token_hex(2)
    own, healthy = Tenant(release, f"places-{word}"), Tenant(release, f"places-healthy-{word}")
    thirds = {story.name: Tenant(release, f"places-{story.name}-{word}") for story in STORIES}
    tenants = [own, healthy, *thirds.values()]
    for tenant in tenants:
        tenant.create()
        if tenant is not own:
            accept(tenant, own.namespace)
    own.scope_map("read", ["team/app"])
    world = World(own, healthy, thirds, PullSecrets(release))
    customers = Customers(release, world.secrets, world.places, OVERLAP_SECONDS)
    with (
        repeating(world.secrets.read, READ_SECONDS),
        repeating(customers.visit, PAUSE),
        ThreadPoolExecutor(len(STORIES)) as pool,
    ):
        yield Told(world, {story.name: pool.submit(world.tell, story) for story in STORIES}, customers)
    for tenant in tenants:
        exposure.keep(tenant.namespace)
        tenant.delete()


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_broken_place_shows_and_recovers(told: Told, story: Story) -> None:
    told.stories[story.name].result()


def test_nobody_is_refused_in_a_healthy_place(told: Told) -> None:
    for story in told.stories.values():
        story.exception()  # waits for the end, whichever it is
    before = told.customers.accepted
    until(lambda: told.customers.accepted > before + len(told.world.places), "every place is visited once more")
    rotations = [told.world.rotations(tenant) for tenant in (told.world.own, told.world.healthy)]
    print(f"{told.customers.accepted} logins through {rotations} rotations, {len(told.customers.refused)} refused")
    assert told.customers.refused == []
    assert min(rotations) >= 10
