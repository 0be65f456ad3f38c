#!/usr/bin/env bash
# Triton 2.51.0, python backend (wheel nvidia-pytriton 0.7.0): the first pb_utils.Logger call of a model loads every module that
# importlib.util.LazyLoader was to load on first use. Logger asks inspect.getframeinfo for the caller's line, and that goes
# through all of sys.modules and touches each. A model that puts off a heavy import this way pays for it with its first
# line of log. Remedy: import inside the function that needs it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check nvidia-pytriton==0.7.0 'tritonclient[grpc]==2.51.0' numpy==1.26.4 'setuptools<81'
mkdir -p "$folder/models/m/1"
cat >"$folder/models/m/config.pbtxt" <<'CONFIG'
backend: "python"
input [{ name: "unread", data_type: TYPE_STRING, dims: [-1] }]
output [{ name: "seen", data_type: TYPE_STRING, dims: [-1] }]
CONFIG
cat >"$folder/models/m/1/model.py" <<'PYTHON'
import importlib.util
import sys

import numpy as np
import triton_python_backend_utils as pb

spec = importlib.util.find_spec("colorsys")
spec.loader = importlib.util.LazyLoader(spec.loader)
sys.modules["colorsys"] = module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)


def state():
    return "loaded" if "rgb_to_hsv" in object.__getattribute__(module, "__dict__") else "lazy"


class TritonPythonModel:
    def execute(self, requests):
        before = state()
        pb.Logger.log_info("a line")
        texts = np.array([before, state()], dtype=object)
        return [pb.InferenceResponse([pb.Tensor("seen", texts)]) for _ in requests]
PYTHON
cat >"$folder/show.py" <<'PYTHON'
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tritonclient.grpc as client

folder = Path(sys.argv[1])
server = next(folder.glob("env/lib/python3.11/site-packages/pytriton/tritonserver"))
shutil.copy(server / "python_backend_stubs/3.11/triton_python_backend_stub", server / "backends/python")
ports = []
for _ in range(2):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        ports.append(str(free.getsockname()[1]))
started = subprocess.Popen(
    [server / "bin/tritonserver", f"--model-repository={folder}/models", f"--backend-directory={server}/backends", "--allow-http=false"]
    + ["--allow-metrics=false", "--grpc-address=127.0.0.1", f"--grpc-port={ports[0]}"],
    stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
)
asked, until = client.InferenceServerClient(f"127.0.0.1:{ports[0]}"), time.monotonic() + 120
try:
    while time.monotonic() < until:
        try:
            if asked.is_server_ready():
                break
        except Exception:
            time.sleep(0.2)
    texts = client.InferInput("unread", [3], "BYTES")
    texts.set_data_from_numpy(np.array([b"a", b"b", b"c"], dtype=object))
    seen = asked.infer("m", [texts]).as_numpy("seen").tolist()
finally:
    started.terminate()
    started.wait()
print(f"Triton 2.51.0: a LazyLoader module before and after the first log line: {seen}")
sys.exit(0 if seen == [b"lazy", b"loaded"] else "the behaviour has changed")
PYTHON
PATH="$folder/env/bin:$PATH" VIRTUAL_ENV="$folder/env" "$folder/env/bin/python" "$folder/show.py" "$folder"
