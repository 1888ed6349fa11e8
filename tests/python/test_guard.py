"""The regression guard's judgement."""

import pathlib
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "bench"))
import guard  # noqa: E402


@pytest.mark.parametrize(
    ("now", "word", "slower"),
    [(0.50, "", 0), (0.44, "SLOWER", 1), (0.46, "", 0), (0.60, "faster", 0)],
)
def test_a_kernel_that_lost_a_tenth_is_named(capsys, now, word, slower):
    kept = {"processor": "p", "of_peak": {"dw": 0.5}}
    assert guard.compare("AVX2", kept, {"dw": now}, 0.1) == slower
    lines = capsys.readouterr().out.splitlines()
    assert ("dw" in lines[0] and word in lines[0]) if word else len(lines) == 1


def test_a_new_kernel_is_told(capsys):
    assert guard.compare("AVX2", {"processor": "p", "of_peak": {}}, {"dw": 0.1}, 0.1) == 0
    assert "new" in capsys.readouterr().out


def test_every_processor_has_a_folder_of_its_own():
    zen4 = guard.folder("AMD EPYC (family 25, model 17)")
    assert zen4.name == "amd-epyc-family-25-model-17"
    assert zen4 != guard.folder("AMD EPYC (family 25, model 1)")
