"""What the README has people run, for tests that do."""

import re

from tests.cluster import places

TEXT = (places.ROOT / "README.md").read_text()


def blocks(heading: str, language: str = "sh") -> list[str]:
    """What the README has to run, or to apply, under one heading."""
    [section] = re.findall(rf"^##+ {heading}\n(.*?)^##+ ", TEXT, re.DOTALL | re.MULTILINE)
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", section, re.DOTALL | re.MULTILINE)
    return [re.sub(f"^{indent}", "", block, flags=re.MULTILINE) for indent, block in found]
