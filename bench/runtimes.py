"""The peers: each makes a function that runs a PyTorch module on one input, with the settings that
its documentation recommends for float32 latency on a given number of threads."""

import contextlib
import copy
import io
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import torch


def torch_nchw(model, x, threads):
    t = torch.from_numpy(x)
    return lambda: model(t).numpy()


def torch_channels_last(model, x, threads):
    t = torch.from_numpy(x).to(memory_format=torch.channels_last)
    last = copy.deepcopy(model).to(memory_format=torch.channels_last)
    return lambda: last(t).numpy()


def inductor(model, x, threads):
    """torch.compile with frozen weights, channels last: its faster layout on these networks."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    torch._dynamo.reset()
    t = torch.from_numpy(x).to(memory_format=torch.channels_last)
    compiled = torch.compile(copy.deepcopy(model).to(memory_format=torch.channels_last))
    return lambda: compiled(t).numpy()


def onnx_file(model, x, path):
    torch.onnx.export(
        model, (torch.from_numpy(x),), path, input_names=["x"], output_names=["y"],
        dynamo=False, opset_version=17,
    )  # fmt: skip
    return path


def onnx_bytes(model, x):
    with tempfile.TemporaryDirectory() as folder:
        return pathlib.Path(onnx_file(model, x, os.path.join(folder, "m.onnx"))).read_bytes()


def onnx_runtime(model, x, threads):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = ort.InferenceSession(
        onnx_bytes(model, x), options, providers=["CPUExecutionProvider"]
    )
    feed = {"x": x}
    return lambda: session.run(None, feed)[0]


def openvino(model, x, threads):
    import openvino as ov

    core = ov.Core()
    config = {
        "INFERENCE_PRECISION_HINT": "f32",
        "INFERENCE_NUM_THREADS": threads,
        "NUM_STREAMS": 1,
        "PERFORMANCE_HINT": "LATENCY",
    }
    compiled = core.compile_model(core.read_model(onnx_bytes(model, x)), "CPU", config)
    request = compiled.create_infer_request()
    request.set_input_tensor(ov.Tensor(x, shared_memory=True))

    def run():
        request.infer()
        return request.get_output_tensor().data

    return run


def xnnpack(model, x, threads):
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower
    from executorch.extension.pybindings import portable_lib

    t = torch.from_numpy(x)
    with contextlib.redirect_stderr(io.StringIO()):
        program = to_edge_transform_and_lower(
            torch.export.export(model, (t,)), partitioner=[XnnpackPartitioner()]
        ).to_executorch()
    portable_lib._unsafe_reset_threadpool(threads)
    buffer = program.buffer  # the module reads from it and does not keep it alive
    module = portable_lib._load_for_executorch_from_buffer(buffer)
    return lambda buffer=buffer: module.run_method("forward", [t])[0].numpy()


def litert(model, x, threads):
    """XNNPACK once more, as LiteRT runs it: channels last from input to output, as is advised."""
    from ai_edge_litert.interpreter import Interpreter

    here = pathlib.Path(__file__).parent
    python = here.parent / ".venv-litert" / "bin" / "python"
    with silent_folder():
        torch.export.save(torch.export.export(model, (torch.from_numpy(x),)), "m.pt2")
        convert = [python, here / "litert_convert.py", "m.pt2", "m.tflite"]
        subprocess.run(convert, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        net = Interpreter("m.tflite", num_threads=threads)
        net.allocate_tensors()
    last = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
    into, out = net.get_input_details()[0]["index"], net.get_output_details()[0]["index"]

    def run():
        net.set_tensor(into, last)
        net.invoke()
        y = net.get_tensor(out)
        return y.transpose(0, 3, 1, 2) if y.ndim == 4 else y

    return run


@contextlib.contextmanager
def silent_folder():
    """A temporary working directory, what programs print going nowhere."""
    folder_before = os.getcwd()
    sys.stdout.flush()
    kept = [os.dup(1), os.dup(2)]
    nowhere = os.open(os.devnull, os.O_WRONLY)
    with tempfile.TemporaryDirectory() as folder:
        try:
            os.chdir(folder)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)
            yield
        finally:
            os.dup2(kept[0], 1)
            os.dup2(kept[1], 2)
            os.chdir(folder_before)
            for descriptor in (*kept, nowhere):
                os.close(descriptor)


def ncnn(model, x, threads):
    """Images one by one, as ncnn has no batches."""
    with silent_folder():
        import ncnn
        import pnnx

        pnnx.export(model, "m.pt", torch.from_numpy(x[:1]), fp16=False)
        net = ncnn.Net()
        net.opt.num_threads = threads
        for half in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_storage"):
            setattr(net.opt, f"use_{half}", False)
        net.load_param("m.ncnn.param")
        net.load_model("m.ncnn.bin")

    def run_one(image):
        extractor = net.create_extractor()
        extractor.input("in0", ncnn.Mat(image))
        error, y = extractor.extract("out0")
        if error:
            raise RuntimeError(f"no result, error {error}")
        return np.array(y)

    return lambda: np.stack([run_one(image) for image in x])


def mnn(model, x, threads):
    with silent_folder():
        import MNN

        onnx_file(model, x, "m.onnx")
        convert = os.path.join(os.path.dirname(sys.executable), "mnnconvert")
        subprocess.run(
            [convert, "-f", "ONNX", "--modelFile", "m.onnx", "--MNNModel", "m.mnn"],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        manager = MNN.nn.create_runtime_manager(
            ({"backend": "CPU", "precision": "high", "numThread": threads},)
        )
        net = MNN.nn.load_module_from_file("m.mnn", ["x"], ["y"], runtime_manager=manager)
    data = MNN.expr.placeholder(list(x.shape), MNN.expr.NCHW)

    def run():
        data.write(x)
        y = net.forward(MNN.expr.convert(data, MNN.expr.NC4HW4))
        return np.array(MNN.expr.convert(y, MNN.expr.NCHW).read())

    return run


PEERS = {
    "torch NCHW": torch_nchw,
    "torch channels_last": torch_channels_last,
    "Inductor": inductor,
    "ONNX Runtime": onnx_runtime,
    "OpenVINO": openvino,
    "XNNPACK": xnnpack,
    "LiteRT": litert,
    "ncnn": ncnn,
    "MNN": mnn,
}


class Expected:
    """What a model makes of x, and how far from it float32 may be."""

    def __init__(self, model, x):
        self.model, self.x = model, x
        self.y = model(torch.from_numpy(x)).detach().numpy()
        self.limit = 1e-3 * max(1.0, np.abs(self.y).max())

    def difference(self, y):
        """The largest one; 0 if it is no more than rounding explains."""
        worst = np.abs(np.asarray(y).reshape(self.y.shape) - self.y).max()
        if worst <= self.limit or worst <= self.rounding():
            return 0.0
        return worst

    def rounding(self):
        """Three times what the same in float64 differs by: attention may decide by a hair."""
        y = copy.deepcopy(self.model).double()(torch.from_numpy(self.x).double())
        return 3 * np.abs(y.detach().numpy() - self.y).max()


def make(model, x, expected, threads, names):
    """The named peers that can run the model, their outputs checked against an `Expected`."""
    runs = {}
    for name in names:
        try:
            run = PEERS[name](model, x, threads)
            if worst := expected.difference(run()):
                print(f"{name}: output differs by {worst}", file=sys.stderr)
                continue
            runs[name] = run
        except Exception as error:
            print(f"{name}: {type(error).__name__}: {str(error)[:200]}", file=sys.stderr)
    return runs
