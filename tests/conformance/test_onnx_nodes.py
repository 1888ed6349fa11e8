"""The ONNX project's own backend tests for Conv, as its package ships them."""

import numpy as np
import onnx
import pytest
from onnx_cases import SINGLE_NODES, operator_of

import sepconv

CASES = [
    (case.name, case.data_sets[0], case.model)
    for case in SINGLE_NODES
    if operator_of(case) == "Conv"
]


def attributes(node):
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def test_there_are_cases():
    assert len(CASES) >= 6


@pytest.mark.parametrize(("name", "data", "model"), CASES, ids=[c[0] for c in CASES])
def test_conv_node(target, name, data, model):
    inputs, (expected,) = data
    a = attributes(model.graph.node[0])
    auto = a.get("auto_pad", b"NOTSET").decode()
    stride, dilation = a.get("strides", [1, 1]), a.get("dilations", [1, 1])
    x = inputs[0]
    if auto == "SAME_LOWER":
        # The odd pixel goes above and to the left: "same" on the mirrored problem.
        mirrored = sepconv.conv2d(
            np.ascontiguousarray(x[:, :, ::-1, ::-1]),
            np.ascontiguousarray(inputs[1][:, :, ::-1, ::-1]),
            *inputs[2:],
            stride=stride,
            padding="same",
            dilation=dilation,
            groups=a.get("group", 1),
        )
        got = mirrored[:, :, ::-1, ::-1]
    else:
        padding = {"SAME_UPPER": "same", "VALID": "valid"}.get(auto)
        top, left, bottom, right = a.get("pads", [0, 0, 0, 0])
        if padding is None and (top, left) == (bottom, right):
            padding = (top, left)
        elif padding is None:
            x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
            padding = 0
        got = sepconv.conv2d(
            x, *inputs[1:], stride=stride, padding=padding, dilation=dilation,
            groups=a.get("group", 1),
        )  # fmt: skip
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
