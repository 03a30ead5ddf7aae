# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The nodes of a Minikube profile as hosts."""

from __future__ import annotations

DOCUMENTATION = r"""
name: minikube
short_description: The nodes of a Minikube profile
version_added: 0.1.0
author:
  - mlops.mlflow maintainers (@mlops)
description:
  - Makes each running node of a Minikube profile a host in the groups C(minikube_nodes) and, for control planes,
    C(minikube_control_plane), with the address, port, user and key of its SSH server.
  - Knows the docker and podman drivers (whose SSH port changes with every start), VM drivers, ssh, and none (where the
    node is this machine).
  - A profile that is missing or stopped gives empty groups and a warning. C(meta=refresh_inventory) reads it again.
  - Reads Minikube's files and asks the container engine; the C(minikube) program is not needed.
  - The file's name has to end in C(minikube.yml) or C(minikube.yaml).
  - Extra variables (C(-e minikube_profile=...)) win over the file, and the file over the environment.
options:
  plugin:
    description: Marks the file as one for this plugin.
    required: true
    choices: [mlops.mlflow.minikube, minikube]
  profile:
    description:
      - Name of the profile. Defaults to C(minikube).
      - The extra variable C(minikube_profile) wins over it. Where it is given, all hosts get it as C(minikube_profile).
    type: str
    env:
      - name: MINIKUBE_PROFILE
  binary:
    description:
      - The C(minikube) program, for the roles and modules of the play. Given to all hosts as C(minikube_binary).
      - The extra variable C(minikube_binary) wins over it.
    type: str
  home:
    description:
      - Folder that has, or is, the C(.minikube) folder. Defaults to the home folder of the user.
      - The extra variable C(minikube_home) wins over it. Where it is given, all hosts get it as C(minikube_home).
    type: str
    env:
      - name: MINIKUBE_HOME
  kubeconfig:
    description:
      - The kubeconfig file, for the roles and modules of the play. Given to all hosts as C(minikube_kubeconfig).
      - The extra variable C(minikube_kubeconfig) wins over it.
    type: str
"""

EXAMPLES = r"""
---
# inventory/minikube/nodes.minikube.yml
plugin: mlops.mlflow.minikube

---
# inventory/team/team.minikube.yml
plugin: mlops.mlflow.minikube
profile: team
home: "{{ lookup('ansible.builtin.env', 'TEAM_CACHE', default='~/.cache/team') }}/minikube"
"""

import os
from typing import Any

from ansible.errors import AnsibleParserError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.inventory import BaseInventoryPlugin
from ansible.utils.display import Display
from ansible.utils.vars import load_extra_vars
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import MlopsError
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    Node,
    check_profile_name,
    load_profile,
    mini_path,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_nodes import (
    SSH_OPTIONS,
    Endpoint,
    UnreachableError,
    endpoint,
)

NODES = "minikube_nodes"
CONTROL_PLANE = "minikube_control_plane"
SSH_ARGUMENTS = " ".join(f"-o {option}" for option in SSH_OPTIONS)


def host_variables(node: Node, found: Endpoint) -> dict[str, Any]:
    """What Ansible needs to connect to a node. The Python interpreter is left alone: a VM node has none."""
    variables: dict[str, Any] = {
        "ansible_host": found.host,
        "minikube_node_name": node.name,
        "minikube_node_ip": node.ip,
    }
    if found.local:
        return {**variables, "ansible_connection": "local"}
    variables |= {
        "ansible_port": found.port,
        "ansible_user": found.user,
        "ansible_ssh_common_args": SSH_ARGUMENTS,
    }
    if found.private_key:
        variables["ansible_ssh_private_key_file"] = found.private_key
    return variables


class InventoryModule(BaseInventoryPlugin):
    """Reads `*.minikube.yml`."""

    NAME = "mlops.mlflow.minikube"

    def verify_file(self, path: str) -> bool:
        """Whether the file is one for this plugin, by its name."""
        return bool(super().verify_file(path)) and path.endswith(("minikube.yml", "minikube.yaml"))

    def parse(self, inventory: Any, loader: DataLoader, path: str, cache: bool = True) -> None:
        """Add the groups, and the hosts that can be connected to."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        extra = load_extra_vars(loader)
        given = {name: self._setting(name, extra) for name in ("profile", "binary", "home", "kubeconfig")}
        for group in (NODES, CONTROL_PLANE):
            self.inventory.add_group(group)
        # Only what somebody gave: a role's own defaults hold for the rest.
        for name in ("profile", "home", "kubeconfig", "binary"):
            if given[name] is not None:
                self.inventory.set_variable("all", f"minikube_{name}", given[name])
        try:
            self._add_nodes(given["profile"] or "minikube", given["home"])
        except MlopsError as error:
            raise AnsibleParserError(f"{path}: {error.message}") from error

    def _setting(self, name: str, extra: dict[str, Any]) -> str | None:
        """An option's value, from the extra variables, the file, or the environment; paths with `~` expanded."""
        value = extra.get(f"minikube_{name}", self.get_option(name))
        if isinstance(value, str):
            value = self.templar.template(value)
        if value is None or value == "":
            return None
        return os.path.expanduser(str(value)) if name != "profile" else str(value)

    def _add_nodes(self, name: str, home: str | None) -> None:
        check_profile_name(name, new=False)
        minikube_path = mini_path(home)
        profile = load_profile(minikube_path, name)
        warn = Display().warning
        if profile is None or not profile.valid:
            known = sorted(path.parent.name for path in minikube_path.glob("profiles/*/config.json"))
            warn(
                f"There is no Minikube profile '{name}' in {minikube_path} (profiles there:"
                f" {', '.join(known) or 'none'}): group {NODES} is empty until the cluster is started."
            )
            return
        for node in profile.nodes:
            try:
                found = endpoint(minikube_path, profile, node)
            except UnreachableError as error:
                warn(f"Node '{node.name}' of Minikube profile '{name}' is left out of group {NODES}: {error}.")
                continue
            self.inventory.add_host(node.name, group=NODES)
            if node.control_plane:
                self.inventory.add_host(node.name, group=CONTROL_PLANE)
            for variable, value in host_variables(node, found).items():
                self.inventory.set_variable(node.name, variable, value)
