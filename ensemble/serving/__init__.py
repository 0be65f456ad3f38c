"""What runs inside Triton. Imports NumPy, onnxruntime, faiss and itself, nothing else."""
