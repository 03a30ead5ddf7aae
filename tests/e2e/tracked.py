"""What a tracking server holds, as clients see it, and somebody who keeps writing to it."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlflow import MlflowClient

State = dict[str, Any]


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


def artifacts_of(client: MlflowClient, run_id: str, folder: Path) -> dict[str, str]:
    """By path, the digest of every artifact of a run."""
    target = folder / run_id
    target.mkdir(parents=True)
    client.download_artifacts(run_id, "", str(target))
    return {str(path.relative_to(target)): digest(path.read_bytes()) for path in target.rglob("*") if path.is_file()}


def state_of(url: str, folder: Path) -> State:
    """All that a client can ask for: every run with its metrics, tags and artifacts, and every registered model."""
    client = MlflowClient(url)
    found: State = {}
    for experiment in client.search_experiments():
        for run in client.search_runs([experiment.experiment_id], max_results=5000):
            found[f"run {run.info.run_id}"] = {
                "experiment": experiment.name,
                "status": run.info.status,
                "metrics": {
                    name: [(point.value, point.step) for point in client.get_metric_history(run.info.run_id, name)]
                    for name in run.data.metrics
                },
                "tags": run.data.tags,
                "params": run.data.params,
                "artifacts": artifacts_of(client, run.info.run_id, folder),
            }
    for model in client.search_registered_models():
        found[f"model {model.name}"] = {
            "tags": model.tags,
            "versions": {
                version.version: (version.run_id, version.source)
                for version in client.search_model_versions(f"name = '{model.name}'")
            },
        }
    return found


@dataclass
class Writer(threading.Thread):
    """Logs one run after the other until it is told to stop; written is what the server has acknowledged."""

    url: str
    written: dict[str, dict[str, str]] = field(default_factory=dict)
    """By id, the digests of the artifacts of each run that is complete."""
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        super().__init__(daemon=True)

    def __hash__(self) -> int:
        return id(self)

    def run(self) -> None:
        client = MlflowClient(self.url)
        experiment = client.create_experiment(f"Written meanwhile {time.time()}")
        while not self.stopping.is_set():
            self.one(client, experiment)

    def one(self, client: MlflowClient, experiment: str) -> str:
        number = len(self.written)
        run_id = str(client.create_run(experiment, run_name=f"run {number}").info.run_id)
        for step in range(3):
            client.log_metric(run_id, "loss", 1 / (number + step + 1), step=step)
        client.log_param(run_id, "number", number)
        client.set_tag(run_id, "number", str(number))
        bodies = {"note.txt": f"run {number}\n", "deep/er/data.csv": "".join(f"{number},{i}\n" for i in range(5000))}
        for path, text in bodies.items():
            client.log_text(run_id, text, path)
        if number % 4 == 0:
            client.create_registered_model(f"model {experiment} {number}", tags={"number": str(number)})
            client.create_model_version(f"model {experiment} {number}", f"runs:/{run_id}/note.txt", run_id)
        client.set_terminated(run_id)
        self.written[run_id] = {path: digest(text.encode()) for path, text in bodies.items()}
        return run_id

    def wait_for(self, more: int) -> None:
        """Until so many runs more are written."""
        wanted, deadline = len(self.written) + more, time.monotonic() + 60
        while len(self.written) < wanted:
            assert time.monotonic() < deadline, "the server no longer answers the writer"
            assert self.is_alive()
            time.sleep(0.1)


def owner(model: State) -> str:
    ((run_id, _),) = model["versions"].values()
    return str(run_id)
