"""The Triton models (python backend), their tensors and their canary."""
