"""An ONNX model in KServe's server: runs in KServe's environment."""

import os

import kserve
import numpy as np
import onnxruntime

DTYPES = {"FP32": np.float32, "FP64": np.float64, "INT64": np.int64, "INT32": np.int32}


class OnnxModel(kserve.Model):
    def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = os.environ["PEERS_MODEL"]
        self.session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
        self.names = [output.name for output in self.session.get_outputs()]
        self.ready = True
        return True

    async def predict(self, payload, headers=None, response_headers=None):
        inputs = {tensor.name: tensor.as_numpy() for tensor in payload.inputs}
        outputs = []
        for name, array in zip(self.names, self.session.run(self.names, inputs), strict=True):
            datatype = next(key for key, dtype in DTYPES.items() if dtype == array.dtype)
            output = kserve.InferOutput(name=name, shape=list(array.shape), datatype=datatype)
            output.set_data_from_numpy(array, binary_data=True)
            outputs.append(output)
        return kserve.InferResponse(
            response_id=payload.id, model_name=self.name, infer_outputs=outputs
        )


if __name__ == "__main__":
    model = OnnxModel(os.environ["PEERS_NAME"])
    model.load()
    kserve.ModelServer(
        http_port=int(os.environ["PEERS_HTTP_PORT"]),
        grpc_port=int(os.environ["PEERS_PORT"]),
        workers=1,
    ).start([model])
