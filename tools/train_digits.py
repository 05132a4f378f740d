#!/usr/bin/env python3
"""Trains the two digit classifiers that `pyruntime demo` serves, and writes what it ships.

tools/train_digits.py [FOLDER]    default: pyruntime/demo

Version 1 is a logistic regression, version 2 a small convolutional network. Both take
image: float32 [rows, 1, 8, 8], grey values 0 to 16, and give probabilities: float32 [rows, 10]
and label: int64 [rows]. A quarter of the images is held out: no training step sees them, nothing
is chosen by them, and they are shipped as the test set.

What it needs: numpy, onnx, scikit-learn. The same seed gives the same models on one machine.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split

SEED = 20
WHITE = 16.0  # brightest grey value
CHANNELS = (16, 32)
EPOCHS = 40
BATCH = 64

ROOT = Path(__file__).resolve().parents[1]


def patches(images: np.ndarray) -> np.ndarray:
    """[n, c, 8, 8] to [n, 8, 8, c * 9]: what a 3x3 kernel sees at each pixel, zeros outside."""
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(2, 3))
    return seen.transpose(0, 2, 3, 1, 4, 5).reshape(*images.shape[:1], 8, 8, -1)


def patches_back(gradient: np.ndarray, channels: int) -> np.ndarray:
    """Gradient of patches()."""
    n = gradient.shape[0]
    seen = gradient.reshape(n, 8, 8, channels, 3, 3)
    padded = np.zeros((n, channels, 10, 10), gradient.dtype)
    for row in range(3):
        for column in range(3):
            padded[:, :, row : row + 8, column : column + 8] += seen[..., row, column].transpose(
                0, 3, 1, 2
            )
    return padded[:, :, 1:9, 1:9]


class ConvNet:
    """Two 3x3 convolutions, 2x2 max pooling, one dense layer; trained by Adam on cross entropy."""

    def __init__(self, rng: np.random.Generator) -> None:
        first, second = CHANNELS
        sizes = {"conv1": (9, first), "conv2": (9 * first, second), "dense": (16 * second, 10)}
        self.weights = {}
        for name, (inputs, outputs) in sizes.items():
            scale = np.sqrt(2 / inputs)
            self.weights[f"{name}_w"] = rng.normal(0, scale, (inputs, outputs)).astype(np.float32)
            self.weights[f"{name}_b"] = np.zeros(outputs, np.float32)
        self.moments = {
            key: (np.zeros_like(w), np.zeros_like(w)) for key, w in self.weights.items()
        }
        self.steps = 0

    def gradients(self, images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
        """Of the mean cross entropy, by name of the weight."""
        w, n = self.weights, len(images)
        in1 = patches(images)
        out1 = np.maximum(in1 @ w["conv1_w"] + w["conv1_b"], 0)
        in2 = patches(out1.transpose(0, 3, 1, 2))
        out2 = np.maximum(in2 @ w["conv2_w"] + w["conv2_b"], 0)
        # [n, 4, 2, 4, 2, c] to [n, c, 4, 4, 4]: the four pixels of each pool last.
        blocks = out2.reshape(n, 4, 2, 4, 2, -1).transpose(0, 5, 1, 3, 2, 4).reshape(n, -1, 4, 4, 4)
        winner = blocks.argmax(-1)[..., None]
        flat = np.take_along_axis(blocks, winner, -1).reshape(n, -1)
        logits = flat @ w["dense_w"] + w["dense_b"]
        exp = np.exp(logits - logits.max(1, keepdims=True))
        d_logits = exp / exp.sum(1, keepdims=True)
        d_logits[np.arange(n), labels] -= 1
        d_logits /= n

        grads = {"dense_w": flat.T @ d_logits, "dense_b": d_logits.sum(0)}
        d_pool = (d_logits @ w["dense_w"].T).reshape(n, -1, 4, 4, 1)
        d_blocks = np.zeros_like(blocks)
        np.put_along_axis(d_blocks, winner, d_pool, -1)
        d_out2 = (
            d_blocks.reshape(n, -1, 4, 4, 2, 2).transpose(0, 2, 4, 3, 5, 1).reshape(out2.shape)
        ) * (out2 > 0)
        grads["conv2_w"] = np.tensordot(in2, d_out2, ((0, 1, 2), (0, 1, 2)))
        grads["conv2_b"] = d_out2.sum((0, 1, 2))
        d_in2 = patches_back(d_out2 @ w["conv2_w"].T, CHANNELS[0])
        d_out1 = d_in2.transpose(0, 2, 3, 1) * (out1 > 0)
        grads["conv1_w"] = np.tensordot(in1, d_out1, ((0, 1, 2), (0, 1, 2)))
        grads["conv1_b"] = d_out1.sum((0, 1, 2))
        return grads

    def step(self, images: np.ndarray, labels: np.ndarray, rate: float) -> None:
        """One step of Adam (Kingma and Ba, 2015)."""
        self.steps += 1
        for key, gradient in self.gradients(images, labels).items():
            first, second = self.moments[key]
            first += 0.1 * (gradient - first)
            second += 0.001 * (gradient * gradient - second)
            unbiased = first / (1 - 0.9**self.steps)
            spread = np.sqrt(second / (1 - 0.999**self.steps)) + 1e-8
            self.weights[key] -= (rate * unbiased / spread).astype(np.float32)


def train_convnet(images: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Weights after EPOCHS, each over images shifted by up to one pixel."""
    rng = np.random.default_rng(SEED)
    net = ConvNet(rng)
    for epoch in range(EPOCHS):
        rate = 0.003 * (1 - epoch / EPOCHS)
        order = rng.permutation(len(images))
        for begin in range(0, len(order), BATCH):
            chosen = order[begin : begin + BATCH]
            rows, columns = rng.integers(-1, 2, 2)
            shifted = np.roll(images[chosen], (rows, columns), (2, 3))
            net.step(shifted, labels[chosen], rate)
    return net.weights


