"""The code in README and runbooks, which the tests run as it stands there."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path

from rig import REPOSITORY

RUNBOOKS = REPOSITORY / "docs/runbooks"
PRINTED = "http://192.168.49.2:31234"  # where a page has the address that a deploy prints


def blocks(language: str, text: str) -> list[str]:
    """The code blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def first_run(language: str) -> list[str]:
    """The code blocks of the README's section "Log your first run"."""
    text = (REPOSITORY / "README.md").read_text().partition("\n## Log your first run\n")[2]
    return blocks(language, text.partition("\n## ")[0])


def commands(page: Path) -> Iterator[tuple[str, list[str]]]:
    """Each command of a page, with the lines that the page shows below it."""
    for block in blocks("console", page.read_text()):
        for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, *shown = part.strip().splitlines()
            yield command, shown


def missing(shown: Iterable[str], said: str) -> list[str]:
    """The lines of a page that are not in what its command said; `…` stands for anything."""
    words = " ".join(said.split())
    patterns = {line: ".*?".join(map(re.escape, " ".join(line.split()).split("…"))) for line in shown}
    return [line for line, pattern in patterns.items() if not re.search(pattern, words)]
