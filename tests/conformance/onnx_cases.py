"""The ONNX package's node tests; it collects them just once a process, whatever is asked for."""

import warnings

import numpy as np
from onnx.backend.test.case.node import collect_testcases

with np.errstate(all="ignore"), warnings.catch_warnings(action="ignore"):
    SINGLE_NODES = [c for c in collect_testcases(None) if len(c.model.graph.node) == 1]


def operator_of(case):
    return case.model.graph.node[0].op_type
