#!/usr/bin/env bash
# Runs tests in environments that hold the versions of the two images: `make test-ngc-versions`. Further arguments go to
# pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
target=test-ngc-versions
source containers/environments.sh

export OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3
create .venv-ngc 3.10 containers/ngc.txt
# The features whole, a run from tables to a release, and what the release makes of features; training alone takes long.
.venv-ngc/bin/python -m pytest -q tests/workflows tests/congruence/test_transform.py tests/models/test_metrics.py \
    tests/retrieval/test_init.py "$@"
create .venv-serve-image 3.12 containers/serve-tests.txt
.venv-serve-image/bin/python -m pytest -q tests/serving "$@"
