"""The runbooks' commands do what the pages show, in the pages' order, on the instance that everybody deploys."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from e2e.pages import PRINTED, RUNBOOKS, commands, missing
from rig import REPOSITORY, Deployment, PlaybookRunner, Sandbox

ELSEWHERE = {"README.md", "upgrade-and-rollback.md"}  # no commands; those of tests/e2e/test_upgrade.py


def test_every_page_is_linked_and_tried() -> None:
    pages = {page.name for page in RUNBOOKS.glob("*.md")}
    assert set(re.findall(r"\]\(([\w-]+\.md)\)", (RUNBOOKS / "README.md").read_text())) == pages - {"README.md"}
    assert pages - ELSEWHERE == {parameter.values[0] for parameter in PAGES}


PAGES = [
    pytest.param("status.md", ""),
    pytest.param("backup-and-restore.md", ""),
    pytest.param("clean-up.md", ""),
    pytest.param("train.md", ""),
    pytest.param("server-down.md", "scale deployment mlflow-deployment --replicas=0"),
    pytest.param("invalid-host.md", ""),
]


@pytest.mark.parametrize(("page", "fault"), PAGES)
def test_a_page(
    sandbox: Sandbox, playbook: PlaybookRunner, deployed: Deployment, tmp_path: Path, page: str, fault: str
) -> None:
    """`fault` is what kubectl does first, for a page that mends something."""
    if fault:
        sandbox.kubectl("-n", deployed.namespace, *fault.split())
    try:
        for command, shown in commands(RUNBOOKS / page):
            said = run(command, sandbox, deployed, tmp_path, fails=any("failed=1" in line for line in shown))
            assert missing(shown, said) == [], f"{page}: {command} said\n{said}"
    finally:
        if fault or page == "invalid-host.md":
            playbook("site.yml")


def run(command: str, sandbox: Sandbox, deployed: Deployment, folder: Path, *, fails: bool) -> str:
    """What a command says on this machine; backups go to `folder`."""
    here = command.replace("inventory/minikube", str(sandbox.inventory)).replace(PRINTED, deployed.service)
    here = here.replace("--context minikube", f"--context {sandbox.context}")
    if here.startswith("ansible-playbook"):
        here += f" -e mlflow_backup_directory={folder}"
    done = subprocess.run(
        ["bash", "-c", here],
        env=sandbox.environment,
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert (done.returncode != 0) == fails, f"{here}: exit {done.returncode}\n{done.stdout[-5000:]}\n{done.stderr}"
    return done.stdout
