"""The cases of the `onnx` package's backend tests, and what is known of them."""
