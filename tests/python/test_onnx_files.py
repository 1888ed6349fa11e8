"""ONNX files that are damaged, hostile or beyond what is supported."""

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

import sepconv

WEIGHTS = {"w": np.random.default_rng(1).standard_normal((8, 3, 3, 3)).astype(np.float32)}


def network(nodes=None, weights=None, opset=17, dims=(1, 3, 16, 16), output="y"):
    """A convolution and ReLU, or what is given instead."""
    weights = WEIGHTS if weights is None else weights
    nodes = nodes or [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first", pads=[1, 1, 1, 1]),
        helper.make_node("Relu", ["c"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
        [numpy_helper.from_array(v, k) for k, v in weights.items()],
    )
    opsets = [helper.make_opsetid("", opset)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def save(model, path):
    path.write_bytes(model.SerializeToString())
    return path


def run(path, shape=(1, 3, 16, 16)):
    return sepconv.load(path)(np.ones(shape, np.float32))


def refusal(model, tmp_path):
    with pytest.raises(ValueError, match=r"m\.onnx: ") as error:
        run(save(model, tmp_path / "m.onnx"))
    return str(error.value)


def test_the_whole_one_runs(tmp_path):
    assert run(save(network(), tmp_path / "m.onnx")).shape == (1, 8, 16, 16)


def test_truncated(tmp_path):
    whole = network().SerializeToString()
    path = tmp_path / "m.onnx"
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"m\.onnx: "):
            run(path)


def test_bytes_changed_at_random_crash_nothing(tmp_path):
    whole = network().SerializeToString()
    rng = np.random.default_rng(2)
    path = tmp_path / "m.onnx"
    refusals = []
    for _ in range(400):
        data = bytearray(whole)
        for at in rng.integers(0, len(data), rng.integers(1, 6)):
            data[at] = rng.integers(0, 256)
        path.write_bytes(data)
        try:
            run(path)
        except (ValueError, TypeError) as error:
            refusals.append(str(error))
    assert len(refusals) > 100
    assert max(map(len, refusals)) < 1000


@pytest.mark.parametrize("text", [b"", b"no model at all", b"\x00" * 100])
def test_no_onnx_file(text, tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"is no ONNX|has no graph"):
        run(path)


def test_no_file_and_a_folder(tmp_path):
    with pytest.raises(ValueError, match="No such file"):
        run(tmp_path / "m.onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ValueError, match="is a folder"):
        run(tmp_path / "folder.onnx")


def test_everything_that_is_not_supported_is_listed_at_once(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Hardmax", ["c"], ["d"], name="hardest"),
        helper.make_node("Relu", ["d"], ["e"], name="behind_it"),
        helper.make_node("Einsum", ["c", "c"], ["f"], name="sum", equation="abcd,abcd->abcd"),
        helper.make_node("Add", ["e", "f"], ["y"], name="both"),
    ]
    message = refusal(network(nodes), tmp_path)
    einsum = "Einsum (sum): of other than matrices"
    assert message.endswith(
        f"not supported: Hardmax (hardest); {einsum}; outputs 'c' need none of it"
    )


def test_values_of_a_file_as_outputs(tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("Relu", ["c"], ["r"], name="second"),
        helper.make_node("ArgMax", ["r"], ["a"], name="last", axis=1),
        helper.make_node("Add", ["r", "nothing"], ["y"], name="wrong"),
    ]
    path = save(network(nodes, output="a"), tmp_path / "m.onnx")
    x = np.random.default_rng(4).standard_normal((1, 3, 16, 16)).astype(np.float32)
    with pytest.raises(ValueError, match=r"ArgMax \(last\); outputs 'r' need none of it$"):
        sepconv.load(path)(x)
    r, c = sepconv.load(path, outputs=["r", "c"])(x)
    assert r.shape == c.shape == (1, 8, 14, 14)
    np.testing.assert_array_equal(r, np.maximum(c, 0))
    np.testing.assert_array_equal(r, sepconv.load(path, outputs=("r",))(x))
    with pytest.raises(ValueError, match="ArgMax"):
        sepconv.load(path, outputs=None)(x)


def test_outputs_that_a_file_does_not_have(tmp_path):
    path = save(network(), tmp_path / "m.onnx")
    for name in ("cc", "", "w", "x"):
        with pytest.raises(ValueError, match=f"outputs: got '{name}', expected values that nodes"):
            sepconv.load(path, outputs=[name])
    for outputs in ("c", 3, [3], [None], b"c"):
        with pytest.raises(TypeError, match="outputs: got .*, expected a list of names"):
            sepconv.load(path, outputs=outputs)
    with pytest.raises(ValueError, match="outputs: got 1 name.*mobilenetv2_100 is no ONNX file"):
        sepconv.load("mobilenetv2_100", outputs=["c"])


def test_operators_of_another_domain(tmp_path):
    node = helper.make_node("Relu", ["x"], ["y"], name="n", domain="com.example")
    model = network([node], {})
    model.opset_import.append(helper.make_opsetid("com.example", 1))
    assert "com.example.Relu (n)" in refusal(model, tmp_path)


@pytest.mark.parametrize("opset", [1, 10, 26, 1000])
def test_operator_set_too_old_or_new(opset, tmp_path):
    assert f"has operator set {opset}, expected 11 to 25" in refusal(network(opset=opset), tmp_path)


def test_a_cycle_and_a_missing_initializer(tmp_path):
    cycle = [
        helper.make_node("Add", ["x", "b"], ["a"], name="first"),
        helper.make_node("Relu", ["a"], ["b"], name="second"),
    ]
    message = refusal(network(cycle, {}, output="b"), tmp_path)
    assert "Add (first) reads 'b', which nothing before it makes" in message
    assert "Conv (first) reads 'w'" in refusal(network(weights={}), tmp_path)
    assert "nothing makes its output 'z'" in refusal(network(output="z"), tmp_path)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"w": np.ones((8, 4, 3, 3), np.float32)}, r"Conv \(first\).*expected 4 channels"),
        ({"w": np.ones((8, 3, 3), np.float32)}, r"Conv \(first\): whose weight"),
        ({"w": np.ones((8, 3, 3, 3), np.int64)}, r"Conv \(first\): whose weight"),
        ({"w": np.ones((8, 3, 99, 99), np.float32)}, r"Conv \(first\)"),
    ],
)
def test_weights_of_the_wrong_kind(weights, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        run(save(network(weights=weights), tmp_path / "m.onnx"))


def test_sizes_that_a_tensor_cannot_have(tmp_path):
    for dims in ([1 << 62, 1 << 62], [-1, 3], [1 << 40], [8, 3, 3, 4]):
        model = network()
        del model.graph.initializer[0].dims[:]
        model.graph.initializer[0].dims.extend(dims)
        assert "tensor w: " in refusal(model, tmp_path)


def test_products_of_constants_that_take_too_long(tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["t"], name="fill"),
        helper.make_node("MatMul", ["t", "t"], ["u"], name="product"),
        helper.make_node("Add", ["x", "u"], ["y"], name="sum"),
    ]
    model = network(nodes, {"s": np.array([3000, 3000], np.int64)})
    message = "MatMul (product): a product of constants that takes too long"
    assert message in refusal(model, tmp_path)


