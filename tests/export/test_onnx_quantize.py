"""INT8 stays near float32, whatever is read together; the embedding is bytes, and a tied one is there once."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from stentor.export import onnx_quantize
from stentor.export.onnx_graph import IR_VERSION, OPSET, build_onnx
from stentor.export.onnx_quantize import quantize_onnx_int8
from stentor.model.folder import read_model_folder
from stentor.model.names import EMBEDDING, HEAD
from stentor.runtime.onnx_network import OnnxNetwork


class Pair:
    """A graph in float32, its INT8 form, and both as networks."""

    def __init__(self, path, root):
        folder = read_model_folder(path)
        self.tensors, self.config = folder.tensors, folder.config
        self.plain, self.quantized = root / "model.onnx", root / "model_quantized.onnx"
        arrays = {name: tensor.numpy() for name, tensor in folder.tensors.items()}
        self.plain.write_bytes(build_onnx(folder.config, arrays).SerializeToString())
        quantize_onnx_int8(self.plain, self.quantized)

    def network(self, path) -> OnnxNetwork:
        return OnnxNetwork(onnxruntime.InferenceSession(str(path)), self.config, path)


@pytest.fixture(scope="module", params=["llama", "qwen3", "untied"])
def pair(request, models, tmp_path_factory):
    return Pair(models[request.param], tmp_path_factory.mktemp("onnx"))


def token_ids(count, seed=0):
    return np.random.default_rng(seed).integers(0, 500, count).tolist()


def kl_nats(ours_KV, theirs_KV) -> float:
    log_p, log_q = (logits - np.log(np.exp(logits).sum(1, keepdims=True)) for logits in (ours_KV, theirs_KV))
    return float((np.exp(log_p) * (log_p - log_q)).sum(1).mean())


def test_logits_stay_near(pair):
    ids = token_ids(100)
    exact, rounded = (pair.network(path).extend(ids, 0, all_scored=True) for path in (pair.plain, pair.quantized))
    assert kl_nats(exact, rounded) < 0.01 * kl_nats(exact, np.zeros_like(exact))
    assert np.corrcoef(exact.ravel(), rounded.ravel())[0, 1] > 0.995


def rounded_product(x_TD, weight_DV, path, *, is_even):
    """Return a product as onnxruntime's dynamic INT8 computes it, each token scaled by itself or all together."""
    shapes = {"x": ["T", x_TD.shape[1]], "y": ["T", weight_DV.shape[1]]}
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items())
    nodes, weights = (
        [helper.make_node("MatMul", ["x", "w"], ["y"], name="y")],
        [numpy_helper.from_array(weight_DV, "w")],
    )
    graph = helper.make_graph(nodes, "product", [x], [y], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    if is_even:
        onnx_quantize._even_out_tokens(model.graph)
    quantize_dynamic(model, path, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QUInt8)
    return onnxruntime.InferenceSession(str(path)).run(None, {"x": x_TD})[0]


def test_a_token_of_large_values_costs_the_others_nothing(tmp_path):
    generator = np.random.default_rng(0)
    x_TD = generator.normal(size=(20, 64)).astype(np.float32)
    x_TD[11] *= 300
    weight_DV = generator.normal(size=(64, 32)).astype(np.float32)
    errors = {}
    for is_even in (True, False):
        made = rounded_product(x_TD, weight_DV, tmp_path / f"{is_even}.onnx", is_even=is_even)
        errors[is_even] = np.abs(np.asarray(made) - x_TD @ weight_DV)
    others = np.arange(20) != 11
    assert errors[True][others].max() < 0.5
    assert errors[False][others].mean() > 20 * errors[True][others].mean()
    assert errors[True][11].max() < 1.5 * errors[False][11].max()


def test_products_with_weights_are_of_bytes_and_nothing_else_changes(pair):
    before, after = ([node.op_type for node in onnx.load(path).graph.node] for path in (pair.plain, pair.quantized))
    products = 4 * pair.config.num_hidden_layers + 1
    assert after.count("MatMulInteger") == products
    assert after.count("MatMul") == before.count("MatMul") - products
    assert after.count("Softmax") == before.count("Softmax")


def test_matrices_are_stored_as_bytes_once(pair):
    constants = onnx.load(pair.quantized).graph.initializer
    large = [constant for constant in constants if np.prod(constant.dims) > 2000 and "rotary" not in constant.name]
    assert {numpy_helper.to_array(constant).dtype for constant in large} == {np.dtype(np.uint8)}
    assert len({constant.name for constant in constants}) == len(constants)
    stored = sum(int(np.prod(constant.dims)) for constant in large)
    assert stored == sum(tensor.numel() for tensor in pair.tensors.values() if tensor.ndim == 2)


def test_rows_of_the_embedding_are_rounded_by_a_scale_of_their_own(pair):
    model = onnx.load(pair.quantized)
    of = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    gathers = [node.input[0] for node in model.graph.node if node.op_type == "Gather" and node.input[1] == "input_ids"]
    table_VD, scale_V = (of[name] for name in gathers)
    rows_VD = (table_VD.astype(np.float32) - 128) * scale_V[:, None]
    exact_VD = pair.tensors[EMBEDDING].numpy()
    assert (np.abs(rows_VD - exact_VD).max(1) <= 0.51 * scale_V).all()


def test_the_head_s_columns_are_rounded_by_a_scale_of_their_own(pair):
    head_VD = pair.tensors[EMBEDDING if pair.config.tie_word_embeddings else HEAD].numpy()
    of = {constant.name: numpy_helper.to_array(constant) for constant in onnx.load(pair.quantized).graph.initializer}
    np.testing.assert_allclose(of["head_DV_scale"], np.abs(head_VD).max(1) / 127.5, rtol=0.01)
    assert (of["head_DV_zero_point"] == 128).all()


def test_a_row_of_zeros_is_no_division_by_zero(models, tmp_path):
    folder = read_model_folder(models["llama"])
    arrays = {name: tensor.numpy().copy() for name, tensor in folder.tensors.items()}
    arrays[EMBEDDING][7] = 0
    (tmp_path / "m.onnx").write_bytes(build_onnx(folder.config, arrays).SerializeToString())
    quantize_onnx_int8(tmp_path / "m.onnx", tmp_path / "q.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    assert np.isfinite(OnnxNetwork(session, folder.config, tmp_path).extend([7, 7, 3], 0, all_scored=True)).all()
