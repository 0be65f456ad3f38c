"""Run by a Python that has TensorFlow and nothing of ours: `plain.py PACKAGES EXPORT QUESTIONS ANSWERS`.

QUESTIONS is an .npz whose arrays are named `case/model/signature/input`, ANSWERS gets `case/signature/output`.
"""

import importlib
import sys
from collections import defaultdict

sys.path.append(sys.argv[1])
import numpy as np
import tensorflow as tf

export, questions, answers = sys.argv[2:]
cases = defaultdict(dict)
for key, values in np.load(questions).items():
    case, model, signature, name = key.split("/")
    cases[case, model, signature][name] = values
models = {name: tf.saved_model.load(f"{export}/{name}/1") for name in ("query_tower", "recommend")}
outputs = {}
for (case, model, signature), feeds in cases.items():
    run = models[model].signatures[signature]
    specs = run.structured_input_signature[1]
    assert set(specs) == set(feeds), (signature, set(specs) ^ set(feeds))
    tensors = {name: tf.constant(feeds[name].tolist(), spec.dtype, feeds[name].shape) for name, spec in specs.items()}
    for name, values in run(**tensors).items():
        outputs[f"{case}/{signature}/{name}"] = values.numpy()
for package in ("workflows", "models", "ensemble", "retrieval", "merlin", "nvtabular", "onnxruntime", "faiss"):
    try:
        importlib.import_module(package)
    except ImportError:
        continue
    raise SystemExit(f"{package} can be imported here, so nothing is proven")
np.savez(answers, **outputs)