def test_constants_made_too_large(tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["s"], ["t"], name="fill"),
        helper.make_node("Add", ["x", "t"], ["y"], name="sum"),
    ]
    model = network(nodes, {"s": np.array([1 << 20, 1 << 20], np.int64)})
    assert "ConstantOfShape (fill): a constant of too many elements" in refusal(model, tmp_path)


def external(location, **entries):
    model = network()
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": location, **entries}.items():
        tensor.external_data.add(key=key, value=str(value))
    return model


def test_external_data(tmp_path):
    raw = network().graph.initializer[0].raw_data
    (tmp_path / "w.bin").write_bytes(b"12345678" + raw + b"rest")
    model = external("w.bin", offset=8, length=len(raw))
    expected = run(save(network(), tmp_path / "whole.onnx"))
    np.testing.assert_array_equal(run(save(model, tmp_path / "m.onnx")), expected)


@pytest.mark.parametrize("location", ["../w.bin", "/etc/passwd", "a/../../w.bin", ""])
def test_external_data_outside_the_folder(location, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"0" * 10000)
    (tmp_path / "inside").mkdir()
    assert "expected a file beside the model" in refusal(external(location), tmp_path / "inside")


@pytest.mark.parametrize(
    "entries",
    [{"offset": 1 << 40}, {"length": 1 << 40}, {"offset": -8}, {"offset": "x"}, {"length": 12}],
)
def test_external_data_beyond_the_file(entries, tmp_path):
    (tmp_path / "w.bin").write_bytes(b"0" * 8 * 3 * 9 * 4)
    assert "tensor w: " in refusal(external("w.bin", **entries), tmp_path)


