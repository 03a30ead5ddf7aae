"""Measure the collection beside other ways to deploy MLflow, in one run on the sandbox.

Each figure takes its variants in turn, several times, and gives medians; nothing is asserted. The table goes to
standard output and build/bench.md, all samples to build/bench.json.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cluster import CACHE, PROFILE, ROOT, Cluster, helm, playbook, run, seconds

Samples = dict[str, list[float]]

OURS = "mlflow-bench"
CHART = "mlflow-bench-chart"
PODS = "mlflow-bench-pods"
INSTANCE = {
    "mlflow_instance": "bench",
    "mlflow_namespace": OURS,
    "mlflow_data_path": "/data/mlflow-bench",
    "mlflow_volume_name": "bench-volume",
    "mlflow_ingress_host": "bench.mlflow.local",
}
DEFAULT_PORT, OUR_PORT, REGISTRY_PORT = 15050, 15051, 15052
BACKUP_MB = 256
SETTLE = 10  # seconds after the first answer; MLflow's job processes start late


@dataclass
class Figure:
    """One comparison. The first variant is ours; `aim` is the issue's own words, or empty."""

    title: str
    unit: str
    compared: str
    aim: str = ""
    samples: Samples = field(default_factory=dict)

    def add(self, variant: str, value: float) -> None:
        """Keep and show one sample."""
        self.samples.setdefault(variant, []).append(round(value, 3))
        print(f"  {self.title}: {variant}: {value:.2f} {self.unit}", file=sys.stderr, flush=True)

    def rows(self) -> list[list[str]]:
        """Table rows: figure, variant, median, range, how many times ours, aim."""
        ours = statistics.median(next(iter(self.samples.values())))
        rows = []
        for number, (variant, values) in enumerate(self.samples.items()):
            median = statistics.median(values)
            spread = f"{min(values):.2f}-{max(values):.2f}" if len(values) > 1 else ""
            first = number == 0
            rows.append([
                self.title if first else "", variant, f"{median:.2f} {self.unit}", spread,
                "1" if first else f"{median / ours:.2f}", self.aim if first else "",
            ])  # fmt: skip
        return rows


@dataclass
class Bench:
    """What the figures share: the cluster, the number of runs, and the deployment that the first of them makes."""

    runs: int
    cluster: Cluster = field(default_factory=Cluster)
    known: dict[str, dict[str, Any]] = field(default_factory=dict)

    def deploy(self) -> None:
        """Deploy the bench's own instance of the collection."""
        run(playbook("site.yml", INSTANCE))

    def teardown(self) -> None:
        """Remove that instance and its data."""
        run(playbook("playbooks/teardown.yml", INSTANCE | {"mlflow_teardown_data": True}))

    def deployed(self) -> dict[str, dict[str, Any]]:
        """Objects of the deployed instance by kind, without what the API server adds."""
        namespaced = "secret,deployment,service,ingress,persistentvolumeclaim"
        objects = self.cluster.get(namespaced, "-n", OURS, "-l", "app.kubernetes.io/instance=bench")["items"]
        objects += [self.cluster.get("namespace", OURS), self.cluster.get("persistentvolume", "bench-volume")]
        return {entry["kind"]: plain(entry) for entry in objects}

    @contextlib.contextmanager
    def instance(self) -> Iterator[dict[str, dict[str, Any]]]:
        """The deployed objects for the length of the block."""
        try:
            self.deploy()
            self.known = self.deployed()
            yield self.known
        finally:
            self.teardown()

    def objects(self) -> dict[str, dict[str, Any]]:
        """The objects of a deployment, made for this if there was none yet; its image is in the node from then on."""
        if not self.known:
            with self.instance():
                pass
        return self.known

    def image(self) -> str:
        """Reference of the image that the collection deploys."""
        return str(self.objects()["Deployment"]["spec"]["template"]["spec"]["containers"][0]["image"])

    def chart(self, *extra: str) -> list[Any]:
        """Command that installs or upgrades the chart."""
        where = ["--kube-context", PROFILE, "-n", CHART, "--create-namespace"]
        how = ["--wait", "--timeout", "5m", *extra]
        return [CACHE / "bench/helm", "upgrade", "--install", *where, *how, "chart", ROOT / "tests/bench/chart"]


