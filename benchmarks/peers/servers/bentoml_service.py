"""An ONNX model in BentoML: runs in BentoML's environment."""

import bentoml
from session import Engine


@bentoml.service(workers=1)
class OnnxService:
    def __init__(self) -> None:
        self.engine = Engine()

    @bentoml.api
    def predict(self, inputs: dict) -> dict:
        return {"outputs": self.engine.run(inputs)}
