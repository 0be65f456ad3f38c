#!/usr/bin/env bash
# tf2onnx 1.17.0 with TensorFlow 2.12.1: a tf.function whose result is a dictionary with a key that is also the name of an
# argument is fine for TensorFlow, which traces it, saves it and calls it. `tf2onnx.convert.from_function` names the graph's outputs
# after the keys, takes the argument's node for one that nothing needs, and ends with ValueError "graph input 'price' not exist",
# which sends one looking at the arguments. Under another key the same function is converted, and right.
# Remedy: no output of a function that is exported may be called like a column that it is fed; check it before the training.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
    tensorflow-cpu==2.12.1 tf2onnx==1.17.0 onnx==1.17.0 onnxruntime==1.20.1 numpy==1.23.5 protobuf==4.25.9
cat >"$folder/show.py" <<'PYTHON'
import sys
import numpy as np
import onnxruntime
import tensorflow as tf
import tf2onnx

SIGNATURE = [tf.TensorSpec([None], tf.float32, name=name) for name in ("price", "weight")]


def converted(key: str) -> str:
    @tf.function(input_signature=SIGNATURE, autograph=False)
    def scaled(price, weight):
        return {key: price * weight}

    fed = {"price": np.float32([2.0]), "weight": np.float32([3.0])}
    assert scaled(**fed)[key].numpy().tolist() == [6.0]
    try:
        model, _ = tf2onnx.convert.from_function(scaled, input_signature=SIGNATURE, opset=15)
    except ValueError as error:
        return f"ValueError: {error}"
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return str(session.run([key], fed)[0].tolist())


found = {key: converted(key) for key in ("price", "scaled_price")}
print(f"tf2onnx {tf2onnx.__version__}, TensorFlow {tf.__version__}, by the output's name: {found}")
expected = {"price": "ValueError: graph input 'price' not exist", "scaled_price": "[6.0]"}
sys.exit(0 if found == expected else "the behaviour has changed")
PYTHON
TF_CPP_MIN_LOG_LEVEL=3 "$folder/env/bin/python" "$folder/show.py" 2>/dev/null
