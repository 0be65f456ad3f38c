#!/usr/bin/env bash
# Triton 2.51.0, python backend (wheel nvidia-pytriton 0.7.0) does two things that a model did not ask for.
# Every input of strings is split in Python before execute() is called, also one that the model never reads, at more than a
# microsecond a string; so a model cannot refuse a large request before it has been paid for. Numbers come as a view at once.
# The function that splits, `deserialize_bytes_tensor` of triton_python_backend_utils, is looked up by name for every input: a model
# may put a faster one in its place, and what that returns is what as_numpy() gives.
# The first pb_utils.Logger call loads every module that importlib.util.LazyLoader was to load on first use: Logger asks
# inspect.getframeinfo for the caller's line, which goes through all of sys.modules and touches each.
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
seen = []
split = pb.deserialize_bytes_tensor


def counted(encoded):
    seen.append(f"{len(split(encoded))} strings")
    return split(encoded)


def state():
    return "loaded" if "rgb_to_hsv" in object.__getattribute__(module, "__dict__") else "lazy"


class TritonPythonModel:
    def initialize(self, args):
        pb.deserialize_bytes_tensor = counted

    def execute(self, requests):
        before = state()
        pb.Logger.log_info("a line")
        texts = np.array([*seen, before, state()], dtype=object)
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
print(f"Triton 2.51.0: split before execute(), which never read them: {seen[:-2]}")
print(f"a LazyLoader module before and after the first line of log: {seen[-2:]}")
sys.exit(0 if seen == [b"3 strings", b"lazy", b"loaded"] else "the behaviour has changed")
PYTHON
PATH="$folder/env/bin:$PATH" VIRTUAL_ENV="$folder/env" "$folder/env/bin/python" "$folder/show.py" "$folder"
