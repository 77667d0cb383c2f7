"""Serving: how TensorFlow Serving is started on the exported models."""
