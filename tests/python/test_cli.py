"""The command line as a stranger uses it. scripts/test says where it is."""

import collections
import html.parser
import json
import os
import subprocess

import numpy as np
import pytest
from PIL import Image

import sepconv
from sepconv import _core

CLI = os.environ.get("SEPCONV_CLI")
pytestmark = pytest.mark.skipif(not CLI, reason="SEPCONV_CLI does not name the sepconv command")


def run(*arguments, target=None, pairs=""):
    environment = {**os.environ, "SEPCONV_TARGET": target or "", "SEPCONV_PAIRS": pairs}
    command = [CLI, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    import timm
    from safetensors.torch import save_file

    path = tmp_path_factory.mktemp("w") / "w.safetensors"
    state = timm.create_model("mobilenetv2_035").state_dict()
    save_file({k: v.contiguous() for k, v in state.items()}, path)
    return path


@pytest.fixture
def photos(tmp_path, rng):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, form in enumerate(["a.jpg", "b.png", "c.jpeg"]):
        noise = rng.integers(0, 255, (60 + i, 80, 3), dtype=np.uint8)
        Image.fromarray(noise).save(folder / form)
    (folder / "notes.txt").write_text("no picture")
    return folder


def classify(weights, *arguments):
    return run("classify", *arguments, "--model", "mobilenetv2_035", "--weights", weights)


def test_classifies_files_and_folders_as_python_does(weights, photos):
    result = classify(weights, photos, photos / "a.jpg", "--json", "--top", 3)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""  # no progress bar where stderr is no terminal
    answers = json.loads(result.stdout)
    names = [os.path.basename(a["image"]) for a in answers]
    assert names == ["a.jpg", "b.png", "c.jpeg", "a.jpg"]
    net = sepconv.load("mobilenetv2_035", weights=weights)
    for answer in answers:
        expected = net.classify(answer["image"], top=3)
        assert [t["label"] for t in answer["top"]] == [label for label, _ in expected]
        for t, (_, probability) in zip(answer["top"], expected):
            assert t["probability"] == pytest.approx(probability, rel=1e-5)


def test_progress_bar_is_drawn_on_a_terminal(weights, photos):
    import pty

    parent, child = pty.openpty()
    command = [CLI, "classify", photos, "--model", "mobilenetv2_035", "--weights", weights]
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=child, check=True)
    os.close(child)
    assert b"1/3" in os.read(parent, 10000)


def test_threads_change_nothing(weights, photos):
    one, two = (classify(weights, photos, "--json", "--threads", n).stdout for n in (1, 2))
    strip = lambda text: [a["top"] for a in json.loads(text)]  # noqa: E731
    assert strip(one) == strip(two)


