"""The notebook beside a second instance: JupyterLab in headless Chromium, its protection, its data, and how it goes."""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import requests
from e2e.browser import chromium, screenshot
from e2e.pages import first_run
from mlflow import MlflowClient
from rig import BUILD, Deployment, Play, PlaybookRunner, Sandbox
from selenium.webdriver import ActionChains, Chrome, Keys
from selenium.webdriver.common.by import By
from selenium.webdriver.support import expected_conditions
from selenium.webdriver.support.wait import WebDriverWait

PLAYBOOK = "playbooks/notebook.yml"
NAMESPACE = "mlflow-lab"
LAB = {
    "mlflow_instance": "lab",
    "mlflow_namespace": NAMESPACE,
    "mlflow_volume_name": "lab-volume",
    "mlflow_data_path": "/data/mlflow-lab",
    "mlflow_ingress_host": "lab.local",
    "mlflow_workers": 1,
}
HOST = "notebook.lab.local"
DIRECTORY = "mlflow-lab-notebook"
PASSWORD, TOKEN = "correct horse battery staple", "a-token-that-somebody-chose"
EXPERIMENT = "Anomaly Detection"
RUN = first_run("python")[1]  # the README's cell
LOOK = """
import os
from pathlib import Path

artifacts = Path("/mlflow/artifacts")
(report,) = artifacts.glob(f"*/{run.info.run_id}/artifacts/report.txt")
print("read", report.read_text())
try:
    report.write_text("three")
except OSError as error:
    print("write", error.strerror)
print("databases", list(Path("/mlflow").rglob("*.db")))
print("user", os.getuid(), os.getgid())
print("service account", Path("/var/run/secrets/kubernetes.io").exists())
"""
SEEN = (
    "read two anomalies",
    "write Read-only file system",
    "databases []",
    "user 10001 10001",
    "service account False",
)

HOSTS = f"""
import http.client

for host in ("localhost", "{HOST}", "attacker.example"):
    connection = http.client.HTTPConnection("127.0.0.1", 8888)
    connection.request("GET", "/api", headers={{"Host": host}})
    print(connection.getresponse().status, host)
"""


def words(play: Play) -> str:
    """The output without Ansible's line breaks."""
    return " ".join(play.output.split())


def document(*cells: str) -> dict[str, Any]:
    """A notebook file with these code cells."""
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    empty: dict[str, Any] = {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None}
    code = [{**empty, "id": f"cell-{i}", "source": text.strip()} for i, text in enumerate(cells)]
    return {"cells": code, "metadata": {"kernelspec": kernel}, "nbformat": 4, "nbformat_minor": 5}


@dataclass(frozen=True)
class Notebook:
    """The notebook, asked through the Ingress controller's address."""

    sandbox: Sandbox
    deployment: Deployment

    def ask(self, path: str, token: str = "", method: str = "GET", **options: Any) -> requests.Response:
        """The answer; the Ingress controller, which learns of a new pod a moment later, is given that moment."""
        headers = {"Host": HOST} | ({"Authorization": f"token {token}"} if token else {})
        url = f"http://{self.deployment.address}{path}"
        deadline = time.monotonic() + 30
        while True:
            answer = requests.request(method, url, headers=headers, timeout=30, allow_redirects=False, **options)
            by_the_controller = answer.status_code in {404, 502, 503} and "Server" not in answer.headers
            if not by_the_controller or time.monotonic() > deadline:
                return answer
            time.sleep(0.5)

    @property
    def token(self) -> str:
        secret = self.sandbox.objects("secret", "-n", NAMESPACE, "--field-selector=metadata.name=notebook")[0]
        return base64.b64decode(secret["data"]["token"]).decode()


@pytest.fixture(scope="module")
def notebook(sandbox: Sandbox, playbook: PlaybookRunner) -> Iterator[Notebook]:
    """What a failed or killed test left is removed; nothing runs without a server, and check mode makes nothing."""
    removal = LAB | {"mlflow_teardown_data": True}
    playbook("playbooks/teardown.yml", removal)
    refused = playbook(PLAYBOOK, LAB, rc=2)
    assert "no tracking server that is ready in the namespace mlflow-lab" in words(refused)
    assert refused.count("changed") == 0

    playbook("site.yml", LAB)
    checked = playbook(PLAYBOOK, LAB, check=True)
    assert checked.count("changed") > 0
    assert not sandbox.objects("deployment", "-n", NAMESPACE, "-l", "app.kubernetes.io/component=notebook")
    assert DIRECTORY not in sandbox.node_directories()

    played = playbook(PLAYBOOK, LAB)
    notebook = Notebook(sandbox, Deployment.read(sandbox, NAMESPACE))
    assert f"http://{HOST}" in played.output
    assert notebook.token not in checked.output + played.output
    yield notebook
    playbook("playbooks/teardown.yml", removal)


