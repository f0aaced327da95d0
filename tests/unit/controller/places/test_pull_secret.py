"""The pull secret: what stands in it, whose it is, and when it is as it should be."""

import base64
import json
from dataclasses import replace
from typing import Any

import pytest

from pullpass.controller.places.pull_secret import (
    StoredPullSecret,
    Wanted,
    content,
    digest,
    holds,
    hosts_digest,
)
from pullpass.credentials.password import derive

PASSWORD = derive(b"s" * 32, "uid-1", "nonce", "4f9c1e")
CONTENT = content(("registry.example", "other.example:5000"), "web.reader", PASSWORD)
OWN = Wanted("web", "reader-pull", "web", "reader", "uid-1", retain=False)
KEPT = replace(OWN, retain=True)
FAR = replace(OWN, namespace="staging")


def stored(wanted: Wanted, text: str = CONTENT) -> StoredPullSecret:
    body = wanted.body(text)
    body["metadata"] |= {"uid": "secret-uid", "resourceVersion": "5"}
    read = StoredPullSecret.read(body)
    assert read is not None
    return read


def test_the_content_logs_in_to_every_host() -> None:
    config = json.loads(base64.b64decode(CONTENT))
    auth = base64.b64encode(f"web.reader:{PASSWORD.text}".encode()).decode()
    entry = {"username": "web.reader", "password": PASSWORD.text, "auth": auth}
    assert config == {"auths": {"registry.example": entry, "other.example:5000": entry}}


def test_the_same_gives_the_same_text() -> None:
    assert content(("registry.example", "other.example:5000"), "web.reader", PASSWORD) == CONTENT
    assert content(("registry.example",), "web.reader", PASSWORD) != CONTENT


def test_the_digest_tells_nothing_and_tells_apart() -> None:
    assert digest(CONTENT) == digest(CONTENT) != digest(CONTENT + "x")
    assert len(digest(CONTENT)) == 64


def test_the_hosts_can_be_told_apart_without_the_password() -> None:
    another = derive(b"s" * 32, "uid-1", "nonce", "0b7aa2")
    hosts = ("other.example:5000", "registry.example")
    assert stored(OWN).hosts == stored(OWN, content(hosts, "web.reader", another)).hosts == hosts_digest(hosts)
    assert stored(OWN, content(hosts[:1], "web.reader", PASSWORD)).hosts == hosts_digest(hosts[:1])


@pytest.mark.parametrize(
    "text", ["", "%", "AAAA", *(base64.b64encode(one).decode() for one in (b"{}", b"[]", b'{"auths":1}', b"[" * 99999))]
)
def test_what_has_no_hosts_is_no_trouble(text: str) -> None:
    assert stored(OWN, text).hosts == ""


OTHER = derive(b"s" * 32, "uid-1", "nonce", "0b7aa2")


def encoded(value: Any) -> str:
    return base64.b64encode(json.dumps(value).encode()).decode()


ENTRY = {"username": "web.reader", "password": PASSWORD.text}


@pytest.mark.parametrize(
    ("text", "known"),
    [
        (CONTENT, True),
        (content(("elsewhere.example",), "web.reader", PASSWORD), True),
        (content(("registry.example",), "web.reader", OTHER), False),
        (content(("registry.example",), "web.other", PASSWORD), False),
        (encoded({"auths": {"one": ENTRY, "two": ENTRY | {"password": "of somebody else"}}}), False),
        (encoded({"auths": {"one": ENTRY | {"password": ["a list"]}}}), False),
        (encoded({"auths": {}}), False),
        (encoded({"auths": ["one"]}), False),
        (encoded({"auths": {"one": 1}}), False),
        (encoded([]), False),
        ("%", False),
    ],
)
def test_a_secret_without_labels_is_known_by_the_password_in_it(text: str, known: bool) -> None:
    assert holds(OWN.body(text), "web.reader", [PASSWORD.text]) is known
    assert not holds(OWN.body(text), "web.reader", [])
    assert not holds(OWN.body(text) | {"type": "Opaque"}, "web.reader", [PASSWORD.text])


def test_one_that_does_not_name_its_token_is_not_as_it_should_be() -> None:
    assert OWN.matches(stored(OWN), digest(CONTENT))
    assert not OWN.matches(replace(stored(OWN), token=""), digest(CONTENT))


def test_the_body_is_a_docker_config_secret() -> None:
    body = OWN.body(CONTENT)
    assert body["type"] == "kubernetes.io/dockerconfigjson"
    assert body["data"] == {".dockerconfigjson": CONTENT}
    assert body["metadata"]["labels"] == {
        "app.kubernetes.io/managed-by": "pullpass",
        "pullpass.dev/component": "pull-secret",
        "pullpass.dev/token-uid": "uid-1",
    }
    assert body["metadata"]["annotations"] == {
        "pullpass.dev/token": "web/reader",
        "pullpass.dev/deletion-policy": "Delete",
    }


