"""The engine as every peer here is given it: one thread, by ONNX Runtime's Python module."""

import os

import numpy as np
import onnxruntime


class Engine:
    """Takes and gives lists by name, as they stand in JSON."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ["PEERS_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.dtypes = {item.name: DTYPES[item.type] for item in self.session.get_inputs()}
        self.names = [output.name for output in self.session.get_outputs()]

    def run(self, inputs: dict) -> dict:
        arrays = {name: np.array(value, self.dtypes[name]) for name, value in inputs.items()}
        outputs = self.session.run(self.names, arrays)
        return {name: array.tolist() for name, array in zip(self.names, outputs, strict=True)}


DTYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
}
