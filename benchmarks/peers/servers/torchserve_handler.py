"""An ONNX model in TorchServe, by the Open Inference Protocol: runs in TorchServe's environment."""

import os

import numpy as np
import onnxruntime
from ts.torch_handler.base_handler import BaseHandler

DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32"}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}


class OnnxHandler(BaseHandler):
    """Gets requests as TorchServe makes them of the protocol's: JSON, with values as lists."""

    def initialize(self, context) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ["PEERS_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.initialized = True

    def handle(self, data: list, context) -> list:
        return [self.answer(one["body"]) for one in data]

    def answer(self, request: dict) -> dict:
        inputs = {
            tensor["name"]: np.array(tensor["data"], DTYPES[tensor["datatype"]]).reshape(
                tensor["shape"]
            )
            for tensor in request["inputs"]
        }
        outputs = [
            {
                "name": name,
                "shape": list(array.shape),
                "datatype": DATATYPES[array.dtype.name],
                "data": array.ravel().tolist(),
            }
            for name, array in zip(self.names, self.session.run(self.names, inputs), strict=True)
        ]
        return {
            "id": request["id"],
            "model_name": request["model_name"],
            "model_version": "1.0",
            "outputs": outputs,
        }
