#!/usr/bin/env bash
# Creates .venv (training, tests), .venv-serve (what runs inside Triton) and .venv-tools (what checks containers and
# builds the pages) from the hash locks; does nothing when they are up to date, and where a lock has changed, replaces
# what it changed. PYTHON may name the interpreter.
set -euo pipefail
cd "$(dirname "$0")/.."

find_python() {
    local candidate
    for candidate in ${PYTHON:-python3.11 python3.10 python3 python}; do
        if "$candidate" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 11))' 2>/dev/null; then
            command -v "$candidate"
            return
        fi
    done
    echo "setup: Python 3.10 or 3.11 is needed and was not found as ${PYTHON:-python3.11, python3.10 or python3};" \
        "install one, or say which: make PYTHON=/path/to/python3.11" >&2
    exit 1
}

# create FOLDER LOCK MODULES: a virtual environment holding exactly what the lock says, and bytecode of the modules.
create() {
    local stamp held folder=$1 lock=$2 modules=$3
    stamp=$("$python" -V)-$(cat "$lock" requirements/uv.txt pyproject.toml | sha256sum | cut -c1-16)
    held=$(cat "$folder/.stamp" 2>/dev/null || true)
    if [ "$held" = "$stamp" ]; then
        return
    fi
    echo "setup: installing $lock into $folder (a minute or two the first time)" >&2
    if [ "${held%-*}" != "${stamp%-*}" ]; then  # not there, not finished, or of another Python
        rm -rf "$folder"
        if ! "$python" -m venv "$folder"; then
            echo "setup: $python cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2
            exit 1
        fi
    fi
    rm -f "$folder/.stamp"
    "$folder/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
    "$folder/bin/uv" pip sync --quiet --python "$folder/bin/python" --require-hashes requirements/uv.txt "$lock"
    if [ "$folder" = .venv ]; then
        "$folder/bin/uv" pip install --quiet --python "$folder/bin/python" --no-deps --no-build-isolation -e .
    fi
    # Where Python writes none (PYTHONDONTWRITEBYTECODE, the models in Triton) it would compile TensorFlow, NumPy and the
    # rest from their sources at every start.
    env -u PYTHONDONTWRITEBYTECODE "$folder/bin/python" -c "import $modules" >/dev/null 2>&1 ||
        echo "setup: $folder cannot import $modules" >&2
    echo "$stamp" >"$folder/.stamp"
}

if [ "$(uname -sm)" != "Linux x86_64" ]; then
    echo "setup: Linux on x86-64 is needed (Triton, TensorFlow and perf_analyzer are binaries), this is $(uname -sm)" >&2
    exit 1
fi
python=$(find_python)
training="models.training.stage, models.evaluation.stage, retrieval.cli, ensemble.triton.export, tf2onnx"
create .venv requirements/lock.txt "$training, hypothesis, pytest, tritonclient.grpc" &
made=$!
create .venv-serve requirements/serve.txt "faiss, numpy, onnxruntime" &
made="$made $!"
create .venv-tools requirements/tools.txt "mkdocs" &
for process in $made $!; do
    wait "$process"
done
