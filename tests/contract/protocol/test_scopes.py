"""What clients ask for in `scope`, and what of it they get (distribution's token specification, and its scopes).

Less than was asked for, or nothing, is no error: the answer is 200, and the registry refuses what is not in the token.
"""

from typing import Any

import pytest

from tests.contract.protocol.client import ALL, PULL, READ, Client, refused

MOUNT = [{"type": "repository", "name": "samples/a", "actions": ["pull"]}, *PULL]


def entry(name: str, *actions: str) -> dict[str, Any]:
    return {"type": "repository", "name": name, "actions": list(actions)}


ASKED = [
    pytest.param("", [], id="nothing at all"),
    pytest.param("scope=", [], id="an empty scope"),
    pytest.param("scope=&scope=&scope=repository:demo/nginx:pull", PULL, id="empty scopes before one"),
    pytest.param("scope=+++repository:demo/nginx:pull+++", PULL, id="spaces around"),
    pytest.param("scope", [], id="a scope without a value"),
    pytest.param("scope=repository:demo/nginx:pull", PULL, id="a pull"),
    pytest.param("scope=repository%3Ademo%2Fnginx%3Apull", PULL, id="percent-encoded"),
    pytest.param("scope=repository:demo/nginx:pull,push", PULL, id="a push without the right: pull alone"),
    pytest.param("scope=repository:demo/nginx:push,pull", PULL, id="crane push: the other order"),
    pytest.param("scope=repository:demo/nginx:push", [], id="push alone"),
    pytest.param("scope=repository:other:pull", [], id="nothing of what was asked"),
    pytest.param(
        "scope=repository:other:pull&scope=repository:demo/nginx:pull", PULL, id="nothing of the first of two"
    ),
    pytest.param("scope=repository:demo/nginx:*", READ, id="star is everything held"),
    pytest.param("scope=repository:demo/nginx:*&scope=repository:demo/nginx:delete", READ, id="skopeo delete"),
    pytest.param("scope=repository:demo/nginx:delete&scope=repository:demo/nginx:push,pull", PULL, id="crane delete"),
    pytest.param("scope=repository:demo/nginx:push,pull,delete", PULL, id="newer crane delete"),
    pytest.param("scope=repository:other:*", [], id="star where nothing is held"),
    pytest.param(
        "scope=repository:demo/nginx:pull,push,metadata_read,metadata_write", READ, id="the words of Azure's clients"
    ),
    pytest.param("scope=repository:demo/nginx:pull+repository:samples/a:pull,push", MOUNT[::-1], id="conformance"),
    pytest.param("scope=repository:demo/nginx:pull%20repository:demo/nginx:pull,push", PULL, id="containerd push"),
    pytest.param("scope=repository:samples/a:pull&scope=repository:demo/nginx:pull", MOUNT, id="mount: two scopes"),
    pytest.param(
        "scope=repository:samples/a:pull,push+repository:demo/nginx:pull&scope=repository:samples/a:pull",
        MOUNT,
        id="repeated and joined",
    ),
    pytest.param("&".join(["scope=repository:demo/nginx:pull"] * 32), PULL, id="the same thirty-two times"),
    pytest.param("scope=repository(plugin):demo/nginx:pull", PULL, id="a class is dropped"),
    pytest.param("scope=repository(plugin):demo/nginx:pull+repository:demo/nginx:pull", PULL, id="a class merges"),
    pytest.param("scope=registry:catalog:*", [], id="no catalog"),
    pytest.param("scope=repository::pull", [], id="zot catalog: the empty name"),
    pytest.param("scope=unknown:a:b", [], id="an unknown type"),
    pytest.param("scope=repository:demo/nginx:fly", [], id="an unknown action"),
    pytest.param("scope=repository:demo/nginx:fly,pull", PULL, id="an unknown action beside a known one"),
    pytest.param("scope=repository:demo/nginx:metadata.read,pull", PULL, id="a word with a full stop"),
    pytest.param("scope=repository:demo/nginx:scanner-pull,pull", PULL, id="a word with a hyphen"),
    pytest.param("scope=repository:demo/nginx:PULL", [], id="a word in upper case is another word"),
    pytest.param("scope=repository:demo/nginx:" + "x" * 32 + ",pull", PULL, id="the longest word"),
    pytest.param("scope=repository:demo/nginx:", [], id="no action"),
    pytest.param("scope=repository:demo/nginx:,,pull,", PULL, id="empty actions"),
    pytest.param("scope=repository:localhost:5000/demo/nginx:pull", [], id="a port in the name is another name"),
    pytest.param("scope=repository:samples:pull", [], id="a prefix is not the name itself"),
    pytest.param("scope=repository:samples2/a:pull", [], id="a prefix ends at its slash"),
    pytest.param("scope=repository:samples/a/b/c:pull", [entry("samples/a/b/c", "pull")], id="deep below a prefix"),
    pytest.param("Scope=repository:demo/nginx:pull", [], id="parameters have lower case"),
    pytest.param("unknown=1&scope=repository:demo/nginx:pull&unknown=2", PULL, id="unknown parameters"),
]


@pytest.mark.parametrize(("query", "access"), ASKED)
async def test_what_a_get_asks_for(client: Client, query: str, access: Any) -> None:
    answer = await client.get(query)
    assert answer.status == 200
    assert answer.access == access