def plain(entry: dict[str, Any]) -> dict[str, Any]:
    """A definition as its author would have written it, from an object of the API server."""
    kept = {key: value for key, value in entry["metadata"].items() if key in {"name", "namespace", "labels"}}
    return {key: value for key, value in entry.items() if key != "status"} | {"metadata": kept}


def noop(bench: Bench) -> list[Figure]:
    """A second run over what is already as it should be."""
    figure = Figure(
        "no-op run",
        "s",
        "site.yml (cluster, node, image, objects, experiment, checks through every address) against only the same seven"
        " objects with a kubernetes.core.k8s task each, and against helm upgrade of a chart with six objects",
        "at most 5 s",
    )
    with bench.instance() as objects:
        variables = ROOT / "build/bench/objects.json"
        variables.parent.mkdir(parents=True, exist_ok=True)
        kubeconfig = str(CACHE / "kubeconfig")
        variables.write_text(json.dumps({"objects": objects, "kubeconfig": kubeconfig, "context": PROFILE}))
        variants: dict[str, list[Any]] = {
            "site.yml": playbook("site.yml", INSTANCE),
            "a k8s task per object": [*playbook("tests/bench/per_object.yml", {}, "localhost,"), "-e", f"@{variables}"],
        }
        if helm():
            # No pod of the chart's may take CPU from the others; the objects are the same ones.
            variants["helm upgrade"] = bench.chart("--set", f"image={bench.image()},replicas=0")
        for name, command in variants.items():
            if changed := [line for line in run(command).splitlines() if re.search(r"changed=[1-9]", line)]:
                print(f"  not a no-op, {name}: {' '.join(changed)}", file=sys.stderr)
        for _ in range(bench.runs):
            for name, command in variants.items():
                figure.add(name, seconds(command))
        bench.cluster.remove_namespace(CHART)
    return [figure]


def deploy(bench: Bench) -> list[Figure]:
    """From an empty namespace to a ready server, with the image in the node."""
    ready = Figure(
        "deploy to Ready",
        "s",
        "from the start of the command until the Deployment has a ready pod; the chart has community-charts' probes"
        " (first after 10 s, then every 30 s) and plain `mlflow server`",
        "at most half of the chart",
    )
    done = Figure(
        "deploy, whole command", "s", "the same runs until the command ends; site.yml has verified MLflow then"
    )
    image = bench.image()
    variants = {"site.yml": (OURS, playbook("site.yml", INSTANCE), bench.teardown)}
    if helm():
        remove_chart = lambda: bench.cluster.remove_namespace(CHART)  # noqa: E731
        variants["chart, stock probes"] = (CHART, bench.chart("--set", f"image={image}"), remove_chart)
    for _ in range(bench.runs):
        for name, (namespace, command, remove) in variants.items():
            with bench.cluster.watching(namespace) as moments:
                begin = time.monotonic()
                try:
                    total = seconds(command)
                finally:
                    remove()
            ready.add(name, moments[0] - begin)
            done.add(name, total)
    return [ready, done]


