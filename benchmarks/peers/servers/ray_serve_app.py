"""An ONNX model in Ray Serve: runs in Ray Serve's environment."""

import os
import signal

import ray
from ray import serve
from session import Engine
from starlette.requests import Request


@serve.deployment(num_replicas=1, max_ongoing_requests=64)
class OnnxDeployment:
    def __init__(self) -> None:
        self.engine = Engine()

    async def __call__(self, request: Request) -> dict:
        body = await request.json()
        return {"outputs": self.engine.run(body["inputs"])}


if __name__ == "__main__":
    # Everything that listens is to do so on this machine alone.
    ray.init(
        num_cpus=2,
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        runtime_env={"env_vars": {"PEERS_MODEL": os.environ["PEERS_MODEL"]}},
    )
    serve.start(http_options={"host": "127.0.0.1", "port": int(os.environ["PEERS_PORT"])})
    serve.run(OnnxDeployment.bind(), route_prefix="/predict")
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    serve.shutdown()
    ray.shutdown()
