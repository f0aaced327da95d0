"""What the API server accepts and refuses, and the sentence a person gets: every constraint from both sides.

On the oldest Kubernetes that we promise to run on, and on the newest. The cases are held against the schema, so a
constraint without a case fails.
"""

import json
import re
import ssl
import urllib.error
import urllib.request
from collections.abc import Iterator
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pullpass.api.registrytoken import RegistryTokenSpec, RegistryTokenStatus
from pullpass.api.schema import definitions
from pullpass.api.scopemap import Action, ScopeMapSpec
from pullpass.api.times import format_time, parse_duration
from tests.cluster import ControlPlane, start_control_plane
from tests.cluster.toolchain import Kubernetes
from tests.contract.crds.case import MAP, TOKEN, WHEN, Case, Object, constraints
from tests.contract.crds.registrytoken import token_cases
from tests.contract.crds.scopemap import scope_map_cases
from tests.contract.crds.status import status_cases

pytestmark = pytest.mark.controlplane

PLURALS = {"ScopeMap": "scopemaps", "RegistryToken": "registrytokens"}
OLDER_WORDS = {"Too long: may not be more than": "Too long: may not be longer than", "int64": "integer"}
"""How Kubernetes 1.30 says it. There, fields of a status that is written by itself are named without `status.`, too."""


class Api:
    """Requests to the API server, with the causes of a refusal as it gives them."""

    def __init__(self, cluster: ControlPlane) -> None:
        self.kubernetes = cluster.record.kubernetes
        self.kubectl = cluster.kubectl
        config = yaml.safe_load(cluster.kubeconfig.read_text())
        server, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self._server = server["server"]
        self._tls = ssl.create_default_context(cafile=server["certificate-authority"])
        self._tls.load_cert_chain(user["client-certificate"], user["client-key"])

    def send(self, method: str, obj: Object, *, dry_run: bool = True, status: bool = False) -> Object:
        """Create (POST) or merge (PATCH) an object; returns it, or the Status that refuses it."""
        namespace = obj["metadata"].get("namespace")
        path = "/apis/pullpass.dev/v1alpha1/" + (f"namespaces/{namespace}/" if namespace else "")
        path += PLURALS[obj["kind"]]
        query = "?fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        content = "application/json"
        if method == "PATCH":
            path += f"/{obj['metadata']['name']}" + ("/status" if status else "")
            content = "application/merge-patch+json"
        request = urllib.request.Request(
            self._server + path + query, json.dumps(obj).encode(), {"Content-Type": content}, method=method
        )
        try:
            with urllib.request.urlopen(request, context=self._tls, timeout=30) as answer:
                result: Object = json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                result = json.load(error)
        return result


@pytest.fixture(scope="module", params=get_args(Kubernetes))
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    """An API server with both CRDs, and one object of each kind."""
    cluster = start_control_plane("contract-crds", controllers=False, kubernetes=request.param)
    try:
        for crd in definitions().values():
            cluster.kubectl("apply", "--server-side", "-f", "-", input=json.dumps(crd))
        cluster.kubectl("wait", "--for=condition=Established", "crd", "--all")
        result = Api(cluster)
        for obj in (MAP, TOKEN):
            assert result.send("POST", obj, dry_run=False)["kind"] == obj["kind"]
        yield result
    finally:
        cluster.stop()


def field_path(path: str) -> str:
    """`a.0.b` as the API server writes it: `a[0].b`."""
    return re.sub(r"\.([0-9]+)", r"[\1]", path)


CASES = [*scope_map_cases(), *token_cases(), *status_cases()]
FIXED_REGISTRY = (
    "the registry of a scope map cannot be changed, pull secrets are made for its hosts; make another ScopeMap"
)
IMMUTABLE = "the name of the pull secret cannot be changed, pods refer to it; make another RegistryToken"