def test_repeating_changes_nothing(notebook: Notebook, playbook: PlaybookRunner) -> None:
    token = notebook.token
    again = playbook(PLAYBOOK, LAB, "-vvvv")
    assert (again.count("changed"), again.changed_tasks) == (0, [])
    checked = playbook(PLAYBOOK, LAB, check=True)
    assert (checked.count("changed"), checked.changed_tasks) == (0, [])
    assert notebook.token == token
    for secret in (token, base64.b64encode(token.encode()).decode()):
        assert secret not in again.output + checked.output
    # The other parts of the instance go on without it.
    assert playbook("site.yml", LAB).count("changed") == 0


def test_it_is_closed(notebook: Notebook, sandbox: Sandbox) -> None:
    assert notebook.ask("/api/contents").status_code == 403
    assert notebook.ask("/api/contents", "wrong").status_code == 403
    assert notebook.ask("/lab").headers["Location"].startswith("/login?")
    assert notebook.ask("/api/contents", notebook.token).status_code == 200
    # A page that has rebound its own name to this address asks under that name.
    inside = ("-n", NAMESPACE, "exec", "deploy/notebook", "--", "python", "-c", HOSTS)
    assert sandbox.kubectl(*inside) == f"200 localhost\n200 {HOST}\n403 attacker.example\n"


def log_in(browser: Chrome, secret: str) -> None:
    field = WebDriverWait(browser, 60).until(expected_conditions.element_to_be_clickable((By.ID, "password_input")))
    field.send_keys(secret)
    browser.find_element(By.ID, "login_submit").click()


def run_cell(browser: Chrome, number: int, until: str) -> str:
    """Run the cell as a person does, and return what it printed once that holds `until`."""
    wait = WebDriverWait(browser, 90)
    wait.until(lambda _: "| Idle" in browser.find_element(By.ID, "jp-bottom-panel").text)
    cell = browser.find_elements(By.CSS_SELECTOR, ".jp-Notebook .jp-CodeCell")[number - 1]
    cell.find_element(By.CSS_SELECTOR, ".cm-content").click()
    ActionChains(browser).key_down(Keys.SHIFT).send_keys(Keys.ENTER).key_up(Keys.SHIFT).perform()

    def printed(_: Chrome) -> str | None:
        text = "\n".join(area.text for area in cell.find_elements(By.CSS_SELECTOR, ".jp-OutputArea-output"))
        return text if until in text else None

    return str(wait.until(printed))


def test_a_run_from_the_notebook(notebook: Notebook, sandbox: Sandbox) -> None:
    made = notebook.ask(
        "/api/contents/first.ipynb", notebook.token, "PUT", json={"type": "notebook", "content": document(RUN, LOOK)}
    )
    assert made.status_code == 201, made.text

    server = notebook.deployment
    with chromium({HOST: server.address}) as browser:
        wait = WebDriverWait(browser, 60)
        browser.get(f"http://{HOST}/lab/tree/first.ipynb")
        log_in(browser, "wrong")
        wait.until(expected_conditions.text_to_be_present_in_element((By.TAG_NAME, "body"), "Invalid credentials"))
        log_in(browser, notebook.token)
        wait.until(expected_conditions.url_contains("/lab/tree/first.ipynb"))
        printed = run_cell(browser, 1, "logged")
        screenshot(browser, BUILD / "screenshots/notebook.png")
        run_id = printed.removeprefix("logged ").strip()
        assert re.fullmatch(r"[0-9a-f]{32}", run_id), printed
        looked = run_cell(browser, 2, "service account")
        ActionChains(browser).key_down(Keys.CONTROL).send_keys("s").key_up(Keys.CONTROL).perform()
        wait.until(lambda _: run_id in notebook.ask("/api/contents/first.ipynb", notebook.token).text)
        assert [line for line in SEEN if line not in looked] == []

        client = MlflowClient(server.service)
        run = client.get_run(run_id)
        assert (run.info.run_name, run.info.status) == ("from the notebook", "FINISHED")
        assert run.data.metrics == {"accuracy": 0.97}
        browser.get(f"{server.service}/#/experiments/{run.info.experiment_id}/runs")
        wait.until(expected_conditions.element_to_be_clickable((By.LINK_TEXT, "from the notebook")))
        screenshot(browser, BUILD / "screenshots/notebook-run.png")

    # What was saved is on the node, and there again after the pod is gone.
    assert "first.ipynb" in sandbox.minikube("ssh", "--", "sudo", "ls", f"/data/{DIRECTORY}")
    sandbox.kubectl("-n", NAMESPACE, "delete", "pod", "-l", "app.kubernetes.io/component=notebook")
    sandbox.kubectl("-n", NAMESPACE, "rollout", "status", "deployment/notebook", "--timeout=90s")
    assert run_id in notebook.ask("/api/contents/first.ipynb", notebook.token).text


