#!/usr/bin/python
# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The documentation of the action plugin kubernetes_job."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kubernetes_job
short_description: Run a Kubernetes Job to its end and return what its pods said
version_added: 0.1.0
description:
  - Starts a Job, shows what its pods are doing and what they log, and returns when the Job has ended. A failed Job is a
    failed task that tells which index failed, how, how often, and the end of its log.
  - A pod answers by a JSON object in its termination message, which is the file C(/dev/termination-log) of its first
    container, at most 4096 bytes.
  - A Job that still runs and was started with the same O(definition) and O(objects) is waited for, so that a playbook
    that was interrupted goes on where it was. One that has ended is removed and started anew. One that runs and was
    started with something else is left alone, and the task fails.
  - The Job stays when it has ended; C(ttlSecondsAfterFinished) in the O(definition) makes Kubernetes remove it later.
author:
  - mlops.mlflow maintainers (@mlops)
requirements:
  - kubernetes (Python package) >= 31
options:
  kubeconfig:
    description: The kubeconfig file.
    type: path
  context:
    description: Name of the context in it.
    type: str
    required: true
  definition:
    description:
      - The Job (C(batch/v1)), with name and namespace.
      - Its pods must have C(restartPolicy) C(Never), since Kubernetes removes the log with the pod otherwise, and with
        more than one completion its C(completionMode) must be C(Indexed).
    type: dict
    required: true
  objects:
    description:
      - Objects that the Job needs, such as ConfigMaps and Secrets, in its namespace. They are there before its first
        pod, and go when the Job goes.
    type: list
    elements: dict
    default: []
  index_names:
    description: What the indexes are called for people, from index 0 on.
    type: list
    elements: str
    default: []
  timeout:
    description:
      - Seconds that the Job may take. It becomes the Job's C(activeDeadlineSeconds), so that Kubernetes ends the Job in
        time even where nobody waits for it.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: Nothing is sent, and no cluster is needed; the Job would always run.
  diff_mode:
    support: full
    description: The Job and its objects where they are made, without the content of Secrets.
  platform:
    support: full
    description: The controller.
    platforms: posix
"""

EXAMPLES = r"""
- name: Try two depths
  mlops.mlflow.kubernetes_job:
    context: minikube
    index_names: [depth 3, depth 9]
    definition:
      apiVersion: batch/v1
      kind: Job
      metadata: {name: sweep, namespace: mlflow}
      spec:
        completionMode: Indexed
        completions: 2
        parallelism: 2
        backoffLimitPerIndex: 1
        template:
          spec:
            restartPolicy: Never
            containers:
              - name: train
                image: docker.io/library/python:3.13-slim
                command: [python3, /program/train.py]
                volumeMounts: [{name: program, mountPath: /program}]
            volumes: [{name: program, configMap: {name: sweep}}]
    objects:
      - apiVersion: v1
        kind: ConfigMap
        metadata: {name: sweep, namespace: mlflow}
        data:
          train.py: |
            import json, os, pathlib
            answer = {"index": int(os.environ["JOB_COMPLETION_INDEX"])}
            pathlib.Path("/dev/termination-log").write_text(json.dumps(answer))
  register: sweep

- name: Show the answers
  ansible.builtin.debug:
    msg: "{{ sweep.indexes | map(attribute='result') }}"
"""

RETURN = r"""
name:
  description: The Job's name.
  returned: always
  type: str
seconds:
  description: How long the Job ran by the cluster's clock; V(0) in check mode.
  returned: when the Job has ended
  type: int
  sample: 42
indexes:
  description: What became of each index, also of a failed Job. A Job that is not Indexed has index 0 alone.
  returned: when the Job has ended
  type: list
  elements: dict
  contains:
    index:
      description: The index.
      type: int
    name:
      description: What it is called for people.
      type: str
      sample: depth 9
    status:
      description: V(succeeded), or V(failed) where it failed, was ended or never began.
      type: str
    attempts:
      description: How many pods were started for it.
      type: int
    result:
      description: The JSON object that its last pod left as termination message, null for none.
      type: dict
result:
  description: The answer of index 0.
  returned: when the Job has ended
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.mlops.mlflow.plugins.module_utils._kubernetes_job import ARGUMENT_SPEC


def main() -> None:
    """Only reached where the action plugin of the same name was not found."""
    module = AnsibleModule(argument_spec=ARGUMENT_SPEC, supports_check_mode=True)
    module.fail_json(msg="kubernetes_job is an action plugin: call it by its full name.")


if __name__ == "__main__":
    main()