def test_every_constraint_has_a_case() -> None:
    in_schema = {
        (crd["spec"]["names"]["kind"], constraint)
        for crd in definitions().values()
        for constraint in constraints(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    }
    with_a_case = {(case.kind, case.name) for case in CASES}
    with_a_case.add(("RegistryToken", f"spec.pullSecret rule: {IMMUTABLE}"))
    with_a_case.add(("ScopeMap", f"spec.registry rule: {FIXED_REGISTRY}"))
    assert in_schema == with_a_case


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.constraint}")
def test_constraint(api: Api, case: Case) -> None:
    status = case.at.startswith("status")
    method, name = ("PATCH", TOKEN["metadata"]["name"]) if status else ("POST", "probe")
    answers = []
    for value in (case.good, case.bad):
        obj = case.build(value, name)
        if status:
            del obj["spec"]
        answers.append(api.send(method, obj, status=status))
    accepted, refused = answers
    assert accepted["kind"] == case.kind, accepted
    assert refused["kind"] == "Status"
    assert refused["code"] == 422, refused
    causes = refused["details"]["causes"]
    field, sentence = field_path(case.field or case.at), case.sentence
    fields = {field}
    if api.kubernetes == "oldest":
        fields.add(field.removeprefix("status."))
        for newer, older in OLDER_WORDS.items():
            sentence = sentence.replace(newer, older)
    assert any(cause["field"] in fields and sentence in cause["message"] for cause in causes), causes


def test_defaults_are_applied(api: Api) -> None:
    stored = api.send("POST", {**TOKEN, "metadata": {"name": "defaults", "namespace": "default"}})
    assert stored["spec"] == {
        "scopeMapRef": {"name": "nginx-read"},
        "enabled": True,
        "passwords": {"onExpiry": "Rotate"},
        "pullSecret": {"whenRevoked": "Keep", "deletionPolicy": "Delete"},
    }
    stored = api.send("POST", {**MAP, "metadata": {"name": "defaults"}})
    assert stored["spec"] == {**MAP["spec"], "registry": "default"}


def test_defaults_are_those_of_the_models(api: Api) -> None:
    stored = api.send("POST", {**TOKEN, "metadata": {"name": "defaults", "namespace": "default"}})
    assert RegistryTokenSpec.model_validate(stored["spec"]) == RegistryTokenSpec.model_validate(TOKEN["spec"])


@pytest.mark.parametrize(
    ("before", "after"), [("one", "two"), (None, "two"), ("one", None), (None, "nginx-reader-pull")]
)
def test_the_name_of_the_pull_secret_is_immutable(api: Api, before: str | None, after: str | None) -> None:
    token = deepcopy(TOKEN)
    token["metadata"]["name"] = f"from-{before}-to-{after}".lower()
    token["spec"]["pullSecret"] = {"name": before} if before else {}
    assert api.send("POST", token, dry_run=False)["kind"] == "RegistryToken"
    others = {"name": before, "serviceAccounts": ["default"], "namespaces": ["web"], "whenRevoked": "Remove"}
    token["spec"]["pullSecret"] = others
    assert api.send("PATCH", token)["kind"] == "RegistryToken"
    token["spec"]["pullSecret"] = {"name": after}
    (cause,) = api.send("PATCH", token)["details"]["causes"]
    assert cause["field"] == "spec.pullSecret"
    assert IMMUTABLE in cause["message"]


@pytest.mark.parametrize(
    ("first", "same", "other"), [(None, "default", "third"), ("default", None, "third"), ("other", "other", None)]
)
def test_the_registry_of_a_scope_map_stays(api: Api, first: str | None, same: str | None, other: str | None) -> None:
    """None: the field is not named, which means the default."""
    name = f"registry-{first}".lower()
    scope_map = {**MAP, "metadata": {"name": name}, "spec": {**MAP["spec"], **({"registry": first} if first else {})}}
    assert api.send("POST", scope_map, dry_run=False)["kind"] == "ScopeMap"
    answer = api.send("PATCH", {**scope_map, "spec": {"registry": same, "description": "other words"}})
    assert answer["spec"]["registry"] == (first or "default")
    (cause,) = api.send("PATCH", {**scope_map, "spec": {"registry": other}})["details"]["causes"]
    assert cause["field"] == "spec.registry"
    assert FIXED_REGISTRY in cause["message"]


def test_a_field_that_does_not_exist_is_named(api: Api) -> None:
    token = deepcopy(TOKEN)
    token["metadata"]["name"] = "typing-error"
    token["spec"]["passwords"] = {"lifeTime": "1h"}
    assert 'unknown field "spec.passwords.lifeTime"' in api.send("POST", token)["message"]


def test_a_whole_password_in_the_place_of_its_id_is_not_quoted_back(api: Api) -> None:
    token = deepcopy(TOKEN)
    token["metadata"]["name"] = "careless"
    whole = "pullpass_4f9c1e" + "a" * 39
    token["spec"]["passwords"] = {"revoked": [whole]}
    answer = api.send("POST", token)
    assert answer["code"] == 422
    assert whole not in json.dumps(answer)


