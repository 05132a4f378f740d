"""An ONNX model in MLServer: runs in MLServer's environment."""

import os

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.types import InferenceRequest, InferenceResponse, ResponseOutput

DATATYPES = {"float32": "FP32", "float64": "FP64", "int64": "INT64", "int32": "INT32"}
DTYPES = {datatype: dtype for dtype, datatype in DATATYPES.items()}


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ["PEERS_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        inputs = {}
        for tensor in payload.inputs:
            data, dtype = tensor.data.root, DTYPES[tensor.datatype]
            flat = np.frombuffer(data, dtype) if isinstance(data, bytes) else np.array(data, dtype)
            inputs[tensor.name] = flat.reshape(tensor.shape)
        outputs = []
        for name, array in zip(self.names, self.session.run(self.names, inputs), strict=True):
            outputs.append(
                ResponseOutput(
                    name=name,
                    shape=list(array.shape),
                    datatype=DATATYPES[array.dtype.name],
                    data=array.ravel().tolist(),
                )
            )
        return InferenceResponse(model_name=self.name, outputs=outputs)
