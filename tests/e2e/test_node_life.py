"""The node stops and starts between two runs: the data stays, and every address is right again."""

from __future__ import annotations

import json

from mlflow import MlflowClient
from rig import Deployment, PlaybookRunner, Sandbox


def inventory(sandbox: Sandbox) -> dict[str, dict[str, object]]:
    """The hosts of the group `minikube_nodes` with their variables, as Ansible reads the inventory now."""
    listing = json.loads(sandbox.run("ansible-inventory", "-i", str(sandbox.inventory), "--list"))
    hosts = listing.get("minikube_nodes", {}).get("hosts", [])
    return {host: listing["_meta"]["hostvars"].get(host, {}) for host in hosts}


def test_stop_and_start(sandbox: Sandbox, playbook: PlaybookRunner, deployed: Deployment) -> None:
    client = MlflowClient(deployed.service)
    experiment = client.get_experiment_by_name("Anomaly Detection")
    assert experiment is not None
    run = client.create_run(experiment.experiment_id, run_name="before-the-stop")
    client.log_metric(run.info.run_id, "auc", 0.875)
    client.log_text(run.info.run_id, "kept\n", "note.txt")
    client.set_terminated(run.info.run_id)

    sandbox.minikube("stop")
    assert inventory(sandbox) == {}
    # The truth about a stopped cluster: it would be started. Nothing is known about what is in it.
    assert "Bring the cluster into its state" in " ".join(playbook("site.yml", {}, check=True).changed_tasks)

    started = playbook("site.yml")
    assert any("Bring the cluster" in task for task in started.changed_tasks)
    again = playbook("site.yml")
    assert (again.count("changed"), again.changed_tasks) == (0, [])

    (node,) = inventory(sandbox).values()
    container = sandbox.run("docker", "port", sandbox.profile, "22/tcp").split()[0]
    assert str(node["ansible_port"]) == container.rpartition(":")[2]

    now = Deployment.read(sandbox, deployed.namespace)
    assert now == deployed
    for url in (now.service, now.ingress):
        kept = MlflowClient(url).get_run(run.info.run_id)
        assert kept.data.metrics == {"auc": 0.875}
        assert MlflowClient(url).list_artifacts(run.info.run_id)[0].path == "note.txt"
    client.delete_run(run.info.run_id)