def test_status_has_its_own_door(api: Api) -> None:
    token = {**TOKEN, "status": {"username": "someone.else"}}
    assert "status" not in api.send("PATCH", token)
    changed = {**TOKEN, "spec": {"scopeMapRef": {"name": "other"}}, "status": {"username": "default.nginx-reader"}}
    stored = api.send("PATCH", changed, status=True)
    assert stored["status"] == {"username": "default.nginx-reader"}
    assert stored["spec"]["scopeMapRef"] == {"name": "nginx-read"}


def test_columns_answer_is_it_good_until_when_and_which_map(api: Api) -> None:
    token = {**TOKEN, "metadata": {"name": "columns", "namespace": "default"}}
    ready = {"type": "Ready", "status": "True", "reason": "Ready", "message": "", "lastTransitionTime": WHEN}
    token["status"] = {
        "username": "default.columns",
        "accessEndsAt": "2027-03-31T22:00:00Z",
        "nextTransitionTime": "2027-02-01T00:00:00Z",
        "nextTransition": "Rotate",
        "conditions": [ready],
    }
    api.send("POST", token, dry_run=False)
    api.send("PATCH", token, dry_run=False, status=True)
    head, row = api.kubectl("get", "rt", "columns").stdout.splitlines()
    assert re.split(r"\s{2,}", head.strip()) == ["NAME", "READY", "REASON", "SCOPE MAP", "EXPIRES", "NEXT", "AGE"]
    assert row.split()[:-1] == [
        "columns",
        "True",
        "Ready",
        "nginx-read",
        "2027-03-31T22:00:00Z",
        "2027-02-01T00:00:00Z",
    ]
    head, row = api.kubectl("get", "rt", "columns", "-o", "wide").stdout.splitlines()
    assert head.split()[-3:] == ["WHAT", "USERNAME", "AGE"]
    assert row.split()[-3:-1] == ["Rotate", "default.columns"]
    head = api.kubectl("get", "sm").stdout.splitlines()[0]
    assert head.split() == ["NAME", "REGISTRY", "ALLOWED", "DESCRIPTION", "AGE"]


def test_both_kinds_are_in_one_category(api: Api) -> None:
    found = api.kubectl("get", "pullpass", "-A", "-o", "name").stdout.split()
    assert "scopemap.pullpass.dev/nginx-read" in found
    assert "registrytoken.pullpass.dev/nginx-reader" in found


def test_tokens_are_found_by_scope_map_and_by_being_disabled(api: Api) -> None:
    """From Kubernetes 1.31 on; 1.30 leaves the selectable fields out of the CRD, and takes the rest of it."""
    token = deepcopy(TOKEN)
    token["metadata"]["name"] = "selected"
    token["spec"] = {"scopeMapRef": {"name": "other"}, "enabled": False}
    api.send("POST", token, dry_run=False)
    for selector in ("spec.scopeMapRef.name=other", "spec.enabled=false"):
        done = api.kubectl("get", "rt", "--field-selector", selector, "-o", "name", check=False)
        if api.kubernetes == "oldest":
            assert "field label not supported" in done.stderr
        else:
            assert done.stdout.split() == ["registrytoken.pullpass.dev/selected"]


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("scopemap", "A ScopeMap says which actions on which repositories"),
        ("scopemap.spec.rules.repositories", "`samples/*` does not match `samples` itself"),
        ("registrytoken", "A RegistryToken is an identity with rotating passwords"),
        ("registrytoken.spec.passwords.overlap", "Default: 1h, or half the time between two rotations"),
        ("registrytoken.spec.passwords.revoked", "refused from now on, whatever their dates"),
        ("registrytoken.status.nextTransition", "Rotate (a new password)"),
        ("registrytoken.status.lastHandledRotateRequest", "pullpass.dev/rotate-requested-at"),
    ],
)
def test_explain_speaks(api: Api, path: str, text: str) -> None:
    assert text in " ".join(api.kubectl("explain", path).stdout.split())


def test_every_field_has_a_description() -> None:
    def silent(schema: Object, at: str) -> Iterator[str]:
        for name, child in schema.get("properties", {}).items():
            if not child.get("description"):
                yield f"{at}.{name}"
            yield from silent(child.get("items", child), f"{at}.{name}")

    for crd in definitions().values():
        root = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            assert list(silent(root["properties"].get(part, {}), part)) == []


