"""An ONNX model in LitServe: runs in LitServe's environment."""

import os

import litserve
from session import Engine


class OnnxApi(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self.engine = Engine()

    def decode_request(self, request: dict) -> dict:
        return request["inputs"]

    def predict(self, inputs: dict) -> dict:
        return self.engine.run(inputs)

    def encode_response(self, outputs: dict) -> dict:
        return {"outputs": outputs}


if __name__ == "__main__":
    server = litserve.LitServer(OnnxApi(), accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["PEERS_PORT"]), generate_client_file=False)
