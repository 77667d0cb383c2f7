"""The local server, which stands in for TensorFlow Serving on laptops and in tests."""