def pod_specs(objects: dict[str, dict[str, Any]]) -> dict[str, tuple[int, dict[str, Any]]]:
    """Our container and MLflow's default start from the same image, each alone in a pod on the node's network."""
    ours: dict[str, Any] = deepcopy(objects["Deployment"]["spec"]["template"]["spec"])
    container = ours["containers"][0]
    for probe in ("startupProbe", "readinessProbe", "livenessProbe", "ports"):
        container.pop(probe, None)
    own = {"MLFLOW_BACKEND_STORE_URI": "sqlite:////mlflow/mlflowdb/mlflow.db", "MLFLOW_PORT": str(OUR_PORT)}
    kept = [entry for entry in container["env"] if entry["name"] not in own]
    container["env"] = kept + [{"name": name, "value": value} for name, value in own.items()]
    shared = {"hostNetwork": True, "restartPolicy": "Always", "securityContext": ours["securityContext"]}
    volumes = [{"name": "mlflow", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]
    default = {
        "name": "mlflow",
        "image": container["image"],
        "command": ["mlflow", "server", "--host=0.0.0.0", f"--port={DEFAULT_PORT}"],
        "args": ["--backend-store-uri=sqlite:////mlflow/mlflow.db", "--artifacts-destination=/mlflow/artifacts"],
        "volumeMounts": [{"name": "mlflow", "mountPath": "/mlflow"}],
    }
    return {
        "our container": (OUR_PORT, ours | shared | {"volumes": volumes}),
        "mlflow server": (DEFAULT_PORT, shared | {"containers": [default], "volumes": volumes}),
    }


def server(bench: Bench) -> list[Figure]:
    """How fast the server answers, and what it weighs."""
    first = Figure(
        "server start, new database",
        "s",
        "from kubectl create to the first 200 of /health; pods of the same image on the node's network, without probes;"
        " plain `mlflow server` has 4 workers and job execution",
    )
    again = Figure("server start, database there", "s", "from the death of that container to the first 200 of the next")
    memory = Figure("server memory", "MiB PSS", "", "at most a third of the default")
    processes: dict[str, int] = {}
    specs = pod_specs(bench.objects())
    bench.cluster.namespace(PODS)
    for _ in range(bench.runs):
        for name, (port, spec) in specs.items():
            with bench.cluster.pod(PODS, "server", spec) as begin:
                first.add(name, bench.cluster.healthy(port) - begin)
                dead = bench.cluster.kill_container(PODS, "server")
                again.add(name, bench.cluster.healthy(port) - dead)
                time.sleep(SETTLE)
                size, processes[name] = bench.cluster.memory(PODS, "server")
                memory.add(name, size)
    bench.cluster.remove_namespace(PODS)
    counted = ", ".join(f"{name}: {number}" for name, number in processes.items())
    memory.compared = f"the same pods, {SETTLE} s after the last answer; PSS of all their processes ({counted})"
    return [first, again, memory]


@contextlib.contextmanager
def registry(cluster: Cluster) -> Iterator[str | None]:
    """Address of a registry that runs in the cluster, as the node's engine reaches it; None if it cannot be had."""
    try:
        built = run([sys.executable, "tests/sandbox/sandbox.py", "part", "registry"]).split()[-1]
    except (RuntimeError, IndexError) as error:
        print(f"push and pull are left out, since the sandbox has no registry: {error}", file=sys.stderr)
        yield None
        return
    name = "mlflow-bench-registry:1"
    dockerfile = 'FROM scratch\nCOPY registry config.yml /\nENTRYPOINT ["/registry", "serve", "/config.yml"]\n'
    settings = {
        "version": "0.1",
        "storage": {"filesystem": {"rootdirectory": "/data"}},
        "http": {"addr": f"0.0.0.0:{REGISTRY_PORT}"},
    }
    folder = CACHE / "bench/registry"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Dockerfile").write_text(dockerfile)
    (folder / "config.yml").write_text(json.dumps(settings))
    shutil.copy2(built, folder / "registry")
    context = subprocess.run(["tar", "-c", "-C", folder, "."], capture_output=True, check=True).stdout
    cluster.node("docker", "build", "-q", "-t", name, "-", stdin=context)
    cluster.namespace(PODS)
    container = {"name": "registry", "image": name, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    spec = {"hostNetwork": True, "containers": [container], "volumes": [{"name": "data", "emptyDir": {}}]}
    with cluster.pod(PODS, "registry", spec):
        cluster.healthy(REGISTRY_PORT, "/v2/", timeout=60)
        yield f"127.0.0.1:{REGISTRY_PORT}"
    cluster.node("docker", "rmi", name)


def forget(cluster: Cluster, *references: str) -> None:
    """Remove images from the node, and the build cache that would keep their layers there."""
    cluster.node("docker", "rmi", "--force", *references)
    cluster.node("docker", "builder", "prune", "--force", "--filter", "type=regular")


def image(bench: Bench) -> list[Figure]:
    """The ways of an image into the node."""
    figure = Figure(
        "image into the node",
        "s",
        "build: the image role with other requirements, so that pip installs all anew from its cache; load: `minikube"
        " image load` of an archive of that image; push and pull: the node's engine and a registry in the cluster, over"
        " the loopback; load, push and pull begin with an image that was built before",
    )
    archive = CACHE / "bench/image.tar"
    requirements = CACHE / "bench/requirements.txt"
    pinned = next((ROOT / "roles/image/files").glob("mlflow-*.txt")).read_text()
    cluster = bench.cluster
    with registry(cluster) as address:
        for _ in range(bench.runs):
            requirements.write_text(f"# {time.time()}\n{pinned}")
            variables = {"mlflow_image_name": "mlflow-bench", "mlflow_image_requirements": str(requirements)}
            figure.add("build", seconds(playbook("tests/bench/image.yml", variables)))
            name = cluster.node("docker", "images", "--format", "{{.Repository}}:{{.Tag}}", "mlflow-bench").split()[0]
            with archive.open("wb") as file:
                subprocess.run(["/usr/bin/docker", "exec", PROFILE, "docker", "save", name], stdout=file, check=True)
            if address:
                pushed = f"{address}/{name}"
                cluster.node("docker", "tag", name, pushed)
                begin = time.monotonic()
                cluster.node("docker", "push", "--quiet", pushed)
                push = time.monotonic() - begin
                forget(cluster, name, pushed)
                begin = time.monotonic()
                cluster.node("docker", "pull", "--quiet", pushed)
                figure.add("push and pull", push + time.monotonic() - begin)
                forget(cluster, pushed)
            else:
                forget(cluster, name)
            load: list[str | Path] = [CACHE / "bin/minikube", "-p", PROFILE, "image", "load", archive]
            figure.add("image load", seconds(load))
            forget(cluster, name)
            archive.unlink()
    return [figure]


def reported(command: list[str | Path]) -> float:
    """The MB/s that a backup or restore tells of itself: the last figure in the line below its heading."""
    lines = run(command).splitlines()
    (row,) = (lines[number + 1] for number, line in enumerate(lines) if line.endswith("MB/s"))
    return float(row.strip(" -'").split()[-1])


def backup(bench: Bench) -> list[Figure]:
    """How fast artifacts get to the controller and back."""
    out = Figure("backup", "MB/s", "")
    again = Figure("backup again, nothing changed", "MB/s", "the same; tar sends everything again")
    back = Figure(
        "restore", "MB/s", "into a directory beside the live one, the digests checked; before the server stops"
    )
    server = ["-n", OURS, "deployment/mlflow-deployment", "--"]
    kubectl = [CACHE / "bin/kubectl", "--kubeconfig", CACHE / "kubeconfig", "--context", PROFILE, "exec"]
    send, take = [*kubectl, *server], [*kubectl, "-i", *server]
    fill = " && ".join(
        (
            "mkdir -p /mlflow/artifacts/1",
            "cd /mlflow/artifacts/1",
            f"head -c {BACKUP_MB // 2}M /dev/urandom | split -b 4M - weights.",
            f"seq 1 {BACKUP_MB // 2 * 120000} | split -b 4M - table.",
        )
    )
    with bench.instance(), tempfile.TemporaryDirectory(prefix="bench-") as folder:
        run([*send, "sh", "-c", fill])
        size = int(run([*send, "du", "-sb", "/mlflow/artifacts"]).split()[0]) / 1e6
        out.compared = (
            f"{size:.0f} MB of artifacts, half of them random, to a directory of the controller through the API server,"
            " without the start of playbook and pod; kubectl exec of tar in the server's pod, by gzip -1 or as it is"
        )
        for number in range(bench.runs):
            where = INSTANCE | {"mlflow_backup_directory": f"{folder}/{number}"}
            out.add("playbooks/backup.yml", reported(playbook("playbooks/backup.yml", where)))
            for name, packed, unpacked in (
                ("tar and gzip", "tar c artifacts | gzip -1", "tar xz"),
                ("tar", "tar c artifacts", "tar x"),
            ):
                archive, begin = Path(folder, "archive"), time.monotonic()
                with archive.open("wb") as stream:
                    subprocess.run([*send, "sh", "-c", f"cd /mlflow && {packed}"], stdout=stream, check=True)
                taken = size / (time.monotonic() - begin)
                out.add(name, taken)
                again.add(name, taken)
                begin = time.monotonic()
                into = f"mkdir /mlflow/bench && cd /mlflow/bench && {unpacked}"
                with archive.open("rb") as stream:
                    subprocess.run([*take, "sh", "-c", into], stdin=stream, check=True)
                back.add(name, size / (time.monotonic() - begin))
                run([*send, "rm", "-r", "/mlflow/bench"])
            again.add("playbooks/backup.yml", reported(playbook("playbooks/backup.yml", where)))
            back.add("playbooks/restore.yml", reported(playbook("playbooks/restore.yml", where)))
            shutil.rmtree(f"{folder}/{number}")
    for figure in (again, back):  # the first variant is ours
        ours = next(name for name in figure.samples if name.startswith("playbooks"))
        figure.samples = {ours: figure.samples.pop(ours)} | figure.samples
    return [out, again, back]


FIGURES: dict[str, Callable[[Bench], list[Figure]]] = {
    "noop": noop,
    "deploy": deploy,
    "server": server,
    "image": image,
    "backup": backup,
}


def table(figures: list[Figure]) -> str:
    """The figures as a Markdown table that is also aligned, and below it what each compares."""
    head = ["figure", "variant", "median", "range", "times ours", "aim"]
    rows = [head, *(row for figure in figures for row in figure.rows())]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[cell.ljust(width) for cell, width in zip(row, widths, strict=True)] for row in rows]
    lines = [f"| {' | '.join(row)} |" for row in padded]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    return "\n".join([*lines, "", *(f"- {figure.title}: {figure.compared}." for figure in figures)]) + "\n"


def main() -> None:
    """Take the figures that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", "--runs", type=int, default=3, help="samples of each variant (default 3)")
    parser.add_argument("figures", nargs="*", choices=[*FIGURES, []], help="default: all")
    options = parser.parse_args()
    bench = Bench(runs=options.runs)
    begin, figures = time.monotonic(), list[Figure]()
    try:
        for name in options.figures or FIGURES:
            print(f"{name} ({time.monotonic() - begin:.0f} s since the start)", file=sys.stderr, flush=True)
            figures += FIGURES[name](bench)
    finally:
        bench.cluster.close()
        if figures:
            report(figures, options.runs, time.monotonic() - begin)


def report(figures: list[Figure], runs: int, took: float) -> None:
    """Print the table and write both files."""
    commit = run(["git", "describe", "--always", "--dirty"]).strip()
    now = f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC"
    head = f"{now}, commit {commit}, {os.cpu_count()} cores, {runs} runs each, {took:.0f} s"
    text = f"{head}\n\n{table(figures)}"
    folder = ROOT / "build"
    folder.mkdir(exist_ok=True)
    (folder / "bench.md").write_text(text)
    record = {"about": head, "figures": [asdict(entry) for entry in figures]}
    (folder / "bench.json").write_text(json.dumps(record, indent=1) + "\n")
    print(f"\n{text}")


if __name__ == "__main__":
    main()
