#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Entry point of mlflow_health."""

from __future__ import annotations

DOCUMENTATION = r"""
module: mlflow_health
short_description: Prove that MLflow works through each of its addresses
version_added: 0.1.0
description:
  - Checks an MLflow tracking server level by level through every address it is published under, and waits until all
    of it works.
  - V(process) asks whether a server answers, V(version) which one, V(database) writes a tag and reads it back,
    V(artifact) uploads a file, compares it byte for byte and deletes it, V(registry) makes a registered model, reads
    and removes it.
  - It cleans up behind itself. One experiment C(mlops.mlflow health) stays, deleted and without runs, because MLflow
    can remove none for good through its API. Several checks at the same time do not disturb one another.
  - Failures that a starting server causes are waited out for O(timeout). Those that point at a setting (the C(Host)
    header is not allowed, the certificate is not accepted, another version answers) are waited out for 5 seconds, as
    settings take a moment to reach every proxy. Wrong credentials fail at once.
author:
  - mlops.mlflow maintainers (@mlops)
extends_documentation_fragment:
  - mlops.mlflow.mlflow
attributes:
  check_mode:
    description: In check mode it only reads, and leaves the artifact round trip out.
    support: full
options:
  endpoints:
    description:
      - The addresses to check. Without it, O(tracking_uri) is checked under the name C(server).
    type: list
    elements: dict
    suboptions:
      name:
        description: What it is called in the result.
        type: str
        required: true
      url:
        description: Address of the server, with its path prefix if it has one.
        type: str
        required: true
      host:
        description: Sent as C(Host) header in place of the URL's host and port.
        type: str
      address:
        description: IP address or name to connect to in place of what the URL's host resolves to.
        type: str
  levels:
    description:
      - What to check. A level is skipped where one that it needs failed.
    type: list
    elements: str
    choices: [process, version, database, artifact, registry]
    default: [process, version, database, artifact, registry]
  version:
    description:
      - The MLflow version that has to answer. Any will do by default.
    type: str
  artifact_size:
    description:
      - Size of the uploaded file in bytes. The default is above the upload limit of an unconfigured ingress-nginx,
        which is 1 MiB.
    type: int
    default: 2097152
  timeout:
    description:
      - Seconds to wait until everything is healthy. With V(0), it is looked at once.
    type: float
    default: 60
  interval:
    description:
      - Seconds between two looks.
    type: float
    default: 1
"""

EXAMPLES = r"""
- name: Check the NodePort, and the Ingress whose name DNS does not know
  mlops.mlflow.mlflow_health:
    version: 3.17.2
    endpoints:
      - name: service
        url: http://192.168.49.2:30500
      - name: ingress
        url: https://mlflow.local
        address: 192.168.49.2
    ca_path: /etc/ssl/site-ca.pem
  register: health

- name: Show the checks with their latencies
  ansible.builtin.debug:
    var: health.table

- name: Only ask whether the server answers and reads its database
  mlops.mlflow.mlflow_health:
    tracking_uri: http://mlflow.local
    levels: [process, database]
    timeout: 0
  check_mode: true
"""

RETURN = r"""
healthy:
  description: Whether every check passed. The module fails where one did not, with these same keys.
  returned: always
  type: bool
version:
  description: MLflow's version; null where it was not asked for or not told.
  returned: always
  type: str
  sample: 3.17.2
endpoints:
  description: The checks of each address.
  returned: always
  type: list
  elements: dict
  contains:
    name:
      description: As given.
      type: str
    url:
      description: As given, without a trailing slash.
      type: str
    healthy:
      description: Whether none of its checks failed.
      type: bool
    checks:
      description: What each level came to.
      type: list
      elements: dict
      contains:
        level:
          description: As in O(levels).
          type: str
        status:
          description: V(ok), V(failed) or V(skipped).
          type: str
        latency_ms:
          description: Milliseconds that it took; null where it was skipped.
          type: float
        detail:
          description: What was done, or the cause of the failure, or why it was skipped.
          type: str
table:
  description: The same as aligned lines of text, with a heading.
  returned: always
  type: list
  elements: str
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_health import LEVELS, check
from ansible_collections.mlops.mlflow.plugins.module_utils._mlflow_server import argument_spec


def main() -> None:
    """Run the module."""
    endpoint = {
        "name": {"type": "str", "required": True},
        "url": {"type": "str", "required": True},
        "host": {"type": "str"},
        "address": {"type": "str"},
    }
    spec = argument_spec() | {
        "endpoints": {"type": "list", "elements": "dict", "options": endpoint},
        "levels": {"type": "list", "elements": "str", "choices": list(LEVELS), "default": list(LEVELS)},
        "version": {"type": "str"},
        "artifact_size": {"type": "int", "default": 2097152},
        "timeout": {"type": "float", "default": 60},
        "interval": {"type": "float", "default": 1},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    run_module(module, lambda module: check(module.params, read_only=module.check_mode))


if __name__ == "__main__":
    main()
