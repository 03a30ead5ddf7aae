#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Put an image into the nodes of a Minikube cluster, or remove it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: minikube_image
short_description: Build or load an image in the nodes of a Minikube cluster
version_added: 0.1.0
description:
  - Builds an image with the node's own container runtime, or loads one from an archive, and verifies by id that it is
    in every node. What C(minikube image) silently leaves undone is an error here, with the build's last lines.
  - An image to be built is present when there is an image of that name. Put a digest of what goes into it into the tag.
  - An image of an archive is present when the node has the image with the archive's id under that name.
  - The steps of a build are shown as they happen.
extends_documentation_fragment:
  - mlops.mlflow.minikube
  - mlops.mlflow.minikube.actiongroup_minikube
attributes:
  check_mode:
    description: Can run in check mode and say what would change, also where the cluster is not there yet.
    support: full
  diff_mode:
    description: Shows the name and id before and after. The files of a build are never shown.
    support: full
options:
  name:
    description: Name of the image with a tag, such as V(mlflow:3.17.2-0f3a).
    type: str
    required: true
  state:
    description: Whether the image is in the nodes.
    type: str
    choices: [present, absent]
    default: present
  files:
    description:
      - The files to build from, as relative names and their contents. They are written to a private folder and
        removed after the build.
    type: dict
  context:
    description: Folder to build from.
    type: path
  archive:
    description: Image archive to load, as C(docker save) writes it.
    type: path
  dockerfile:
    description: Name of the Dockerfile among O(files) or in O(context).
    type: str
    default: Dockerfile
  build_args:
    description:
      - Build arguments.
      - They stay in the image's history, so they are no place for secrets.
    type: dict
    default: {}
  force:
    description: Build or load also where the image is present.
    type: bool
    default: false
  timeout:
    description: Seconds until a call of C(minikube) is ended and the task fails.
    type: int
    default: 1800
  progress_file:
    description: File that the action plugin of this module shows new lines of while the module works. Not for users.
    type: path
seealso:
  - module: mlops.mlflow.minikube_cluster
"""

EXAMPLES = r"""
- name: Build an image in the node
  mlops.mlflow.minikube_image:
    name: hello:1
    files:
      Dockerfile: |
        FROM docker.io/library/python:3.13-slim
        COPY hello.py /
        CMD ["python3", "/hello.py"]
      hello.py: print("hello")

- name: Load an image that was saved
  mlops.mlflow.minikube_image:
    name: registry.example.org/team/app:2
    archive: /srv/images/app.tar

- name: Remove it
  mlops.mlflow.minikube_image:
    name: hello:1
    state: absent
"""

RETURN = r"""
image:
  description: The image in the node, or null. The size is in bytes.
  returned: success
  type: dict
  sample: {name: 'docker.io/library/hello:1', id: 'sha256:3f1c...', size: 182000000}
reason:
  description:
    - What made a build fail, as far as its output tells - V(base_image), V(package_index), V(package), V(certificate),
      V(no_space) or V(build); or V(not_loaded) where an image did not arrive.
  returned: failure
  type: str
step:
  description: The step of the build that failed.
  returned: failure of a build
  type: str
  sample: "[builder 3/5] RUN pip install --requirement requirements.txt"
output_tail:
  description: The last lines of the output.
  returned: failure
  type: list
  elements: str
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._errors import run_module
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube import (
    Progress,
    argument_spec,
    from_parameters,
)
from ansible_collections.mlops.mlflow.plugins.module_utils._minikube_image import (
    NodeImages,
    Source,
    check_files,
    write_context,
)


def work(module: AnsibleModule) -> Mapping[str, Any]:
    """Bring the image to the state asked for."""
    parameters = module.params
    images = NodeImages(from_parameters(parameters), Progress(parameters["progress_file"]))
    name: str = parameters["name"]
    if parameters["state"] == "absent":
        outcome = images.ensure_absent(name, check_mode=module.check_mode)
    else:
        context = parameters["context"]
        if parameters["files"] is not None:
            context = tempfile.mkdtemp(dir=module.tmpdir)  # Readable by its owner alone; Ansible removes it.
            write_context(Path(context), check_files(parameters["files"]))
        source = Source(
            context=Path(context) if context else None,
            dockerfile=parameters["dockerfile"],
            build_args={key: str(value) for key, value in parameters["build_args"].items()},
            archive=Path(parameters["archive"]) if parameters["archive"] else None,
        )
        outcome = images.ensure_present(name, source, force=parameters["force"], check_mode=module.check_mode)
    image = outcome.image.record() if outcome.image is not None else None
    return {**outcome.difference.result(), "image": image}


def main() -> None:
    """Entry point."""
    module = AnsibleModule(
        argument_spec={
            **argument_spec(timeout=1800),
            "name": {"type": "str", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            # The action plugin passes them as a folder, so that they never show up in arguments or logs.
            "files": {"type": "dict", "no_log": True},
            "context": {"type": "path"},
            "archive": {"type": "path"},
            "dockerfile": {"type": "str", "default": "Dockerfile"},
            "build_args": {"type": "dict", "default": {}},
            "force": {"type": "bool", "default": False},
            "progress_file": {"type": "path"},
        },
        mutually_exclusive=[("files", "context", "archive")],
        supports_check_mode=True,
    )
    run_module(module, work)


if __name__ == "__main__":
    main()