def test_more_than_one_input_or_no_output(tmp_path):
    model = network()
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    assert "has 2 inputs, expected 1" in refusal(model, tmp_path)
    model = network()
    del model.graph.output[:]
    assert "has no outputs" in refusal(model, tmp_path)


def test_outputs_of_all_kinds(tmp_path):
    """In the file's order and layout: an image, its transpose, tokens, a detector's head of five
    dimensions, the input, one twice."""
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("Transpose", ["a"], ["b"], perm=[0, 2, 3, 1]),
        helper.make_node("Reshape", ["b", "shape"], ["c"]),
        helper.make_node("Softmax", ["c"], ["d"], axis=-1),
        helper.make_node("GlobalAveragePool", ["a"], ["e"]),
        helper.make_node("Flatten", ["e"], ["f"]),
        helper.make_node("Reshape", ["a", "anchors"], ["g"]),
        helper.make_node("Transpose", ["g"], ["h"], perm=[0, 1, 3, 4, 2]),
    ]
    shapes = {
        "shape": np.array([0, -1, 8], np.int64),
        "anchors": np.array([0, 2, 4, 16, 16], np.int64),
    }
    model = network(nodes, WEIGHTS | shapes)
    del model.graph.output[:]
    names = ["a", "b", "c", "d", "e", "f", "g", "h", "x", "b"]
    for name in names:
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    path = save(model, tmp_path / "m.onnx")
    x = np.random.default_rng(0).standard_normal((1, 3, 16, 16)).astype(np.float32)
    expected = onnxruntime.InferenceSession(path).run(None, {"x": x})
    for name, got, by_peer in zip(names, sepconv.load(path)(x), expected, strict=True):
        assert got.shape == by_peer.shape, name
        np.testing.assert_allclose(got, by_peer, rtol=0, atol=1e-5, err_msg=name)


def test_another_input_than_the_file_was_made_for(tmp_path):
    path = save(network(), tmp_path / "m.onnx")
    with pytest.raises(ValueError, match=r"x: shape is \[1, 3, 20, 16\].*\[1, 3, 16, 16\]"):
        run(path, (1, 3, 20, 16))
    with pytest.raises(ValueError, match="has its own"):
        sepconv.load(path, weights="w.safetensors")


def test_every_node_with_too_few_inputs(tmp_path):
    for operator in [
        "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Conv", "Gemm", "MatMul", "Concat", "Split",
        "Reshape", "Gather", "Slice", "Pad", "BatchNormalization", "LayerNormalization", "Expand",
        "ReduceMean", "Unsqueeze", "Where", "Range", "ReduceL2", "Resize", "ConvTranspose",
        "PRelu", "Tile", "CumSum", "ScatterND", "Einsum", "DepthToSpace", "SpaceToDepth",
        "ReduceMax",
    ]:  # fmt: skip
        for inputs in ([], ["x"], ["", "x"], ["w"], ["", ""]):
            node = helper.make_node(operator, inputs, ["y"], name="n")
            if operator in (
                "Split",
                "Sqrt",
                "Concat",
                "ReduceMean",
                "ReduceMax",
                "ReduceL2",
            ) and inputs == ["x"]:
                continue  # that is enough
            with pytest.raises(ValueError, match=r"m\.onnx: not supported|has no nodes|x is "):
                run(save(network([node]), tmp_path / "m.onnx"))


