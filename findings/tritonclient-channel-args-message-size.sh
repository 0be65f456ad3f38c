#!/usr/bin/env bash
# tritonclient 2.51.0 (gRPC): a client without `channel_args` takes answers of any size, for the constructor sets both message
# limits to 2^31 - 1. Give it `channel_args` for something else, such as a user agent, and these settings are dropped, not
# joined: gRPC's default of 4 MiB holds, and a larger answer fails with RESOURCE_EXHAUSTED. Documented is only that the
# list is passed to the channel. Remedy: name both limits in `channel_args`, too.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.51.0' grpcio==1.67.1 numpy==1.26.4
cat >"$folder/show.py" <<'PYTHON'
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import tritonclient.grpc as client
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

FLOATS = 2 << 20  # 8 MiB


class Server(service_pb2_grpc.GRPCInferenceServiceServicer):
    def ModelInfer(self, request, context):
        answer = service_pb2.ModelInferResponse(model_name=request.model_name)
        answer.outputs.add(name="y", datatype="FP32", shape=[FLOATS])
        answer.raw_output_contents.append(bytes(4 * FLOATS))
        return answer


server = grpc.server(ThreadPoolExecutor(1))
service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Server(), server)
port = server.add_insecure_port("127.0.0.1:0")
server.start()
x = client.InferInput("x", [1], "FP32")
x.set_data_from_numpy(np.zeros(1, np.float32))
found = {}
for name, options in {"none": {}, "a user agent": {"channel_args": [("grpc.primary_user_agent", "me")]}}.items():
    asked = client.InferenceServerClient(f"127.0.0.1:{port}", **options)
    try:
        found[name] = f"{asked.infer('m', [x]).as_numpy('y').nbytes} bytes"
    except InferenceServerException as error:
        found[name] = error.status()
    print(f"tritonclient 2.51.0, channel_args: {name} -> {found[name]}")
server.stop(None)
same = found == {"none": f"{4 * FLOATS} bytes", "a user agent": "StatusCode.RESOURCE_EXHAUSTED"}
sys.exit(0 if same else "the behaviour has changed")
PYTHON
"$folder/env/bin/python" "$folder/show.py"