def write_model(
    path: Path, nodes: list, weights: dict[str, np.ndarray], description: str, accuracy: float
) -> None:
    """Add the nodes that every version ends in (logits to outputs), check and save."""
    nodes += [
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["label"], axis=1, keepdims=0),
    ]
    weights["white"] = np.array(WHITE, np.float32)
    graph = helper.make_graph(
        nodes,
        "digits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [
            helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["rows", 10]),
            helper.make_tensor_value_info("label", TensorProto.INT64, ["rows"]),
        ],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    model = helper.make_model(
        graph,
        producer_name="tools/train_digits.py",
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    helper.set_model_props(
        model, {"description": description, "test_accuracy": f"{100 * accuracy:.1f} %"}
    )
    checker.check_model(model, full_check=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    save(model, path)


def accuracy_of(nodes: list, weights: dict[str, np.ndarray], images, labels) -> float:
    """Share of right labels, computed by onnx's reference implementation."""
    from onnx.reference import ReferenceEvaluator

    graph = helper.make_graph(
        nodes,
        "logits",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 1, 8, 8])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 10])],
        [numpy_helper.from_array(np.ascontiguousarray(w), name) for name, w in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    (logits,) = ReferenceEvaluator(model).run(None, {"image": images})
    return float((logits.argmax(1) == labels).mean())


def main() -> None:
    """Train, measure, write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "pyruntime" / "demo"
    digits = load_digits()
    images = digits.images.astype(np.float32)[:, None]
    train_x, test_x, train_y, test_y = train_test_split(
        images, digits.target, test_size=0.25, random_state=SEED, stratify=digits.target
    )

    regression = LogisticRegression(C=0.1, max_iter=2000)
    regression.fit(train_x.reshape(-1, 64) / WHITE, train_y)
    weights = {
        "w": regression.coef_.T.astype(np.float32),
        "b": regression.intercept_.astype(np.float32),
    }
    nodes = [
        helper.make_node("Div", ["image", "white"], ["scaled"]),
        helper.make_node("Flatten", ["scaled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["logits"]),
    ]
    white = {"white": np.array(WHITE, np.float32)}
    accuracy = accuracy_of(nodes, weights | white, test_x, test_y)
    print(f"version 1: logistic regression, {100 * accuracy:.1f} % of {len(test_y)} held out")
    repository = folder / "repository" / "digits"
    write_model(repository / "1" / "model.onnx", nodes, weights, "logistic regression", accuracy)

    learned = train_convnet(train_x / WHITE, train_y)
    weights = {
        "conv1_w": learned["conv1_w"].T.reshape(CHANNELS[0], 1, 3, 3),
        "conv1_b": learned["conv1_b"],
        "conv2_w": learned["conv2_w"].T.reshape(CHANNELS[1], CHANNELS[0], 3, 3),
        "conv2_b": learned["conv2_b"],
        "dense_w": learned["dense_w"],
        "dense_b": learned["dense_b"],
    }
    pads = [1, 1, 1, 1]
    nodes = [
        helper.make_node("Div", ["image", "white"], ["scaled"]),
        helper.make_node("Conv", ["scaled", "conv1_w", "conv1_b"], ["c1"], pads=pads),
        helper.make_node("Relu", ["c1"], ["r1"]),
        helper.make_node("Conv", ["r1", "conv2_w", "conv2_b"], ["c2"], pads=pads),
        helper.make_node("Relu", ["c2"], ["r2"]),
        helper.make_node("MaxPool", ["r2"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense_w", "dense_b"], ["logits"]),
    ]
    accuracy = accuracy_of(nodes, weights | white, test_x, test_y)
    print(f"version 2: convolutional network, {100 * accuracy:.1f} % of {len(test_y)} held out")
    write_model(repository / "2" / "model.onnx", nodes, weights, "convolutional network", accuracy)

    np.savez_compressed(
        folder / "test_images.npz",
        images=test_x.reshape(-1, 8, 8).astype(np.uint8),
        labels=test_y.astype(np.uint8),
    )
    for path in [*sorted(folder.rglob("*.onnx")), folder / "test_images.npz"]:
        print(f"{path.relative_to(folder)}: {path.stat().st_size / 1000:.1f} kB")


if __name__ == "__main__":
    main()