@pytest.mark.parametrize(("wanted", "owners"), [(OWN, ("uid-1",)), (KEPT, ()), (FAR, ())])
def test_only_what_goes_with_the_token_in_its_own_namespace_is_owned_by_it(
    wanted: Wanted, owners: tuple[str, ...]
) -> None:
    assert wanted.owners == stored(wanted).owners == owners
    assert ("ownerReferences" in wanted.body(CONTENT)["metadata"]) == bool(owners)


def test_an_owner_reference_never_keeps_its_owner_from_going() -> None:
    (reference,) = OWN.body(CONTENT)["metadata"]["ownerReferences"]
    assert reference == {
        "apiVersion": "pullpass.dev/v1alpha1",
        "kind": "RegistryToken",
        "name": "reader",
        "uid": "uid-1",
    }


@pytest.mark.parametrize("wanted", [OWN, KEPT, FAR])
@pytest.mark.parametrize("owners", [(), ("another",), ("another", "and another")])
def test_what_was_written_matches_whatever_owns_it_besides(wanted: Wanted, owners: tuple[str, ...]) -> None:
    """Server-side apply leaves the owner references of others, so they are no reason to write it once more."""
    secret = stored(wanted)
    secret = replace(secret, owners=(*secret.owners, *owners))
    assert wanted.matches(secret, digest(CONTENT))
    assert wanted.owns(secret)


@pytest.mark.parametrize(
    "secret",
    [
        stored(KEPT),
        stored(replace(OWN, token_uid="uid-2")),
        stored(OWN, "e30="),
        replace(stored(OWN), owners=()),
        replace(stored(OWN), owners=("another",)),
        replace(stored(OWN), digest=digest("")),
    ],
)
def test_what_differs_does_not_match(secret: StoredPullSecret) -> None:
    assert not OWN.matches(secret, digest(CONTENT))


@pytest.mark.parametrize(
    ("other", "owns"),
    [
        (replace(OWN, token_uid="uid-2"), True),
        (replace(OWN, token_name="writer"), False),
        (replace(OWN, token_namespace="staging"), False),
    ],
)
def test_whose_it_is_goes_by_the_tokens_name(other: Wanted, owns: bool) -> None:
    assert other.owns(stored(OWN)) is owns


@pytest.mark.parametrize("type_", ["Opaque", "kubernetes.io/dockercfg", "pullpass.dev/credential-record", None])
def test_a_secret_of_another_type_was_never_ours(type_: str | None) -> None:
    body = OWN.body(CONTENT)
    body["metadata"] |= {"uid": "secret-uid", "resourceVersion": "5"}
    body["type"] = type_
    assert StoredPullSecret.read(body) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda m: m.update(labels=None),
        lambda m: m["labels"].pop("app.kubernetes.io/managed-by"),
        lambda m: m["labels"].update({"app.kubernetes.io/managed-by": "Helm"}),
        lambda m: m["labels"].update({"pullpass.dev/component": "credential-record"}),
        lambda m: m["labels"].pop("pullpass.dev/token-uid"),
    ],
)
def test_what_lacks_our_labels_is_not_ours(spoil: Any) -> None:
    body = OWN.body(CONTENT)
    body["metadata"] |= {"uid": "secret-uid", "resourceVersion": "5"}
    spoil(body["metadata"])
    assert StoredPullSecret.read(body) is None


def test_a_bare_secret_with_our_labels_is_read_with_patience() -> None:
    body = OWN.body(CONTENT)
    body["metadata"] |= {"uid": "secret-uid", "resourceVersion": "5", "annotations": None, "ownerReferences": None}
    body["data"] = None
    read = StoredPullSecret.read(body)
    assert read is not None
    assert (read.token, read.owners, read.digest, read.retained) == ("", (), digest(""), False)
    assert not OWN.owns(read)


def test_the_repr_holds_no_password() -> None:
    assert PASSWORD.text not in repr(stored(OWN)) + repr(OWN)
    assert CONTENT not in repr(stored(OWN))


@pytest.mark.parametrize("annotation", ["web/../../../secrets", "web/reader\nforged line", "x" * 100_000, "reader", ""])
def test_an_annotation_that_somebody_forged_is_not_passed_on(annotation: str) -> None:
    body = OWN.body(CONTENT)
    body["metadata"] |= {"uid": "secret-uid", "resourceVersion": "5", "annotations": {"pullpass.dev/token": annotation}}
    read = StoredPullSecret.read(body)
    assert read is not None
    assert read.token == ""
    assert not OWN.owns(read)