def lists(values: st.SearchStrategy[Any], least: int = 0) -> st.SearchStrategy[list[Any]]:
    return st.lists(values, min_size=least, max_size=4, unique=True)


def optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[Object]:
    return st.fixed_dictionaries({}, optional=fields)


LABELS = st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True)
HOURS = st.integers(1, 99999).map(lambda number: f"{number}h")
SELECTORS = st.fixed_dictionaries(
    {"matchLabels": st.dictionaries(LABELS, LABELS, min_size=1, max_size=3)},
    optional={
        "matchExpressions": st.lists(
            st.fixed_dictionaries(
                {"key": LABELS, "operator": st.sampled_from(["In", "NotIn"]), "values": lists(LABELS, 1)}
            ),
            max_size=3,
        )
    },
)
MAPS = st.fixed_dictionaries(
    {
        "rules": st.lists(
            st.fixed_dictionaries(
                {
                    "repositories": lists(LABELS | LABELS.map(lambda name: f"{name}/*") | st.just("*"), 1),
                    "actions": lists(st.sampled_from(get_args(Action)), 1),
                }
            ),
            min_size=1,
            max_size=4,
        ),
        "allowedNamespaces": st.one_of(
            st.just({"from": "All"}),
            st.fixed_dictionaries({"from": st.just("Names"), "names": lists(LABELS)}),
            st.fixed_dictionaries({"from": st.just("Selector"), "selector": SELECTORS}),
        ),
    },
    optional={"description": st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=60)},
)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2999, 12, 31)).map(
    lambda time: format_time(time.replace(tzinfo=UTC))
)
TOKENS = st.fixed_dictionaries(
    {"scopeMapRef": st.fixed_dictionaries({"name": LABELS})},
    optional={
        "enabled": st.booleans(),
        "expiresAt": TIMES,
        "passwords": optional(
            lifetime=HOURS,
            onExpiry=st.sampled_from(["Rotate", "Revoke"]),
            revoked=lists(st.from_regex("[0-9a-f]{6}", fullmatch=True)),
        ),
        "pullSecret": optional(
            name=LABELS,
            serviceAccounts=st.just(["*"]) | lists(LABELS),
            namespaces=lists(LABELS),
            whenRevoked=st.sampled_from(["Keep", "Remove"]),
            deletionPolicy=st.sampled_from(["Delete", "Retain"]),
        ),
    },
)


def contains(whole: Any, part: Any) -> bool:
    """Whether all of `part` is in `whole`, which may have more fields."""
    if isinstance(part, dict):
        return all(name in whole and contains(whole[name], value) for name, value in part.items())
    return bool(whole == part)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(scope_map=MAPS, token=TOKENS)
def test_whatever_is_valid_comes_back_whole(api: Api, scope_map: Object, token: Object) -> None:
    for template, spec, model in ((MAP, scope_map, ScopeMapSpec), (TOKEN, token, RegistryTokenSpec)):
        obj = {**template, "metadata": {**template["metadata"], "name": "random"}, "spec": spec}
        stored = api.send("POST", obj)
        assert stored["kind"] == template["kind"], stored
        assert contains(stored["spec"], spec)
        parsed = model.model_validate(stored["spec"])
        again = parsed.model_dump(mode="json", by_alias=True, exclude_none=True)
        assert contains(again, stored["spec"])


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kind}: {case.constraint}")
def test_the_models_read_what_the_api_server_accepts(case: Case) -> None:
    obj = case.build(case.good, "probe")
    model = ScopeMapSpec if case.kind == "ScopeMap" else RegistryTokenSpec
    model.model_validate(obj["spec"])
    RegistryTokenStatus.model_validate(obj.get("status", {}))


def test_a_lifetime_is_as_long_for_us_as_for_the_api_server(api: Api) -> None:
    """The rules compare durations as the API server reads them; the models must read the same."""
    for text, length in (("1h1m1s", timedelta(seconds=3661)), ("99999999s", timedelta(seconds=99999999))):
        token = {**TOKEN, "metadata": {"name": "probe", "namespace": "default"}}
        seconds = int(length.total_seconds())
        for renew_before, accepted in ((f"{seconds - 1}s", True), (f"{seconds}s", False)):
            passwords = {"lifetime": text, "renewBefore": renew_before, "overlap": "0s"}
            token["spec"] = {"scopeMapRef": {"name": "a"}, "passwords": passwords}
            assert (api.send("POST", token)["kind"] == "RegistryToken") is accepted
        assert parse_duration(text) == length
