# Copyright (c) 2026 mlops.mlflow contributors
# GNU General Public License v3.0+ (see COPYING or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of the modules that speak to an MLflow tracking server."""

from __future__ import annotations


class ModuleDocFragment:
    """The options of all of them; KEEP is what those share that change something, TAGS an option of some of them."""

    DOCUMENTATION = r"""
options:
  tracking_uri:
    description:
      - Address of the tracking server, with its path prefix if it has one, for example V(http://mlflow.local) or
        V(https://192.0.2.10:8443/mlflow).
      - The environment variable E(MLFLOW_TRACKING_URI) is the default.
    type: str
  host:
    description:
      - Sent as C(Host) header in place of the address's host and port. With TLS, the certificate is still that of the
        address's host.
    type: str
  address:
    description:
      - IP address or name to connect to in place of what the address's host resolves to, like C(curl --resolve). The
        port stays that of the address, and the C(Host) header and the certificate's name that of its host.
      - Proxies from the environment are then not used.
    type: str
  ca_path:
    description:
      - File of the CA certificates to trust, in PEM, in place of the system's.
      - The environment variable E(MLFLOW_TRACKING_SERVER_CERT_PATH) is the default.
    type: path
  validate_certs:
    description:
      - With V(false), any certificate is accepted.
    type: bool
    default: true
  username:
    description:
      - User for MLflow's basic authentication. The environment variable E(MLFLOW_TRACKING_USERNAME) is the default.
    type: str
  password:
    description:
      - Password of this user. The environment variable E(MLFLOW_TRACKING_PASSWORD) is the default.
    type: str
  timeout:
    description:
      - Seconds that an answer of the server may take.
    type: float
    default: 30
notes:
  - The C(mlflow) package is not needed.
  - The environment variables E(http_proxy), E(https_proxy) and E(no_proxy) are heeded.
"""

    KEEP = r"""
attributes:
  check_mode:
    description: In check mode nothing is changed, and what would be is told.
    support: full
  diff_mode:
    description: The difference holds what changes, and nothing else.
    support: full
"""

    TAGS = r"""
options:
  tags:
    description:
      - Tags to set. Others are left alone, and a tag with no value (null) is removed.
      - MLflow keeps tags as text, so that a number or boolean is turned into it.
      - Not looked at with O(state=absent).
    type: dict
    default: {}
"""
