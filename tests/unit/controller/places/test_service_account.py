"""Patches of ServiceAccounts: our entry in or out, the annotation in step, everything else as it was."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pullpass.api import names
from pullpass.controller.places.service_account import MAX_OWN_ENTRIES, ServiceAccount, add_entry, remove_entries
from tests.unit.controller.jsonpatch import PatchError, apply_patch

secrets = st.sampled_from(["a-pull", "b-pull", "c-pull", "foreign", "d.e-pull"])
uids = st.sampled_from(["uid-1", "uid-2", "uid-3"])


@st.composite
def accounts(draw: st.DrawFn) -> dict[str, Any]:
    """ServiceAccounts with any entries, ours, foreign or gone, with and without lists and annotations."""
    listed: list[str] = draw(st.lists(secrets, max_size=5, unique=True))
    ours: dict[str, str] = draw(st.dictionaries(secrets, uids, max_size=4))
    body: dict[str, Any] = {"metadata": {"namespace": "web", "name": "default", "uid": "sa", "resourceVersion": "7"}}
    with_list, with_other, with_annotations = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    if listed or with_list:
        body["imagePullSecrets"] = [{"name": name} for name in listed]
    annotations = {"example.com/other": "stays"} if with_other else {}
    if ours:
        annotations[names.ENTRIES_ANNOTATION] = ",".join(f"{s}={u}" for s, u in ours.items())
    if annotations or with_annotations:
        body["metadata"]["annotations"] = annotations
    return body


def without_ours(body: dict[str, Any]) -> dict[str, Any]:
    """All of a ServiceAccount that is none of our business."""
    metadata = dict(body["metadata"])
    annotations = dict(metadata.pop("annotations", None) or {})
    annotations.pop(names.ENTRIES_ANNOTATION, None)
    return {
        "metadata": metadata,
        "annotations": annotations,
        **{k: body[k] for k in body.keys() - {"metadata", "imagePullSecrets"}},
    }


@given(accounts(), secrets, uids)
def test_an_entry_is_added_behind_the_others(body: dict[str, Any], secret: str, uid: str) -> None:
    before = ServiceAccount.read(body)
    operations = add_entry(before, secret, uid)
    after_body = apply_patch(body, operations)
    after = ServiceAccount.read(after_body)
    if secret in before.pull_secrets:
        assert operations == []
        return
    assert after.pull_secrets == (*before.pull_secrets, secret)
    assert after.ours == {**before.ours, secret: uid}
    assert without_ours(after_body) == without_ours(body)
    assert add_entry(after, secret, uid) == []


@given(accounts(), uids, st.none() | secrets)
def test_only_our_entries_are_removed(body: dict[str, Any], uid: str, keep: str | None) -> None:
    before = ServiceAccount.read(body)
    operations = remove_entries(before, uid, keep)
    after_body = apply_patch(body, operations)
    after = ServiceAccount.read(after_body)
    going = {s for s, u in before.ours.items() if u == uid and s != keep}
    assert after.pull_secrets == tuple(s for s in before.pull_secrets if s not in going)
    assert after.ours == {s: u for s, u in before.ours.items() if s not in going}
    assert without_ours(after_body) == without_ours(body)
    assert bool(operations) == bool(going)
    assert remove_entries(after, uid, keep) == []


@given(accounts(), st.lists(st.tuples(st.booleans(), secrets, uids), max_size=8))
def test_foreign_entries_keep_their_order_through_anything(
    body: dict[str, Any], steps: list[tuple[bool, str, str]]
) -> None:
    first = ServiceAccount.read(body)
    foreign = tuple(s for s in first.pull_secrets if s not in first.ours)
    for adding, secret, uid in steps:
        seen = ServiceAccount.read(body)
        body = apply_patch(body, add_entry(seen, secret, uid) if adding else remove_entries(seen, uid))
    last = ServiceAccount.read(body)
    assert tuple(s for s in last.pull_secrets if s in foreign) == foreign


@given(accounts(), secrets, uids)
def test_a_patch_fits_one_version_only(body: dict[str, Any], secret: str, uid: str) -> None:
    seen = ServiceAccount.read(body)
    for operations in (add_entry(seen, secret, uid), remove_entries(seen, uid)):
        if operations:
            assert operations[0] == {"op": "test", "path": "/metadata/resourceVersion", "value": "7"}
            body["metadata"]["resourceVersion"] = "8"
            with pytest.raises(PatchError):
                apply_patch(body, operations)
            body["metadata"]["resourceVersion"] = "7"


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("", {}),
        (",,", {}),
        ("a=1", {"a": "1"}),
        ("a=1,b=2", {"a": "1", "b": "2"}),
        ("a=1,garbage,=3,b=", {"a": "1"}),
        ("a=1=2", {}),
    ],
)
def test_the_annotation_is_read_with_patience(text: str, ours: dict[str, str]) -> None:
    metadata = {"namespace": "web", "name": "default", "uid": "sa", "resourceVersion": "7"}
    body = {"metadata": metadata | {"annotations": {names.ENTRIES_ANNOTATION: text}}}
    assert ServiceAccount.read(body).ours == ours


@pytest.mark.parametrize("secrets_", [None, [], [{}], [{"name": "a"}, {}]])
def test_entries_are_read_with_patience(secrets_: Any) -> None:
    metadata = {"namespace": "web", "name": "default", "uid": "sa", "resourceVersion": "7", "annotations": None}
    account = ServiceAccount.read({"metadata": metadata, "imagePullSecrets": secrets_})
    assert len(account.pull_secrets) == len(secrets_ or [])
    assert not account.annotated


def test_of_an_annotation_only_so_much_is_read() -> None:
    text = ",".join(f"secret-{number}=uid-{number}" for number in range(20_000))
    metadata = {"namespace": "web", "name": "default", "uid": "sa", "resourceVersion": "7"}
    account = ServiceAccount.read({"metadata": metadata | {"annotations": {names.ENTRIES_ANNOTATION: text}}})
    assert len(account.ours) == MAX_OWN_ENTRIES


def test_an_annotation_that_somebody_forged_is_not_passed_on() -> None:
    annotations = {names.ENTRIES_ANNOTATION: "a=uid-1,b=x y,c=\nforged line,=uid-2,d=,e=" + "f" * 64}
    metadata = {"namespace": "web", "name": "default", "uid": "u", "resourceVersion": "1", "annotations": annotations}
    assert ServiceAccount.read({"metadata": metadata}).ours == {"a": "uid-1"}
