#!/usr/bin/env bash
# Builds Horovod beside the NGC image's versions and runs the tests that train on two ranks: `make test-horovod`.
# Compiling takes some ten minutes, once; it needs cmake and g++. Further arguments go to pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
target=test-horovod
source containers/environments.sh

export OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3
environment=.venv-horovod
create "$environment" 3.10 containers/ngc.txt
lock=containers/horovod.txt
if ! cmp -s "$lock" "$environment/.horovod"; then
    for tool in cmake g++; do
        command -v "$tool" >/dev/null || { echo "$target: $tool is needed to build Horovod; install it" >&2; exit 1; }
    done
    echo "$target: building Horovod" >&2
    HOROVOD_WITH_TENSORFLOW=1 HOROVOD_WITHOUT_PYTORCH=1 HOROVOD_WITHOUT_MXNET=1 HOROVOD_WITH_GLOO=1 \
        HOROVOD_WITHOUT_MPI=1 HOROVOD_CPU_OPERATIONS=GLOO PATH="$PWD/$environment/bin:$PATH" \
        "$environment/bin/python" -m pip install --quiet --require-hashes --no-deps --no-build-isolation -r "$lock"
    cp "$lock" "$environment/.horovod"
fi
PATH="$PWD/$environment/bin:$PATH" "$environment/bin/python" -m pytest -q tests/ranks "$@"
