"""The README's code, which the tests run as it stands there."""

from __future__ import annotations

import re

from rig import REPOSITORY

PRINTED = "http://192.168.49.2:31234"  # where the README has the address that a deploy prints


def blocks(language: str, section: str = "Log your first run") -> list[str]:
    """The code blocks of a language in a section, in order."""
    text = (REPOSITORY / "README.md").read_text()
    body = re.split(r"^## ", text.partition(f"\n## {section}\n")[2], maxsplit=1, flags=re.MULTILINE)[0]
    return re.findall(rf"^```{language}\n(.*?)^```$", body, re.MULTILINE | re.DOTALL)
