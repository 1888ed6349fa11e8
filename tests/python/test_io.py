"""Pictures as PIL reads them, weight files as safetensors writes them, bad files refused."""

import json
import struct

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_file

import sepconv
from sepconv import _core


def decode(path):
    height, width, data = _core.decode(str(path))
    return np.frombuffer(data, np.uint8).reshape(height, width, 3)


@pytest.fixture
def photo(rng):
    """A smooth picture with some noise, so that JPEG and resampling have something to do."""
    y, x = np.mgrid[0:123, 0:187]
    waves = [np.sin(x / 9 + i) * np.cos(y / 7 - i) for i in range(3)]
    noise = rng.normal(0, 12, (123, 187, 3))
    return Image.fromarray((np.stack(waves, -1) * 100 + 128 + noise).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "P", "LA", "RGBA", "CMYK", "I;16"])
def test_decodes_like_pil(photo, tmp_path, form, mode):
    if mode == "I;16":
        grey = np.asarray(photo.convert("L")).astype(np.uint16) * 257
        picture, expected = Image.fromarray(grey), photo.convert("L").convert("RGB")
    else:
        picture = photo.convert("RGBA").convert(mode) if mode == "LA" else photo.convert(mode)
        expected = None
    supported = {
        "JPEG": ("RGB", "L", "1", "CMYK"),
        "PNG": ("RGB", "L", "1", "P", "LA", "RGBA", "I;16"),
    }
    if mode not in supported[form]:
        with pytest.raises(OSError, match="cannot write mode"):
            picture.save(tmp_path / "p", form)
        return
    picture.save(tmp_path / "p", form)
    expected = expected or Image.open(tmp_path / "p").convert("RGB")
    difference = decode(tmp_path / "p").astype(int) - np.asarray(expected).astype(int)
    assert np.abs(difference).max() <= (2 if mode == "CMYK" else 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(photo, tmp_path, orientation):
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    photo.save(tmp_path / "p.jpg", exif=exif)
    expected = ImageOps.exif_transpose(Image.open(tmp_path / "p.jpg"))
    np.testing.assert_array_equal(decode(tmp_path / "p.jpg"), np.asarray(expected))


@pytest.mark.parametrize("bicubic", [False, True])
@pytest.mark.parametrize("size", [(60, 40), (187, 50), (40, 123), (300, 400), (1, 1), (187, 123)])
def test_resizes_like_pil(photo, size, bicubic):
    filter_ = Image.Resampling.BICUBIC if bicubic else Image.Resampling.BILINEAR
    expected = np.asarray(photo.resize(size, filter_)).astype(int)
    data = _core.resize(np.asarray(photo).tobytes(), 123, 187, size[1], size[0], bicubic)
    got = np.frombuffer(data, np.uint8).reshape(size[1], size[0], 3).astype(int)
    assert np.abs(got - expected).max() <= 1


@pytest.mark.parametrize("name", ["efficientnet_lite0", "mobilenetv1_100", "efficientnet_lite3"])
def test_preprocesses_like_timm(photo, tmp_path, name):
    photo.save(tmp_path / "p.png")
    config = timm.data.resolve_data_config(timm.create_model(name).pretrained_cfg)
    config["input_size"] = (3, *(timm.create_model(name).default_cfg["input_size"][1:]))
    expected = timm.data.create_transform(**config)(photo)
    got = sepconv.load(name).preprocess(tmp_path / "p.png")[0]
    scale = 1.01 / 255 / min(config["std"])
    assert np.abs(got - expected.numpy()).max() <= scale


def test_other_files_are_refused(photo, tmp_path):
    photo.save(tmp_path / "p.jpg")
    photo.save(tmp_path / "p.png")
    (tmp_path / "empty").write_bytes(b"")
    (tmp_path / "text").write_bytes(b"hello" * 100)
    for form in ("jpg", "png"):
        whole = (tmp_path / f"p.{form}").read_bytes()
        for part in (5, len(whole) // 3, len(whole) * 2 // 3):
            (tmp_path / f"cut-{part}.{form}").write_bytes(whole[:part])
    for path in [*tmp_path.glob("cut-*"), tmp_path / "empty", tmp_path / "text", tmp_path / "no"]:
        with pytest.raises(ValueError, match=str(path)) as caught:
            decode(path)
        assert "\n" not in str(caught.value)


def test_bomb_is_refused_before_it_is_unpacked(tmp_path):
    Image.new("1", (12000, 10000)).save(tmp_path / "bomb.png")
    with pytest.raises(ValueError, match="12000 x 10000 pixels, expected at most 89 megapixels"):
        decode(tmp_path / "bomb.png")
    Image.new("L", (12000, 10000)).save(tmp_path / "bomb.jpg")
    with pytest.raises(ValueError, match="megapixels"):
        decode(tmp_path / "bomb.jpg")


NAME = "mobilenetv2_035"


@pytest.fixture(scope="module")
def state():
    return {k: v.contiguous() for k, v in timm.create_model(NAME).state_dict().items()}


def refuse(path, message):
    with pytest.raises(ValueError, match=message) as caught:
        sepconv.load(NAME, weights=path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def raw(path, header, body=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + body)
    return path


def entry(begin, end, shape=(1,), dtype="F32"):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [begin, end]}


BAD_FILES = {
    "no such file": (None, "No such file"),
    "empty": (b"", "0 bytes"),
    "text": (b"hello, this is no weight file", "header of"),
    "huge header": (struct.pack("<Q", 2**60) + b"{}", "header of"),
    "header beyond the file": (struct.pack("<Q", 100) + b"{}", "header of"),
    "no JSON": (struct.pack("<Q", 4) + b"\xff{]}", "not a JSON object"),
    "list": (struct.pack("<Q", 2) + b"[]", "not a JSON object"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_no_safetensors_file_is_refused(tmp_path, case):
    content, message = BAD_FILES[case]
    path = tmp_path / "w.safetensors"
    if content is not None:
        path.write_bytes(content)
    refuse(path, message)


BAD_HEADERS = {
    "overlap": ({"a": entry(0, 4), "b": entry(2, 6)}, b"123456", "overlaps its neighbour"),
    "gap": ({"a": entry(0, 4), "b": entry(8, 12)}, b"x" * 12, "leaves a gap"),
    "rest": ({"a": entry(0, 4)}, b"x" * 12, "8 bytes after the last tensor"),
    "beyond": ({"a": entry(0, 4)}, b"x", "outside the file"),
    "reversed": ({"a": entry(4, 0)}, b"x" * 4, "outside the file"),
    "size": ({"a": entry(0, 4, [2])}, b"x" * 4, "need 8"),
    "overflow": ({"a": entry(0, 4, [2**40, 2**40])}, b"x" * 4, "too large"),
    "negative": ({"a": entry(0, 4, [-1])}, b"x" * 4, "not a list of sizes"),
    "dtype": ({"a": entry(0, 4, dtype="F4")}, b"x" * 4, "dtype F4 is not supported"),
    "fields": ({"a": {"dtype": "F32"}}, b"", "expected an object with"),
    "metadata": ({"__metadata__": {"a": 1}}, b"", "metadata 'a' is not a string"),
}


@pytest.mark.parametrize("case", BAD_HEADERS)
def test_bad_headers_are_refused(tmp_path, case):
    header, body, message = BAD_HEADERS[case]
    refuse(raw(tmp_path / "w.safetensors", header, body), message)


def test_missing_extra_and_misshapen_tensors_are_named(state, tmp_path):
    path = tmp_path / "w.safetensors"
    less = dict(state)
    less["conv_stemm.weight"] = less.pop("conv_stem.weight")
    save_file(less, path)
    refuse(path, "no tensor 'conv_stem.weight' .*nearest name is 'conv_stemm.weight'")
    save_file(state | {"classifier.scale": torch.zeros(1)}, path)
    refuse(path, "'classifier.scale' is not part of this model; the nearest name")
    save_file(state | {"classifier.bias": torch.zeros(10)}, path)
    refuse(path, r"'classifier.bias' has shape \[10\], expected \[1000\]")
    save_file(state | {"classifier.bias": torch.zeros(1000, dtype=torch.int64)}, path)
    refuse(path, "has dtype int64")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_are_converted(state, tmp_path, dtype):
    other = {k: v.to(dtype) if v.is_floating_point() else v for k, v in state.items()}
    plain = {k: v.float() if v.is_floating_point() else v for k, v in other.items()}
    save_file(other, tmp_path / "a")
    save_file(plain, tmp_path / "b")
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 64)).astype(np.float32)
    a, b = (sepconv.load(NAME, weights=tmp_path / name)(x) for name in "ab")
    np.testing.assert_array_equal(a, b)


def test_file_may_be_removed_or_replaced_but_not_written_to(state, tmp_path):
    path, x = tmp_path / "w", np.ones((1, 3, 64, 64), np.float32)
    save_file(state, path)
    net = sepconv.load(NAME, weights=path)
    expected = net(x)
    other = tmp_path / "other"
    save_file({k: v + 1 for k, v in state.items()}, other)
    other.replace(path)
    assert np.array_equal(net(x), expected)
    net(np.ones((1, 3, 96, 96), np.float32))  # planned from what was loaded
    path.unlink()
    net(np.ones((2, 3, 64, 64), np.float32))
    save_file(state, path)
    written = sepconv.load(NAME, weights=path)
    with path.open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(ValueError, match="was written to since it was loaded"):
        written(x)


def test_metadata_says_how_pictures_are_prepared(state, photo, tmp_path):
    photo.save(tmp_path / "p.png")
    how = {"mean": "0.5,0.5,0.5", "std": "0.25,0.25,0.25", "interpolation": "bilinear", "crop": "1"}
    save_file(state, tmp_path / "w", metadata=how)
    got = sepconv.load(NAME, weights=tmp_path / "w").preprocess(tmp_path / "p.png")[0]
    config = dict(input_size=(3, 224, 224), mean=(0.5,) * 3, std=(0.25,) * 3)
    transform = timm.data.create_transform(**config, interpolation="bilinear", crop_pct=1.0)
    assert np.abs(got - transform(photo).numpy()).max() <= 1.01 / 255 / 0.25
    save_file(state, tmp_path / "w", metadata={"mean": "0.5,0.5"})
    refuse(tmp_path / "w", "expected three numbers separated by commas")


def test_unknown_model_names_the_nearest():
    with pytest.raises(
        ValueError, match="'mobilenetv2_10', the nearest known names are mobilenetv2_1"
    ):
        sepconv.load("mobilenetv2_10")
