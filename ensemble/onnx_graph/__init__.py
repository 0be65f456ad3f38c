"""A release as one ONNX graph: raw columns and history in, item ids and scores out, in onnxruntime alone."""
