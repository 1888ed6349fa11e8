"""The ONNX project's own node tests through the importer: all whose first input is of float32.

A node test gives every input when it runs; ours takes one, so that the others are made constants
of the file. Cases that the importer refuses with a reason are counted as not claimed.
"""

import warnings

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnx_cases import SINGLE_NODES, operator_of

import sepconv

# At least so many cases of each are run and right.
PASSED = {
    "Abs": 1, "Add": 2, "Attention": 36, "AveragePool": 13, "BatchNormalization": 2, "Clip": 8,
    "Concat": 12, "Conv": 6, "ConvTranspose": 9, "Div": 3, "Dropout": 4, "Elu": 3, "Exp": 2,
    "Expand": 2, "Flatten": 9, "Gather": 1, "Gelu": 4, "Gemm": 8, "GlobalAveragePool": 2,
    "GlobalMaxPool": 2, "GroupNormalization": 2, "HardSigmoid": 3, "HardSwish": 1, "Identity": 2,
    "InstanceNormalization": 2, "LeakyRelu": 3, "Log": 2, "LogSoftmax": 7, "MatMul": 4, "Max": 4,
    "MaxPool": 11, "Min": 4, "Mish": 1, "Mul": 3, "Neg": 2, "Pad": 3, "Pow": 1, "Reciprocal": 2,
    "ReduceL1": 8, "ReduceL2": 8, "ReduceMax": 8, "ReduceMean": 8, "ReduceMin": 8,
    "ReduceSum": 10, "ReduceSumSquare": 8, "Relu": 1, "Reshape": 9, "Resize": 27,
    "RMSNormalization": 19, "Selu": 3, "Sigmoid": 2, "Slice": 6, "Softmax": 7, "Softplus": 2,
    "Split": 14, "Sqrt": 2, "Squeeze": 2, "Sub": 3, "Sum": 3, "Swish": 1, "Tanh": 2, "Tile": 2,
    "Transpose": 7, "Unsqueeze": 3,
}  # fmt: skip


def as_image(shape):
    return (*shape, *[1] * (4 - len(shape)))


def adapted(model, inputs):
    """A copy of the model with all inputs but the first made constants, and that one an image.

    A tensor of fewer dimensions comes with ones behind them, which are taken away at once.
    """
    model = onnx.ModelProto.FromString(model.SerializeToString())
    graph = model.graph
    names = [value.name for value in graph.input]
    del graph.input[1:]
    for name, value in list(zip(names, inputs))[1:]:
        graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
    first = inputs[0]
    if 0 < first.ndim < 4:
        axes = np.arange(first.ndim, 4)
        graph.initializer.append(numpy_helper.from_array(axes, "image.axes"))
        graph.node.insert(0, helper.make_node("Squeeze", ["image", "image.axes"], [names[0]]))
        graph.input[0].CopyFrom(
            helper.make_tensor_value_info("image", TensorProto.FLOAT, as_image(first.shape))
        )
    return model


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """By operator: names of the cases that passed, and of those not claimed with the reason."""
    folder = tmp_path_factory.mktemp("nodes")
    passed, refused = {}, {}
    for case in SINGLE_NODES:
        operator = operator_of(case)
        inputs, outputs = case.data_sets[0]
        if not inputs or not all(isinstance(value, (np.ndarray, np.generic)) for value in inputs):
            continue  # sequences and optional values are no tensors
        if inputs[0].dtype != np.float32 or inputs[0].ndim > 4:
            continue
        path = folder / f"{case.name}.onnx"
        path.write_bytes(adapted(case.model, inputs).SerializeToString())
        try:
            got = sepconv.load(path)(inputs[0].reshape(as_image(inputs[0].shape)))
        except (ValueError, TypeError) as reason:
            refused.setdefault(operator, []).append((case.name, str(reason)))
            continue
        got = got if isinstance(got, tuple) else (got,)
        for result, expected in zip(got, outputs, strict=True):
            assert result.shape == expected.shape, case.name
            np.testing.assert_allclose(
                result, expected, rtol=case.rtol, atol=case.atol, err_msg=case.name
            )
        passed.setdefault(operator, []).append(case.name)
    return passed, refused


def test_cases_that_are_claimed_are_right(results):
    passed, refused = results
    total = sum(map(len, passed.values()))
    warnings.warn(
        f"ONNX node tests: {total} passed, {sum(map(len, refused.values()))} not claimed",
        stacklevel=1,
    )
    for operator, least in PASSED.items():
        assert len(passed.get(operator, [])) >= least, (operator, refused.get(operator))


def test_what_is_not_claimed_is_refused_with_a_reason(results):
    for operator, refusals in results[1].items():
        for name, reason in refusals:
            assert reason, (operator, name)
            assert len(reason) < 2000