def test_a_password_of_ones_own(notebook: Notebook, sandbox: Sandbox, playbook: PlaybookRunner) -> None:
    before = notebook.token
    literal = f"--from-literal=password={PASSWORD}"
    sandbox.kubectl("-n", NAMESPACE, "create", "secret", "generic", "lab-password", literal)
    variables = LAB | {"mlflow_notebook_secret": "lab-password"}
    assert PASSWORD not in playbook(PLAYBOOK, variables).output
    assert playbook(PLAYBOOK, variables).count("changed") == 0
    assert not sandbox.objects("secret", "-n", NAMESPACE, "--field-selector=metadata.name=notebook")
    assert notebook.ask("/api/contents", before).status_code == 403

    def status(password: str) -> tuple[int, int]:
        """The answers to a login and to what comes after."""
        xsrf = notebook.ask("/login").cookies["_xsrf"]
        form, cookies = {"password": password, "_xsrf": xsrf}, {"_xsrf": xsrf}
        login = notebook.ask("/login?next=/lab", "", "POST", data=form, cookies=cookies)
        return login.status_code, notebook.ask("/api/contents", cookies=login.cookies.get_dict()).status_code

    assert status("wrong") == (401, 403)
    assert status(PASSWORD) == (302, 200)


def test_a_token_of_ones_own(notebook: Notebook, playbook: PlaybookRunner) -> None:
    variables = LAB | {"mlflow_notebook_token": TOKEN}
    assert TOKEN not in playbook(PLAYBOOK, variables, "--diff").output
    assert notebook.ask("/api/contents", TOKEN).status_code == 200
    # It stays when the variable is no longer given.
    assert playbook(PLAYBOOK, LAB).count("changed") == 0


@pytest.mark.parametrize(
    ("variables", "told"),
    [
        ({"mlflow_notebook_host": "lab.local"}, "must be a DNS name other than mlflow_ingress_host 'lab.local'"),
        ({"mlflow_notebook_path": "/data/mlflow-lab/notebook"}, "must not lie in each other"),
        ({"mlflow_notebook_token": "short"}, "16 or more printable characters"),
        ({"mlflow_notebook_token": TOKEN, "mlflow_notebook_secret": "x"}, "are both given"),
        ({"mlflow_notebook_secret": "missing"}, "has no Secret 'missing' (mlflow_notebook_secret) with a key 'token'"),
    ],
    ids=["host", "path", "token", "both", "secret"],
)
def test_what_cannot_be_is_refused(
    notebook: Notebook, playbook: PlaybookRunner, variables: Mapping[str, str], told: str
) -> None:
    play = playbook(PLAYBOOK, LAB | variables, rc=2)
    assert told in words(play)
    assert "Nothing was changed" in play.output
    assert play.count("changed") == 0


def test_what_is_not_ready_is_told(notebook: Notebook, playbook: PlaybookRunner) -> None:
    variables = LAB | {
        "mlflow_notebook_resources": {"requests": {"cpu": "99"}},
        "mlflow_rollout_timeout": 5,
    }
    play = playbook(PLAYBOOK, variables, rc=2)
    assert "The notebook mlflow-lab/notebook was not ready within 5 s" in words(play)
    assert "Insufficient cpu" in play.output


def test_it_goes_with_the_instance(notebook: Notebook, sandbox: Sandbox, playbook: PlaybookRunner) -> None:
    playbook("playbooks/teardown.yml", LAB)
    assert sandbox.objects("persistentvolume", "-l", "app.kubernetes.io/instance=lab") == []
    assert not sandbox.objects("namespace", f"--field-selector=metadata.name={NAMESPACE}")
    assert {"mlflow-lab", DIRECTORY} <= sandbox.node_directories()
    playbook("playbooks/teardown.yml", LAB | {"mlflow_teardown_data": True})
    assert not {"mlflow-lab", DIRECTORY} & sandbox.node_directories()
