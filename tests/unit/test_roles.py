"""What holds for every role: its specs, defaults, README and names agree, and roles agree with each other."""

from __future__ import annotations

import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())
BY_NAME = pytest.mark.parametrize("role", ROLES, ids=[role.name for role in ROLES])
PREFIXES = ("mlflow_", "minikube_")


def read(path: Path) -> Any:
    return (yaml.safe_load(path.read_text()) or {}) if path.exists() else {}


def defaults(role: Path) -> dict[str, Any]:
    return dict(read(role / "defaults" / "main.yml"))


def options(role: Path) -> dict[str, Any]:
    return dict(read(role / "meta" / "argument_specs.yml")["argument_specs"]["main"].get("options", {}))


def task_files(role: Path) -> list[Path]:
    return sorted(path for part in ("tasks", "handlers") for path in (role / part).glob("**/*.yml"))


def tasks(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """All tasks, those in blocks as well."""
    for item in items:
        yield item
        for part in ("block", "rescue", "always"):
            yield from tasks(item.get(part, []))


@BY_NAME
def test_specs_and_defaults_are_equal(role: Path) -> None:
    documented = {name: option["default"] for name, option in options(role).items() if "default" in option}
    assert documented == defaults(role)


@BY_NAME
def test_a_variable_has_a_default_or_is_required(role: Path) -> None:
    for name, option in options(role).items():
        assert ("default" in option) != option.get("required", False), name


@BY_NAME
def test_variables_are_described_and_typed(role: Path) -> None:
    for name, option in options(role).items():
        assert option.get("description"), name
        assert option.get("type"), name


@BY_NAME
def test_variables_carry_the_collections_prefixes(role: Path) -> None:
    for name in options(role):
        assert re.fullmatch(r"[a-z][a-z0-9_]*", name), name
        assert name.startswith(PREFIXES), name


@BY_NAME
def test_internal_variables_carry_the_roles_name(role: Path) -> None:
    for path in (role / "vars").glob("*.yml"):
        for name in read(path):
            assert name.startswith(f"__{role.name}_"), f"{path.name}: {name}"


@BY_NAME
def test_every_role_says_what_it_is(role: Path) -> None:
    info = read(role / "meta" / "main.yml")["galaxy_info"]
    assert info["license"] == "GPL-3.0-or-later"
    assert info["description"]
    assert info["min_ansible_version"] == "2.19.0"


@BY_NAME
def test_the_readme_is_what_the_specs_say(role: Path) -> None:
    generator = runpy.run_path(str(ROOT / "tests" / "gates" / "role_readmes.py"))
    assert (role / "README.md").read_text() == generator["render"](role)


@BY_NAME
def test_task_names_begin_with_their_file(role: Path) -> None:
    """`file | What happens`; in main.yml, ansible-lint and Ansible's own output know the role's name as the prefix."""
    for path in task_files(role):
        for task in tasks(read(path) or []):
            name = task.get("name", "")
            prefix = "" if path.stem == "main" else f"{path.stem} | "
            assert re.match(re.escape(prefix) + r"[A-Z][^|]*$", name), f"{path.relative_to(ROOT)}: {name!r}"


def test_roles_agree_on_shared_defaults() -> None:
    seen: dict[str, tuple[str, Any]] = {}
    for role in ROLES:
        for name, value in defaults(role).items():
            first, known = seen.setdefault(name, (role.name, value))
            assert known == value, f"{name} differs between {first} and {role.name}"


def test_roles_agree_on_shared_specs() -> None:
    seen: dict[str, tuple[str, Any]] = {}
    for role in ROLES:
        for name, option in options(role).items():
            kind = (option["type"], option.get("elements"), option.get("choices"))
            first, known = seen.setdefault(name, (role.name, kind))
            assert known == kind, f"{name} differs between {first} and {role.name}"


def test_action_groups_are_the_modules_of_their_prefix() -> None:
    groups = read(ROOT / "meta" / "runtime.yml")["action_groups"]
    modules = {path.stem for path in (ROOT / "plugins" / "modules").glob("*.py")}
    assert groups == {
        group: sorted(name for name in modules if name.startswith(f"{group}_")) for group in ("minikube", "mlflow")
    }
