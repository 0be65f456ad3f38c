"""A release as SavedModels: what plain TensorFlow loads and serves."""
