"""Writes the CustomResourceDefinitions to the files that ship: `python -m pullpass.api`, in the repository's root.

`crds/` is for people and `kubectl apply`, the chart has a copy because Helm reads no file outside of a chart.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

import yaml

from pullpass.api.schema import definitions

DIRECTORIES = (Path("crds"), Path("charts/pullpass/files/crds"))
HEADER = "# Generated from operator/pullpass/api by `make generate`; edit the models there, not this file.\n"


def files(root: Path) -> dict[Path, str]:
    """Every generated file below `root`, and what it has to contain."""
    texts = {
        name: HEADER + yaml.safe_dump(definition, sort_keys=False, width=100, allow_unicode=True)
        for name, definition in definitions().items()
    }
    return {root / directory / name: text for directory in DIRECTORIES for name, text in texts.items()}


def stale(root: Path) -> list[Path]:
    """Generated files that are missing or differ from the models."""
    return [path for path, text in files(root).items() if not path.exists() or path.read_text(encoding="utf-8") != text]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the files, or with --check only name the stale ones. Returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m pullpass.api", description="Generates the CRDs.")
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a file is stale")
    check = parser.parse_args(arguments).check
    outdated = stale(Path())
    for path in outdated:
        if check:
            print(f"{path} is stale: run `make generate`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(files(Path())[path], encoding="utf-8")
            print(f"{path} written")
    return int(check and bool(outdated))


if __name__ == "__main__":
    sys.exit(main())