BAD = {
    "no subcommand": ([], "subcommand is required"),
    "unknown subcommand": (["paint"], "'paint' is no subcommand"),
    "missing option": (["classify", "x.png"], "--model is required"),
    "unknown model": (
        ["explain", "--model", "mobilenet_v3"],
        "model: got 'mobilenet_v3', the nearest known names are mobilenet_v2",
    ),
    "threads": (["explain", "--model", "mobilenet_v2", "--threads", "0"], "--threads"),
    "weights": (
        ["classify", "x.png", "--model", "mobilenet_v2", "--weights", "/no/such/file"],
        "/no/such/file: No such file or directory",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(case):
    arguments, message = BAD[case]
    result = run(*arguments)
    assert result.returncode == 2
    assert result.stdout == ""
    assert message in result.stderr
    assert result.stderr.startswith("sepconv: ")
    assert result.stderr.count("\n") == 1


def test_bad_pictures_do_not_stop_the_good_ones(weights, photos):
    (photos / "b.png").write_bytes(b"no picture")
    result = classify(weights, photos)
    assert result.returncode == 2
    assert "a.jpg" in result.stdout
    assert "c.jpeg" in result.stdout
    assert "1 of 3 pictures failed" in result.stderr
    assert "b.png: neither a JPEG nor a PNG picture" in result.stderr


def test_info_models_explain_and_bench(target):
    info = run("info", target=target)
    assert f"target in use    {target}" in info.stdout
    listed = [line.split()[0] for line in run("models").stdout.splitlines()[1:]]
    assert listed == sepconv.models()
    explained = run("explain", "--model", "mobilenetv2_035", "--size", 96, target=target)
    assert "bias + relu6 > bias + relu6 > bias + residual" in explained.stdout
    assert "ends as classifier is not row-local" in explained.stdout
    timed = run("bench", "layers", "--seconds", 0.001, target=target)
    assert timed.stdout.count("depthwise") == 14
    assert timed.stdout.count("pointwise") == 8


def test_cap_that_the_machine_lacks_is_an_error():
    result = run("info", target="AVX9")
    assert result.returncode == 2
    assert "SEPCONV_TARGET: got 'AVX9', expected one of" in result.stderr


def test_pairs_are_as_the_environment_says():
    assert "paired products  in networks" in run("info", pairs="1").stdout
    assert "paired products  no" in run("info", pairs="0").stdout
    explained = {
        pairs: run("explain", "--model", "mobilenetv1_100", "--size", 96, pairs=pairs).stdout
        for pairs in ("0", "1")
    }
    assert "paired" in explained["1"]
    assert "paired" not in explained["0"]
    result = run("explain", "--model", "mobilenetv1_100", pairs="yes")
    assert result.returncode == 2
    assert "SEPCONV_PAIRS: got 'yes', expected 0 or 1" in result.stderr


class Tags(html.parser.HTMLParser):
    """Counts a page's elements, all of which must end where they should."""

    def __init__(self):
        super().__init__()
        self.open, self.count = [], collections.Counter()

    def handle_starttag(self, tag, attrs):
        self.count[tag] += 1
        if tag not in ("meta", "line"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.count[tag] += 1

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_explain_as_a_page(tmp_path):
    page = tmp_path / "page.html"
    arguments = ["explain", "--model", "efficientnet_b0", "--size", 64, "--html"]
    shown = run(*arguments, page).stdout
    steps = shown.count("  kernel  ")
    tags = Tags()
    tags.feed(page.read_text())
    assert tags.open == []
    assert tags.count["tr"] == steps + 1
    assert tags.count["rect"] == steps
    assert tags.count["svg"] == 2
    assert 0 < tags.count["circle"] <= steps
    result = run(*arguments, tmp_path / "none" / "page.html")
    assert result.returncode == 2
    assert result.stderr.endswith("page.html: cannot be written\n")
    assert [p.name for p in tmp_path.iterdir()] == ["page.html"]


@pytest.mark.parametrize("command", ["classify", "explain", "bench", "info", "models"])
def test_help_has_an_example(command):
    result = run(command, "--help")
    assert result.returncode == 0
    assert "Example:\n" in result.stdout


def test_labels_are_the_thousand():
    assert _core.imagenet_label(967) == "espresso"
    with pytest.raises(ValueError, match="expected 0 to 999"):
        _core.imagenet_label(1000)


def test_onnx_files(tmp_path):
    from onnx import helper
    from test_onnx_files import network, save

    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"], name="first"),
        helper.make_node("GlobalAveragePool", ["c"], ["p"], name="pool"),
        helper.make_node("Flatten", ["p"], ["f"], name="flat"),
        helper.make_node("Gemm", ["f", "m"], ["y"], name="last"),
    ]
    rng = np.random.default_rng(3)
    weights = {
        "w": rng.standard_normal((8, 3, 3, 3)).astype(np.float32),
        "m": rng.standard_normal((8, 1000)).astype(np.float32),
    }
    path = save(network(nodes, weights, dims=(1, 3, 32, 32)), tmp_path / "m.onnx")
    Image.fromarray(rng.integers(0, 256, (40, 40, 3), dtype=np.uint8)).save(tmp_path / "p.png")
    result = run("classify", tmp_path / "p.png", "--model", path, "--json")
    ours = sepconv.load(path).classify(tmp_path / "p.png")
    assert [t["label"] for t in json.loads(result.stdout)[0]["top"]] == [name for name, _ in ours]
    assert "last" in run("explain", "--model", path).stdout
    short = run("explain", "--model", path, "--outputs", "p,c").stdout
    assert "first" in short
    assert "last" not in short
    wrong = run("classify", tmp_path / "p.png", "--model", path, "--outputs", "pp")
    assert wrong.returncode == 2
    assert "outputs: got 'pp'" in wrong.stderr
    named = run("classify", "--outputs", "y", tmp_path / "p.png", "--model", path, "--json")
    assert json.loads(named.stdout)[0]["top"] == json.loads(result.stdout)[0]["top"]
    wide = run("explain", "--model", "mobilenetv2_035", "--size", 64, 96).stdout
    assert "input [1, 3, 64, 96]" in wide
    steps = sepconv.load("mobilenetv2_035").explain((64, 96), runs=0)
    assert f"output  {steps[0]['output']}" in wide
    path.write_bytes(b"broken")
    broken = run("classify", tmp_path / "p.png", "--model", path)
    assert broken.returncode == 2
    assert broken.stderr.count("\n") == 1
