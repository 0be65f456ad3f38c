#!/usr/bin/env bash
# Runs tests in environments that hold the versions of the two images: `make test-ngc-versions`. Further arguments go to
# pytest.
set -euo pipefail
cd "$(dirname "$0")/.."
uv=.venv/bin/uv

# find VERSION: that Python, on PATH or in pyenv's directory.
find_python() {
    local candidate
    for candidate in "python$1" "${PYENV_ROOT:-$HOME/.pyenv}"/versions/"$1".*/bin/"python$1"; do
        if "$candidate" -c 'import venv' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "test-ngc-versions: Python $1 is needed, on PATH or in pyenv's directory, and was not found" >&2
    exit 1
}

# create FOLDER VERSION LOCK...: an environment with what the locks say, made anew when they change.
create() {
    local folder=$1 python stamp locks=()
    python=$(find_python "$2")
    for lock in "${@:3}"; do locks+=(-r "$lock"); done
    stamp=$("$python" -V)-$(cat "${@:3}" | sha256sum | cut -c1-16)
    if [ "$(cat "$folder/.stamp" 2>/dev/null)" != "$stamp" ]; then
        echo "test-ngc-versions: making $folder" >&2
        rm -rf "$folder"
        "$uv" venv --quiet --seed --python "$python" "$folder"
        "$uv" pip install --quiet --python "$folder/bin/python" --require-hashes "${locks[@]}"
        echo "$stamp" >"$folder/.stamp"
    fi
}

export OMP_NUM_THREADS=1 TF_CPP_MIN_LOG_LEVEL=3
create .venv-ngc 3.10 containers/ngc.txt
# The features whole, a run from tables to a release, and what the release makes of features; training alone takes long.
.venv-ngc/bin/python -m pytest -q tests/workflows tests/congruence/test_transform.py tests/models/test_metrics.py \
    tests/retrieval/test_init.py "$@"
create .venv-serve-image 3.12 containers/serve-tests.txt
.venv-serve-image/bin/python -m pytest -q tests/serving "$@"
