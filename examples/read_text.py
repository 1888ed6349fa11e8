"""Reads the text in pictures with RapidOCR, whose three networks sepconv runs.

RapidOCR (package rapidocr-onnxruntime; scripts/fetch-onnx unpacks it) finds lines of text, turns
those that stand on their head, and reads them, each with a network of its own that comes with the
package. Here the three sessions of ONNX Runtime are replaced by ours, and both engines read the
same pictures, one thread each:

    PYTHONPATH=build/onnx python examples/read_text.py build/weights/page.png

prints the lines with their scores and how long each engine's networks took, fastest of some rounds.
Exits with 1 where the two do not agree.
"""

import argparse
import sys
import time

import numpy as np
from rapidocr_onnxruntime import RapidOCR

import sepconv


class Session:
    """What RapidOCR asks of a session: called with an array, it gives a list of arrays."""

    def __init__(self, run):
        self.run, self.seconds = run, 0.0

    def __call__(self, x):
        start = time.perf_counter()
        results = self.run(x)
        self.seconds += time.perf_counter() - start
        return results


class Engine:
    """RapidOCR with sessions of our making."""

    def __init__(self, make_run):
        self.ocr = RapidOCR(intra_op_num_threads=1)
        self.sessions = []
        for part, name in [
            (self.ocr.text_det, "infer"),
            (self.ocr.text_cls, "infer"),
            (self.ocr.text_rec, "session"),
        ]:
            session = Session(make_run(getattr(part, name)))
            setattr(part, name, session)
            self.sessions.append(session)

    def read(self, picture):
        """Gives [box, text, score] for each line, and the seconds that the networks took."""
        for session in self.sessions:
            session.seconds = 0.0
        lines, _ = self.ocr(picture)
        return lines or [], sum(session.seconds for session in self.sessions)


def with_onnx_runtime(session):
    return session


def with_sepconv(session):
    network = sepconv.load(session.session._model_path)

    def run(x):
        return [np.ascontiguousarray(network(x))]

    return run


def agree(ours, theirs):
    """The same text in the same boxes, with scores equal but for rounding.

    A character that neither engine is sure of moves with every bit: ONNX Runtime's own scores with
    and without its optimisations differ by up to 2e-4 on such pictures.
    """
    return len(ours) == len(theirs) and all(
        a[1] == b[1]
        and np.abs(np.subtract(a[0], b[0])).max() <= 1e-3
        and abs(float(a[2]) - float(b[2])) <= 1e-3
        for a, b in zip(ours, theirs)
    )


def main():
    parser = argparse.ArgumentParser(description="Reads the text in pictures, with two engines.")
    parser.add_argument("pictures", nargs="+", metavar="PICTURE")
    parser.add_argument("--rounds", type=int, default=5, help="default: 5")
    arguments = parser.parse_args()
    engines = {"onnxruntime": Engine(with_onnx_runtime), "sepconv": Engine(with_sepconv)}
    same = True
    for picture in arguments.pictures:
        best = dict.fromkeys(engines, float("inf"))
        lines = {}
        for _ in range(arguments.rounds):
            for name, engine in engines.items():
                lines[name], seconds = engine.read(picture)
                best[name] = min(best[name], seconds)
        print(picture)
        for _, text, score in lines["sepconv"]:
            print(f"  {float(score):.3f}  {text}")
        times = ", ".join(f"{name} {seconds * 1e3:.1f} ms" for name, seconds in best.items())
        equal = agree(lines["sepconv"], lines["onnxruntime"])
        print(f"  {times}; {'the same' if equal else 'NOT the same'} lines, boxes and scores")
        same = same and equal
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
