#!/usr/bin/env bash
# Tests the serving code with the oldest and the newest versions that pyproject.toml admits, and what has to do with them
# with the versions of the two images: `make test-versions`. Further arguments go to pytest. docs/containers.md
set -euo pipefail
cd "$(dirname "$0")/.."
target=test-versions
source containers/environments.sh

export OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3
# The newest are those of today, so what they are is resolved here, and printed by the comparison.
oldest() { resolved "$1" "$2" lowest-direct; }
newest() { resolved "$1" "$2" highest; }
oldest .venv-oldest 3.10
newest .venv-newest-3.12 3.12
newest .venv-newest-3.13 3.13
create .venv-serve-image 3.12 containers/serve-tests.txt
serving=(.venv-oldest .venv-serve-image .venv-newest-3.12 .venv-newest-3.13)

# Each writes releases with an index of every kind, and reads those of all; no answer may differ by a bit.
place=build/test-versions
rm -rf "$place"
mkdir -p "$place/answers"
for writer in "${serving[@]}"; do
    "$writer/bin/python" containers/versions.py write "$place/${writer#.venv-}"
done
for reader in "${serving[@]}"; do
    for writer in "${serving[@]}"; do
        "$reader/bin/python" containers/versions.py answer "$place/${writer#.venv-}" \
            "$place/answers/${reader#.venv-}-of-${writer#.venv-}.npz"
    done
done
.venv/bin/python containers/versions.py compare "$place/answers"

for environment in "${serving[@]}"; do
    "$environment/bin/python" -m pytest -q tests/serving "$@"
done

create .venv-ngc 3.10 containers/ngc.txt
# The features whole, a run from tables to a release, and what the release makes of features; training alone takes long.
.venv-ngc/bin/python -m pytest -q tests/workflows tests/congruence/test_transform.py tests/models/evaluation/test_metrics.py \
    tests/retrieval/init/test_init.py "$@"