@pytest.mark.parametrize(
    ("operator", "attributes", "message"),
    [
        ("ConvTranspose", {"strides": [1 << 40, 1]}, "stride 1099511627776"),
        ("ConvTranspose", {"strides": [0, 2]}, "stride 0"),
        ("ConvTranspose", {"strides": [65, 1], "output_padding": [64, 0]}, "a stride of 1 to 64"),
        ("ConvTranspose", {"pads": [1, 1]}, "over other than two dimensions"),
        ("ConvTranspose", {"dilations": [-1, 1]}, "dilation -1"),
        ("ConvTranspose", {"pads": [-5, 0, 0, 0]}, "padding"),
        ("ConvTranspose", {"pads": [1 << 62, 0, 1 << 62, 0]}, "padding"),
        ("ConvTranspose", {"pads": [9, 9, 9, 9]}, "the result would have 0"),
        ("ConvTranspose", {"output_padding": [7, 0]}, "output padding 7"),
        ("ConvTranspose", {"output_shape": [1 << 40, 4]}, "output padding"),
        ("ConvTranspose", {"group": 0}, "groups"),
        ("DepthToSpace", {"blocksize": 1 << 62}, "blocks of an image"),
        ("DepthToSpace", {"blocksize": 9}, "a reshape"),
        ("SpaceToDepth", {"blocksize": -2}, "blocks of an image"),
        ("Einsum", {"equation": "ab,bc->"}, "of other than matrices"),
        ("Einsum", {"equation": "abcd,efgh"}, "of other than two values"),
        ("Resize", {"mode": "quintic"}, "with mode quintic"),
        ("Resize", {"axes": [2, 7]}, ""),
    ],
)
def test_sizes_out_of_range(operator, attributes, message, tmp_path):
    weights = {
        "t": np.ones((3, 2, 3, 3), np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    inputs = ["x", "t"] if operator == "ConvTranspose" else ["x", "", "scales"]
    node = helper.make_node(operator, inputs, ["y"], name="n", **attributes)
    text = refusal(network([node], weights), tmp_path)
    assert f"{operator} (n)" in text
    assert message in text


def test_results_beyond_all_memory(tmp_path):
    weights = {"scales": np.array([1, 1, 4000, 4000], np.float32)}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="n")
    assert "Resize (n): of more than 2^31 elements" in refusal(network([node], weights), tmp_path)
    node = helper.make_node("Conv", ["x", "w"], ["y"], name="n", pads=[60000, 60000] * 2)
    assert "Conv (n): of more than 2^31 elements" in refusal(network([node]), tmp_path)


def test_constants_beyond_all_time_and_memory(tmp_path):
    """Operators of constants are computed when a file is read."""
    weights = {"c": np.ones((1, 1, 9, 9), np.float32)}
    weights["scales"] = np.array([1, 1, 4000, 4000], np.float32)
    nodes = [helper.make_node("Resize", ["c", "", "scales"], ["y"], name="n")]
    text = refusal(network(nodes, weights), tmp_path)
    assert "Resize (n): of more than 2^26 elements" in text
    weights = {"c": np.ones((1, 512, 128, 128), np.float32)}
    weights["w"] = np.ones((512, 512, 3, 3), np.float32)
    nodes = [helper.make_node("Conv", ["c", "w"], ["y"], name="n", pads=[1, 1, 1, 1])]
    assert "Conv (n): " in refusal(network(nodes, weights), tmp_path)


@pytest.mark.parametrize("scale", [0, -1, 1e30, 1e-30, np.nan, np.inf])
def test_resize_by_what_is_no_scale(scale, tmp_path):
    weights = {"scales": np.array([1, 1, scale, 1], np.float32)}
    node = helper.make_node("Resize", ["x", "", "scales"], ["y"], name="n")
    assert "Resize (n): " in refusal(network([node], weights), tmp_path)


@pytest.mark.parametrize(
    ("nodes", "message"),
    [
        ([helper.make_node("Cast", ["x"], ["y"], name="n", to=TensorProto.INT64)], "Cast (n)"),
        (
            [
                helper.make_node("Pad", ["x", "p"], ["q"], name="pad"),
                helper.make_node("Conv", ["q", "w"], ["y"], name="n", auto_pad="SAME_UPPER"),
            ],
            "Conv (n): of padded values",
        ),
        (
            [
                helper.make_node(
                    "BatchNormalization", ["x", "c", "c", "c", "c"], ["y"], "n", training_mode=1
                )
            ],
            "BatchNormalization (n): in training mode",
        ),
        (
            [helper.make_node("Dropout", ["x", "half", "yes"], ["y"], "n")],
            "Dropout (n): in training mode",
        ),
    ],
)
def test_what_would_give_other_values_is_refused(nodes, message, tmp_path):
    weights = {
        "w": np.ones((8, 3, 3, 3), np.float32),
        "p": np.array([0, 0, 1, 1, 0, 0, 1, 1], np.int64),
        "c": np.ones(3, np.float32),
        "half": np.array(0.5, np.float32),
        "yes": np.array(True),
    }
    assert message in refusal(network(nodes, weights), tmp_path)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5, 7, 9, 12])
