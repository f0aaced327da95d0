from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pullpass.api import __main__ as generator
from pullpass.api.schema import definitions

ROOT = Path(__file__).parents[3]


def nodes(schema: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield schema
    for child in schema.get("properties", {}).values():
        yield from nodes(child)
    for name in ("items", "additionalProperties"):
        if name in schema:
            yield from nodes(schema[name])


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with every generated file in it, as the working directory."""
    monkeypatch.chdir(tmp_path)
    assert generator.main([]) == 0
    return tmp_path


def test_the_committed_files_are_those_that_the_models_make() -> None:
    assert generator.stale(ROOT) == []


def test_nothing_else_lies_among_the_generated_files() -> None:
    assert {path for directory in generator.DIRECTORIES for path in (ROOT / directory).iterdir()} == set(
        generator.files(ROOT)
    )


def test_a_file_is_the_definition_below_a_line_that_says_where_it_is_from(repository: Path) -> None:
    for name, definition in definitions().items():
        text = (repository / "crds" / name).read_text(encoding="utf-8")
        assert text.startswith("# Generated from operator/pullpass/api by `make generate`")
        assert yaml.safe_load(text) == definition
        assert (repository / "charts/pullpass/files/crds" / name).read_text(encoding="utf-8") == text


def test_check_accepts_what_is_current(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    assert generator.main(["--check"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("missing", [True, False])
def test_check_names_stale_files_and_leaves_them(
    repository: Path, capsys: pytest.CaptureFixture[str], missing: bool
) -> None:
    path = repository / "crds/pullpass.dev_scopemaps.yaml"
    if missing:
        path.unlink()
    else:
        path.write_text(path.read_text(encoding="utf-8") + "x", encoding="utf-8")
    capsys.readouterr()
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().err == "crds/pullpass.dev_scopemaps.yaml is stale: run `make generate`\n"
    assert path.exists() is not missing
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


def test_schemas_are_structural() -> None:
    for definition in definitions().values():
        for node in nodes(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]):
            assert node["type"] in ("object", "array", "string", "integer", "boolean")
            assert not node.keys() & {"$ref", "$defs", "anyOf", "title", "const"}


def test_everything_that_can_grow_is_bounded() -> None:
    for definition in definitions().values():
        root = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        for part in ("spec", "status"):
            for node in nodes(root["properties"].get(part, {"type": "object"})):
                if node["type"] == "string":
                    assert "maxLength" in node or "enum" in node, node
                if node["type"] == "array":
                    assert "maxItems" in node
                    assert "x-kubernetes-list-type" in node
                if "additionalProperties" in node:
                    assert "maxProperties" in node


def test_people_are_shown_sentences_and_no_regular_expressions() -> None:
    for definition in definitions().values():
        for node in nodes(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]):
            assert "pattern" not in node
            for rule in node.get("x-kubernetes-validations", []):
                assert " " in rule["message"]


def test_defaults_stand_only_where_they_say_something() -> None:
    spec = definitions()["pullpass.dev_registrytokens.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    defaults = {
        name: node["default"] for name, node in spec["properties"]["spec"]["properties"].items() if "default" in node
    }
    # Empty objects, so that the rules inside run, and their own defaults apply, where a user gives neither.
    assert defaults == {"enabled": True, "passwords": {}, "pullSecret": {}}
    scope_map = definitions()["pullpass.dev_scopemaps.yaml"]["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert [node["default"] for node in nodes(scope_map) if "default" in node] == ["default"]
    assert scope_map["properties"]["spec"]["properties"]["registry"]["default"] == "default"