@pytest.mark.parametrize(
    ("scope", "access"),
    [
        pytest.param("-", [], id="no scope"),
        pytest.param("", [], id="docker: an empty scope"),
        pytest.param("repository:demo/nginx:pull repository:demo/nginx:pull,push", PULL, id="joined by spaces"),
        pytest.param(["repository:samples/a:pull", "repository:demo/nginx:pull"], MOUNT, id="containers/image: a list"),
        pytest.param(["", "repository:demo/nginx:*", ""], READ, id="empty ones between"),
    ],
)
async def test_what_a_post_asks_for(client: Client, scope: str | list[str], access: Any) -> None:
    answer = await client.post(scope=scope)
    assert answer.status == 200
    assert answer.access == access


UNREADABLE = [
    pytest.param("repository", id="a type alone"),
    pytest.param("repository:demo/nginx", id="no actions"),
    pytest.param(":demo/nginx:pull", id="no type"),
    pytest.param("x!y:a:pull", id="a type is matched as a whole"),
    pytest.param("Repository:a:pull", id="a type in upper case"),
    pytest.param("repository():a:pull", id="an empty class"),
    pytest.param("repository(a)(b):a:pull", id="two classes"),
    pytest.param("repository:Demo:pull", id="a name in upper case"),
    pytest.param("repository:a/../b:pull", id="dots climb nowhere"),
    pytest.param("repository:..:pull", id="dots alone"),
    pytest.param("repository:/a:pull", id="a slash in front"),
    pytest.param("repository:a/:pull", id="a slash behind"),
    pytest.param("repository:a//b:pull", id="two slashes"),
    pytest.param("repository:a%252fb:pull", id="a percent sign"),
    pytest.param("repository:a,b:pull", id="a comma in the name"),
    pytest.param("repository:*:pull", id="a star is no name"),
    pytest.param("repository:samples/*:pull", id="a pattern is no name"),
    pytest.param("repository:a:b:pull", id="a colon without a port"),
    pytest.param("repository:a%0Ab:pull", id="a line break"),
    pytest.param("repository:a%00:pull", id="NUL in the name"),
    pytest.param("repository:a:pull%00", id="NUL in the action"),
    pytest.param("repository:a%7F:pull", id="a control character"),
    pytest.param("repository:%C3%A4:pull", id="beyond ASCII"),
    pytest.param("repository:%FF%FE:pull", id="not UTF-8"),
    pytest.param("repository:%ED%A0%80:pull", id="a surrogate"),
    pytest.param("repository:a:pull;push", id="a semicolon between actions"),
    pytest.param("repository:a:pull%09push", id="a tab between actions"),
    pytest.param("repository:a:**", id="two stars"),
    pytest.param("repository:a:" + "x" * 33, id="an endless action"),
    pytest.param("repository:" + "a" * 256 + ":pull", id="a name beyond any registry's"),
    pytest.param("repository:a:" + ",".join("abcdefghijklmnopq"), id="more actions than there are"),
    pytest.param("other:a:" + "," * 600, id="an endless scope"),
    pytest.param("+".join(f"repository:a{n}:pull" for n in range(33)), id="thirty-three in one"),
    pytest.param("&scope=".join("repository:a:pull" for _ in range(33)), id="thirty-three parameters"),
]


@pytest.mark.parametrize("scope", UNREADABLE)
async def test_a_scope_that_cannot_be_read_is_an_error_and_opens_nothing_beside_it(client: Client, scope: str) -> None:
    """400, after which containerd's POST falls back to GET, and gets it there too."""
    refused(await client.get(f"scope=repository:demo/nginx:pull&scope={scope}"), 400, "UNSUPPORTED")


async def test_nobody_is_granted_the_catalog_the_empty_name_or_a_star(client: Client) -> None:
    """Distribution takes `*` in a token for any action; zot lists its catalog to who may pull the empty name."""
    client.world.scope_map([{"repositories": ["*"], "actions": ALL}])
    words = ["pull", "push", "delete", "metadata_read", "metadata_write"]
    scopes = ("registry:catalog:*", "repository::pull", "repository::*", "repository:any/thing:*", "other:any:*")
    answer = await client.get("&".join(f"scope={scope}" for scope in scopes))
    assert answer.access == [entry("any/thing", *words)]


async def test_a_push_mounts_from_where_pull_is_held(client: Client) -> None:
    """docker asks for `pull` on the source by itself; registries demand it there, and pull and push on the target."""
    client.world.scope_map(
        [
            {"repositories": ["team/app"], "actions": ["content/read", "content/write"]},
            {"repositories": ["base/*"], "actions": ["content/read"]},
        ]
    )
    answer = await client.get("account=web.reader&scope=repository:team/app:push,pull&scope=repository:base/os:pull")
    assert answer.access == [entry("team/app", "pull", "push"), entry("base/os", "pull")]


async def test_a_host_and_port_belong_to_the_name(client: Client) -> None:
    client.world.scope_map([{"repositories": ["*"], "actions": ["content/read"]}])
    answer = await client.get("scope=repository:localhost:5000/demo/nginx:pull")
    assert answer.access == [entry("localhost:5000/demo/nginx", "pull")]


async def test_entries_come_in_the_order_asked_and_actions_in_one_order(client: Client) -> None:
    client.world.scope_map([{"repositories": ["*"], "actions": ALL}])
    answer = await client.get("scope=repository:b:delete,push,pull&scope=repository:a:metadata_read,pull")
    assert answer.access == [entry("b", "pull", "push", "delete"), entry("a", "pull", "metadata_read")]


async def test_every_scope_of_a_long_request_is_granted(client: Client) -> None:
    """32 names of ordinary length make a request line of 8 KiB."""
    answer = await client.get("&".join(f"scope=repository:samples/{'a' * 200}{n}:pull" for n in range(32)))
    assert answer.status == 200
    assert len(answer.access) == 32
