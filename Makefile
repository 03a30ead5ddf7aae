# mlops.mlflow: `make deploy` and `make test` are all that a user needs; `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
export PATH := $(CURDIR)/.venv/bin:$(PATH)

.PHONY: help
help: ## This list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1|\2/' | column -t -s'|'

# The collection is linked into the virtual environment, where Ansible finds it beside its dependencies.
.venv/ready: requirements.txt
	tests/prepare_venv "$(PYTHON)" .venv
	@touch $@

# Of what MLflow's package asks for, the server never imports these; they are more than half of a plain installation.
UNNEEDED := pyarrow scipy scikit-learn joblib threadpoolctl narwhals matplotlib contourpy cycler fonttools kiwisolver pillow pyparsing skops \
  gunicorn docker
# uvicorn takes these where they are: uvloop sends an answer at once, where asyncio holds its body back for 40 ms.
FASTER := uvloop httptools
# Artifacts on S3 (mlflow_artifact_store).
S3 := boto3
# What trains and explores beside the server: the Jobs' and the notebook's image, and the controller's virtual environment. One version
# of each package for every Python, so that a model loads wherever it was made.
WORKBENCH := scikit-learn xgboost-cpu matplotlib jupyterlab
MLFLOW_VERSIONS := 3.16.0 3.17.2

COMPILE := uv pip compile --quiet --upgrade --generate-hashes --no-header

.PHONY: requirements
requirements: .venv/ready ## Pin requirements.in anew into requirements.txt
	uv pip compile --quiet --upgrade --python-version 3.11 requirements.in -o requirements.txt
	$(foreach version,$(MLFLOW_VERSIONS),\
	  printf '%s\n' mlflow==$(version) $(FASTER) $(S3) | $(COMPILE) --python-version 3.13 --python-platform x86_64-manylinux_2_28 \
	    $(UNNEEDED:%=--no-emit-package %) - -o roles/image/files/mlflow-$(version).txt; \
	  printf '%s\n' mlflow==$(version) $(WORKBENCH) | $(COMPILE) --universal --fork-strategy fewest --python-version 3.11 - \
	    -o roles/image/files/workbench-$(version).txt;)

.PHONY: deploy
deploy: .venv/ready ## Bring up Minikube and a verified MLflow on it
	@if command -v minikube >/dev/null && { docker info || podman info; } >/dev/null 2>&1; then \
	  inventory=inventory/minikube; echo "Using the minikube and the container engine of this machine"; \
	elif [ -e /etc/debian_version ] && [ "$$(id -u)" = 0 ]; then \
	  echo "No minikube with a container engine here: using the sandbox, which is built from source once (about 20 minutes)"; \
	  $(MAKE) --no-print-directory sandbox; inventory=inventory/sandbox; \
	else \
	  echo "Install minikube (https://minikube.sigs.k8s.io/docs/start) and Docker or Podman, or run this as root on Debian" >&2; exit 1; \
	fi; \
	ansible-playbook -i $$inventory site.yml; \
	printf '\nFrom here on: .venv/bin/ansible-playbook -i %s playbooks/verify.yml (or site.yml, playbooks/teardown.yml)\n' $$inventory

.PHONY: test
test: .venv/ready ## Run every test and quality gate on a real Minikube
	@tests/run

.PHONY: bench
bench: sandbox ## Compare speed and memory with other ways to deploy MLflow, side by side
	@python tests/bench/bench.py

.PHONY: sandbox
sandbox: .venv/ready ## Build and start the Minikube that the tests use
	@python tests/sandbox/sandbox.py build
	@ansible-playbook -i inventory/sandbox tests/sandbox/up.yml

.PHONY: sandbox-down
sandbox-down: ## Stop that Minikube and its container engine
	@$(PYTHON) tests/sandbox/sandbox.py down
