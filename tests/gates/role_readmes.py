"""Each role's README.md, rendered from its argument specs: checks them, or with `--write` writes them."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parents[2] / "roles"
NOTE = "<!-- Made from meta/argument_specs.yml by tests/gates/role_readmes.py --write -->"


def read(path: Path) -> dict[str, Any]:
    """A YAML file's mapping; empty where there is no file."""
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def prose(text: str) -> str:
    """Ansible's documentation markup as Markdown: C(x), V(x), O(x), I(x), B(x), E(x), M(x) and L(text,url)."""
    text = re.sub(r"\bL\(([^,)]+),\s*([^)]+)\)", r"[\1](\2)", text)
    text = re.sub(r"\bU\(([^)]+)\)", r"<\1>", text)
    text = re.sub(r"\bB\(([^)]+)\)", r"**\1**", text)
    text = re.sub(r"\b[CVOIEM](?:\(RV)?\(([^)]+)\)", r"`\1`", text)
    return " ".join(text.split())


def paragraphs(description: str | list[str]) -> list[str]:
    """A description, which may be one text or a list, as Markdown."""
    return [prose(text) for text in ([description] if isinstance(description, str) else description)]


def show_default(option: Mapping[str, Any]) -> str:
    """A default value as it is written in YAML, in one line."""
    if option.get("required"):
        return "required"
    if "default" not in option:
        return ""
    value = option["default"]
    return f"`{value}`" if isinstance(value, str) and value else f"`{json.dumps(value)}`"


def row(name: str, option: Mapping[str, Any]) -> str:
    """The table row of a variable, and of a dictionary's keys below it."""
    kind = option.get("type", "str") + (f" of {option['elements']}" if "elements" in option else "")
    text = " ".join(paragraphs(option.get("description", "")))
    if "choices" in option:
        text += " One of " + ", ".join(f"`{choice}`" for choice in option["choices"]) + "."
    cells = [f"`{name}`", kind, show_default(option), text]
    line = "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"
    below = [row(f"{name}.{key}", each) for key, each in option.get("options", {}).items()]
    return "\n".join([line, *below])


def render(role: Path) -> str:
    """The README of a role."""
    specs = read(role / "meta" / "argument_specs.yml")["argument_specs"]
    lines = [f"# Role `mlops.mlflow.{role.name}`", "", NOTE]
    for entry, spec in specs.items():
        if entry != "main":
            lines += ["", f"## Entry point `{entry}`"]
        lines += ["", f"{prose(spec['short_description']).rstrip('.')}."]
        lines += ["", *(f"- {text}" for text in paragraphs(spec.get("description", [])))]
        options = spec.get("options", {})
        if options:
            lines += ["", "| Variable | Type | Default | What it is |", "|---|---|---|---|"]
            lines += [row(name, option) for name, option in options.items()]
    others = [
        str(each["role"]).rsplit(".", 1)[-1] for each in read(role / "meta" / "main.yml").get("dependencies") or []
    ]
    if others:
        links = ", ".join(f"[{name}](../{name}/README.md)" for name in others)
        lines += ["", f"It takes the variables of {links} as well."]
    return "\n".join(lines) + "\n"


def main(arguments: list[str]) -> int:
    """Compare or write all READMEs; the exit code is 1 where one is not up to date."""
    stale = []
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        readme, text = role / "README.md", render(role)
        if readme.exists() and readme.read_text() == text:
            continue
        if "--write" in arguments:
            readme.write_text(text)
        else:
            stale.append(str(readme.relative_to(ROLES.parent)))
    if stale:
        print(f"Not what the argument specs say: {', '.join(stale)}. Run python tests/gates/role_readmes.py --write")
    return bool(stale)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