def test_norms_of_shuffled_channels_of_another_number(count, tmp_path):
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        helper.make_node("Reshape", ["c", "apart"], ["d"]),
        helper.make_node("Transpose", ["d"], ["e"], perm=[0, 2, 1, 3, 4]),
        helper.make_node("Reshape", ["e", "joined"], ["f"]),
        helper.make_node("BatchNormalization", ["f", "n", "n", "n", "n"], ["y"], "norm"),
    ]
    weights = {
        **WEIGHTS,
        "apart": np.array([1, 2, 4, 16, 16], np.int64),
        "joined": np.array([1, 8, 16, 16], np.int64),
        "n": np.ones(count, np.float32),
    }
    assert "BatchNormalization (norm): " in refusal(network(nodes, weights), tmp_path)


@pytest.mark.parametrize(
    ("places", "updates"),
    [
        ([[[0, 1], [0, 2]]], (1, 2, 16, 15)),
        ([[[0, 1], [0, 2]]], (1, 3, 16, 16)),
        ([[[0, 1], [0, 3]]], (1, 2, 16, 16)),
        ([[[0, 2], [0, 1]]], (1, 2, 16, 16)),
        ([[[0, 0], [0, 2]]], (1, 2, 16, 16)),
        ([[[0, 0, 3], [0, 0, 4]]], (1, 2, 16)),
        (np.zeros((0, 2)), (0, 16, 16)),
        (np.zeros((2, 0)), (2, 3, 16, 16)),
        ([0], (1, 3, 16)),
    ],
)
def test_assignments_that_do_not_fit(places, updates, tmp_path):
    weights = {"p": np.array(places, np.int64), "u": np.ones(updates, np.float32)}
    node = helper.make_node("ScatterND", ["x", "p", "u"], ["y"], "set")
    assert "ScatterND (set): " in refusal(network([node], weights), tmp_path)
    along = np.full((1, 2, 16, 16), 2, np.int64)
    weights = {"p": along, "u": np.ones((1, 2, 16, 16), np.float32)}
    node = helper.make_node("ScatterElements", ["x", "p", "u"], ["y"], "set", axis=1)
    assert "ScatterElements (set): " in refusal(network([node], weights), tmp_path)
