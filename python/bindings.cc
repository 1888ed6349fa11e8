// The extension module behind the Python package. It checks nothing that the library checks itself;
// argument forms and array kinds are dealt with in Python.

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/array.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/vector.h>

#include <mutex>

#include "base/aligned.h"
#include "base/block_cache.h"
#include "base/check.h"
#include "sepconv/sepconv.h"

namespace nb = nanobind;
using namespace nb::literals;

namespace sepconv {
namespace {

using Array = nb::ndarray<nb::device::cpu>;
using ConstArray = nb::ndarray<nb::ro, nb::device::cpu>;

template <class AnyArray>
TensorView view_of(const char* name, const AnyArray& array) {
  check<TypeError>(array.dtype() == nb::dtype<float>(), "{}: dtype is not float32", name);
  check(array.ndim() <= Shape::kMaxRank, "{}: has {} dimensions, expected at most {}", name,
        array.ndim(), Shape::kMaxRank);
  std::array<std::int64_t, Shape::kMaxRank> dims{}, strides{};
  for (std::size_t i = 0; i < array.ndim(); ++i) {
    dims[i] = static_cast<std::int64_t>(array.shape(i));
    strides[i] = array.stride(i);
  }
  void* data = const_cast<void*>(static_cast<const void*>(array.data()));
  return TensorView(data, Shape(dims.data(), static_cast<int>(array.ndim())), strides,
                    DType::kFloat32);
}

TensorView optional_view(const char* name, const std::optional<ConstArray>& array) {
  return array ? view_of(name, *array) : TensorView();
}

// The threads that everything from Python runs on, and a workspace for each calling thread.
class Runtime {
 public:
  static Runtime& get() {
    static Runtime runtime;
    return runtime;
  }
  void set_threads(int threads) {
    auto pool = std::make_shared<const ThreadPool>(threads);
    const std::lock_guard lock(mutex_);
    pool_ = std::move(pool);
  }
  // A forked process has none of the pool's threads, and perhaps a mutex that another one held:
  // both are left as they are, and it starts with as many threads of its own.
  void after_fork() {
    new (&mutex_) std::mutex();
    const auto* abandoned = new std::shared_ptr<const ThreadPool>(std::move(pool_));
    pool_ = std::make_shared<const ThreadPool>((*abandoned)->threads());
  }
  std::shared_ptr<const ThreadPool> pool() {
    const std::lock_guard lock(mutex_);
    return pool_;
  }
  static std::span<std::byte> workspace(std::size_t bytes) {
    thread_local AlignedArray<std::byte> memory;
    thread_local std::size_t size = 0;
    if (size < bytes) {
      memory = make_aligned<std::byte>(bytes);
      size = bytes;
    }
    return {memory.get(), size};
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<const ThreadPool> pool_ = std::make_shared<const ThreadPool>(1);
};

Conv2dOptions options(const std::array<std::int64_t, 2>& stride,
                      const std::array<std::int64_t, 4>& padding,
                      const std::array<std::int64_t, 2>& dilation, const std::string& activation,
                      bool residual) {
  Conv2dOptions o;
  o.stride = {stride[0], stride[1]};
  o.padding = {padding[0], padding[1], padding[2], padding[3]};
  o.dilation = {dilation[0], dilation[1]};
  o.activation = Activation::named(activation);
  o.residual = residual;
  return o;
}

void run_op(const Op& op, const ConstArray& x, const Array& y,
            const std::optional<ConstArray>& residual) {
  const TensorView in = view_of("x", x), out = view_of("y", y);
  const TensorView add = optional_view("residual", residual);
  const nb::gil_scoped_release release;
  const auto pool = Runtime::get().pool();
  const auto workspace = Runtime::workspace(op.workspace_bytes(pool->threads()));
  if (residual) {
    op.run(in, add, out, workspace, *pool);
  } else {
    op.run(in, out, workspace, *pool);
  }
}

// An array of the framework's, uninitialised, dense in the layout, staggered from what lies at x.
template <class Framework>
nb::ndarray<Framework, float> empty_array(const Shape& shape, Layout layout, std::uintptr_t x) {
  const std::size_t bytes = static_cast<std::size_t>(shape.elements()) * sizeof(float) + kStagger;
  std::byte* room;
  nb::capsule owner;
  if (bytes >= BlockCache::kLeastBytes) {
    auto* block = new Block(BlockCache::take(bytes));
    room = block->data();
    owner = nb::capsule(block, [](void* p) noexcept { delete static_cast<Block*>(p); });
  } else {
    room = new std::byte[bytes];
    owner = nb::capsule(room, [](void* p) noexcept { delete[] static_cast<std::byte*>(p); });
  }
  std::byte* data = room + result_offset(reinterpret_cast<std::uintptr_t>(room), x);
  std::array<std::size_t, Shape::kMaxRank> sizes{};
  for (int i = 0; i < shape.rank(); ++i) {
    sizes[static_cast<std::size_t>(i)] = static_cast<std::size_t>(shape[i]);
  }
  return nb::ndarray<Framework, float>(data, static_cast<std::size_t>(shape.rank()), sizes.data(),
                                       owner, dense_strides(shape, layout).data());
}

TensorView dense_at(std::uintptr_t address, const Shape& shape, Layout layout) {
  return TensorView(reinterpret_cast<float*>(address), shape, layout);
}

std::vector<std::int64_t> dims(const Shape& shape) {
  std::vector<std::int64_t> list;
  for (int i = 0; i < shape.rank(); ++i) list.push_back(shape[i]);
  return list;
}

Shape shape_of(const std::vector<std::int64_t>& dims) {
  return Shape(dims.data(), static_cast<int>(dims.size()));
}

nb::dict cpu_dict() {
  const CpuInfo info = cpu_info();
  nb::dict d;
  d["name"] = info.name;
  d["targets"] = info.targets;
  d["built_targets"] = info.built_targets;
  d["target"] = info.target;
  d["paired_products"] = info.paired_products;
  d["l1_bytes"] = info.l1_bytes;
  d["l2_bytes"] = info.l2_bytes;
  d["l3_bytes"] = info.l3_bytes;
  return d;
}

nb::list explain(const Network& network, int runs) {
  std::vector<StepInfo> steps;
  {
    const nb::gil_scoped_release release;
    steps = network.explain(runs, *Runtime::get().pool());
  }
  nb::list list;
  for (const StepInfo& s : steps) {
    nb::dict d;
    d["name"] = s.name;
    d["fused"] = s.fused;
    d["kernel"] = s.kernel;
    d["output"] = dims(s.output);
    d["band"] = s.band;
    d["ring_bytes"] = s.ring_bytes;
    d["cut"] = s.cut;
    d["flops"] = s.flops;
    d["bytes"] = s.bytes;
    d["seconds"] = s.seconds;
    list.append(d);
  }
  return list;
}

}  // namespace
}  // namespace sepconv

NB_MODULE(_core, m) {
  using namespace sepconv;
  nb::register_exception_translator([](const std::exception_ptr& p, void*) {
    try {
      std::rethrow_exception(p);
    } catch (const TypeError& e) {
      PyErr_SetString(PyExc_TypeError, e.what());
    } catch (const Error& e) {
      PyErr_SetString(PyExc_ValueError, e.what());
    }
  });

  nb::class_<Op>(m, "Op")
      .def_prop_ro("output_shape", [](const Op& op) { return dims(op.output_shape()); })
      .def_prop_ro("flops", &Op::flops)
      .def("describe", &Op::describe)
      .def(
          "empty_result",
          [](const Op& op, const ConstArray& x) {
            return empty_array<nb::numpy>(op.output_shape(), op.layout(),
                                          reinterpret_cast<std::uintptr_t>(x.data()));
          },
          "x"_a)
      .def("run", run_op, "x"_a, "y"_a, "residual"_a = nb::none())
      // For tensors that are known to fit: what makes an array of a torch tensor takes
      // microseconds.
      .def(
          "run_at",
          [](const Op& op, std::uintptr_t x, std::uintptr_t y) {
            const nb::gil_scoped_release release;
            const auto pool = Runtime::get().pool();
            op.run(dense_at(x, op.input_shape(), op.layout()),
                   dense_at(y, op.output_shape(), op.layout()),
                   Runtime::workspace(op.workspace_bytes(pool->threads())), *pool);
          },
          "x"_a, "y"_a);
  m.def(
      "fingerprint",
      [](const std::vector<std::pair<std::uintptr_t, std::size_t>>& arrays) {
        std::vector<std::uint64_t> values;
        for (const auto& [address, n] : arrays) {
          values.push_back(fingerprint(reinterpret_cast<const float*>(address), n));
        }
        return values;
      },
      "arrays"_a);

  m.def(
      "conv2d",
      [](const std::vector<std::int64_t>& shape, const ConstArray& weight,
         const std::optional<ConstArray>& bias, const std::array<std::int64_t, 2>& stride,
         const std::array<std::int64_t, 4>& padding, const std::array<std::int64_t, 2>& dilation,
         std::int64_t groups, const std::string& activation, bool residual, bool nhwc) -> Op {
        return Conv2d(shape_of(shape), view_of("weight", weight), optional_view("bias", bias),
                      options(stride, padding, dilation, activation, residual), groups,
                      nhwc ? Layout::kNHWC : Layout::kNCHW);
      },
      "shape"_a, "weight"_a, "bias"_a.none(), "stride"_a, "padding"_a, "dilation"_a, "groups"_a,
      "activation"_a, "residual"_a, "nhwc"_a);

  m.def(
      "separable_conv2d",
      [](const std::vector<std::int64_t>& shape, const ConstArray& depthwise_weight,
         const ConstArray& pointwise_weight, const std::optional<ConstArray>& depthwise_bias,
         const std::optional<ConstArray>& pointwise_bias, const std::array<std::int64_t, 2>& stride,
         const std::array<std::int64_t, 4>& padding, const std::array<std::int64_t, 2>& dilation,
         const std::string& depthwise_activation, const std::string& activation, bool nhwc) -> Op {
        Conv2dOptions pointwise;
        pointwise.activation = Activation::named(activation);
        return SeparableConv2d(shape_of(shape), view_of("depthwise_weight", depthwise_weight),
                               view_of("pointwise_weight", pointwise_weight),
                               optional_view("depthwise_bias", depthwise_bias),
                               optional_view("pointwise_bias", pointwise_bias),
                               options(stride, padding, dilation, depthwise_activation, false),
                               pointwise, nhwc ? Layout::kNHWC : Layout::kNCHW);
      },
      "shape"_a, "depthwise_weight"_a, "pointwise_weight"_a, "depthwise_bias"_a.none(),
      "pointwise_bias"_a.none(), "stride"_a, "padding"_a, "dilation"_a, "depthwise_activation"_a,
      "activation"_a, "nhwc"_a);

  m.def(
      "conv2d_input_gradient",
      [](const std::vector<std::int64_t>& shape, const ConstArray& weight,
         const std::array<std::int64_t, 2>& stride, const std::array<std::int64_t, 4>& padding,
         const std::array<std::int64_t, 2>& dilation, std::int64_t groups, bool nhwc) -> Op {
        return Conv2dInputGradient(shape_of(shape), view_of("weight", weight),
                                   options(stride, padding, dilation, "none", false), groups,
                                   nhwc ? Layout::kNHWC : Layout::kNCHW);
      },
      "shape"_a, "weight"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a, "nhwc"_a);

  nb::class_<Conv2dWeightGradient>(m, "Conv2dWeightGradient")
      .def(
          "__init__",
          [](Conv2dWeightGradient* op, const std::vector<std::int64_t>& shape,
             const std::vector<std::int64_t>& weight, const std::array<std::int64_t, 2>& stride,
             const std::array<std::int64_t, 4>& padding,
             const std::array<std::int64_t, 2>& dilation, std::int64_t groups, bool nhwc) {
            new (op) Conv2dWeightGradient(shape_of(shape), shape_of(weight),
                                          options(stride, padding, dilation, "none", false), groups,
                                          nhwc ? Layout::kNHWC : Layout::kNCHW);
          },
          "shape"_a, "weight"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a, "nhwc"_a)
      .def(
          "run",
          [](const Conv2dWeightGradient& op, const ConstArray& x, const ConstArray& dy,
             const Array& dw) {
            const TensorView in = view_of("x", x), gradient = view_of("dy", dy);
            const TensorView out = view_of("dw", dw);
            const nb::gil_scoped_release release;
            const auto pool = Runtime::get().pool();
            op.run(in, gradient, out, Runtime::workspace(op.workspace_bytes(pool->threads())),
                   *pool);
          },
          "x"_a, "dy"_a, "dw"_a);

  m.def(
      "conv2d_gradients",
      [](const ConstArray& x, const ConstArray& weight, const ConstArray& dy, const Array& dx,
         const Array& dw, const std::array<std::int64_t, 2>& stride,
         const std::array<std::int64_t, 4>& padding, const std::array<std::int64_t, 2>& dilation,
         std::int64_t groups, bool nhwc) {
        const TensorView in = view_of("x", x), gradient = view_of("dy", dy);
        const TensorView to_x = view_of("dx", dx), to_w = view_of("dw", dw);
        const TensorView weights = view_of("weight", weight);
        const nb::gil_scoped_release release;
        const Conv2dGradients op(in.shape(), weights,
                                 options(stride, padding, dilation, "none", false), groups,
                                 nhwc ? Layout::kNHWC : Layout::kNCHW);
        const auto pool = Runtime::get().pool();
        op.run(in, gradient, to_x, to_w, Runtime::workspace(op.workspace_bytes(pool->threads())),
               *pool);
      },
      "x"_a, "weight"_a, "dy"_a, "dx"_a, "dw"_a, "stride"_a, "padding"_a, "dilation"_a, "groups"_a,
      "nhwc"_a);

  m.def(
      "bias_gradient",
      [](const ConstArray& dy, const Array& dbias, bool nhwc) {
        const TensorView gradient = view_of("dy", dy), to_bias = view_of("dbias", dbias);
        const nb::gil_scoped_release release;
        const ActivationGradient op(gradient.shape(), Activation(),
                                    nhwc ? Layout::kNHWC : Layout::kNCHW);
        const auto pool = Runtime::get().pool();
        op.run({}, gradient, {}, to_bias, Runtime::workspace(op.workspace_bytes(pool->threads())),
               *pool);
      },
      "dy"_a, "dbias"_a, "nhwc"_a);

  m.def(
      "activation_gradient",
      [](const ConstArray& z, const ConstArray& dy, const Array& dz, const Array& dbias,
         const std::string& activation, bool nhwc) {
        const TensorView in = view_of("z", z), gradient = view_of("dy", dy);
        const TensorView to_z = view_of("dz", dz), to_bias = view_of("dbias", dbias);
        const nb::gil_scoped_release release;
        const ActivationGradient op(gradient.shape(), Activation::named(activation),
                                    nhwc ? Layout::kNHWC : Layout::kNCHW);
        const auto pool = Runtime::get().pool();
        op.run(in, gradient, to_z, to_bias, Runtime::workspace(op.workspace_bytes(pool->threads())),
               *pool);
      },
      "z"_a, "dy"_a, "dz"_a, "dbias"_a, "activation"_a, "nhwc"_a);

  m.def(
      "batch_norm",
      [](const ConstArray& x, const ConstArray& weight, const ConstArray& bias, const Array& y,
         const Array& mean, const Array& variance, const std::string& activation, float epsilon) {
        const TensorView in = view_of("x", x), w = view_of("weight", weight);
        const TensorView b = view_of("bias", bias), out = view_of("y", y);
        const TensorView to_mean = view_of("mean", mean);
        const TensorView to_variance = view_of("variance", variance);
        const nb::gil_scoped_release release;
        const BatchNorm op(in.shape(), Activation::named(activation), epsilon);
        const auto pool = Runtime::get().pool();
        op.run(in, w, b, out, to_mean, to_variance,
               Runtime::workspace(op.workspace_bytes(pool->threads())), *pool);
      },
      "x"_a, "weight"_a, "bias"_a, "y"_a, "mean"_a, "variance"_a, "activation"_a, "epsilon"_a);

  m.def(
      "batch_norm_backward",
      [](const ConstArray& x, const ConstArray& dy, const ConstArray& weight,
         const ConstArray& bias, const ConstArray& mean, const ConstArray& variance,
         const Array& dx, const Array& dweight, const Array& dbias, const std::string& activation,
         float epsilon) {
        const TensorView in = view_of("x", x), gradient = view_of("dy", dy);
        const TensorView w = view_of("weight", weight), b = view_of("bias", bias);
        const TensorView m = view_of("mean", mean), v = view_of("variance", variance);
        const TensorView to_x = view_of("dx", dx), to_w = view_of("dweight", dweight);
        const TensorView to_b = view_of("dbias", dbias);
        const nb::gil_scoped_release release;
        const BatchNorm op(in.shape(), Activation::named(activation), epsilon);
        const auto pool = Runtime::get().pool();
        op.run_backward(in, gradient, w, b, m, v, to_x, to_w, to_b,
                        Runtime::workspace(op.workspace_bytes(pool->threads())), *pool);
      },
      "x"_a, "dy"_a, "weight"_a, "bias"_a, "mean"_a, "variance"_a, "dx"_a, "dweight"_a, "dbias"_a,
      "activation"_a, "epsilon"_a);

  nb::class_<Network>(m, "Network")
      .def_prop_ro("outputs",
                   [](const Network& n) {
                     std::vector<std::pair<std::vector<std::int64_t>, bool>> outputs;
                     for (std::size_t i = 0; i < n.outputs(); ++i) {
                       outputs.emplace_back(dims(n.output_shape(i)),
                                            n.output_layout(i) == Layout::kNHWC);
                     }
                     return outputs;
                   })
      .def("explain", explain, "runs"_a)
      .def(
          "run",
          [](const Network& network, const ConstArray& x, const std::vector<Array>& ys) {
            const TensorView in = view_of("x", x);
            std::vector<TensorView> out;
            for (const Array& y : ys) out.push_back(view_of("y", y));
            const nb::gil_scoped_release release;
            const auto pool = Runtime::get().pool();
            network.run(in, out, Runtime::workspace(network.workspace_bytes(pool->threads())),
                        *pool);
          },
          "x"_a, "ys"_a);

  using Model = models::Loaded;
  nb::class_<Model>(m, "Model")
      .def(
          "__init__",
          [](Model* model, const std::string& name, const std::string& weights,
             const std::vector<std::string>& outputs) {
            const nb::gil_scoped_release release;
            new (model) Model(models::load(name, weights, outputs));
          },
          "name"_a, "weights"_a, "outputs"_a = std::vector<std::string>())
      .def_prop_ro("input_size", [](const Model& model) { return model.info.preprocessing.size; })
      .def_prop_ro("input_shape", [](const Model& model) { return dims(model.input); })
      .def(
          "network",
          [](const Model& model, const std::vector<std::int64_t>& shape, const std::string& result,
             const Network* like) {
            const nb::gil_scoped_release release;
            Graph graph = model.graph(shape_of(shape));
            if (result == "logits") graph = without_softmax(std::move(graph));
            if (result == "features") graph = without_classifier(std::move(graph));
            if (result == "stages") graph = without_head(std::move(graph));
            return Network(std::move(graph), shape_of(shape), like);
          },
          "shape"_a, "result"_a, "like"_a.none())
      .def(
          "preprocess",
          [](const Model& model, const std::string& path, const Array& x) {
            const TensorView to = view_of("x", x);
            const nb::gil_scoped_release release;
            copy(io::preprocess(io::read_image(path), model.info.preprocessing).view(), to);
          },
          "path"_a, "x"_a);

  m.def(
      "empty_tensor",
      [](const std::vector<std::int64_t>& shape, bool nhwc, std::uintptr_t x) {
        return empty_array<nb::pytorch>(shape_of(shape), nhwc ? Layout::kNHWC : Layout::kNCHW, x);
      },
      "shape"_a, "nhwc"_a, "x"_a);
  m.def("empty_cache", &BlockCache::clear, nb::call_guard<nb::gil_scoped_release>(),
        "Gives memory that is kept for the next large results back to the system.");
  m.def("cached_bytes", &BlockCache::kept_bytes);
  m.def("models", [] {
    std::vector<std::string> names;
    for (const models::ModelInfo& info : models::list()) names.push_back(info.name);
    return names;
  });
  m.def("costs", [](const std::string& name) {
    const models::Costs costs = models::costs(name);
    return nb::make_tuple(static_cast<std::int64_t>(costs.parameters),
                          static_cast<std::int64_t>(costs.macs));
  });
  m.def("imagenet_label", [](std::int64_t i) { return std::string(io::imagenet_label(i)); });
  m.def("class_label", &io::class_label, "index"_a, "classes"_a,
        "The name of a class: ImageNet's where there are 1,000 classes, else \"class 7\".");
  m.def("decode", [](const std::string& path) {
    const io::Image image = io::read_image(path);
    return nb::make_tuple(image.height, image.width, nb::bytes(image.rgb.data(), image.rgb.size()));
  });
  m.def("resize", [](const nb::bytes& rgb, std::int64_t height, std::int64_t width,
                     std::int64_t to_height, std::int64_t to_width, bool bicubic) {
    check(rgb.size() == static_cast<std::size_t>(3 * height * width), "rgb: has {} bytes",
          rgb.size());
    const auto* p = reinterpret_cast<const std::uint8_t*>(rgb.c_str());
    const io::Image image{width, height, {p, p + rgb.size()}};
    const io::Image out =
        io::resize(image, to_width, to_height,
                   bicubic ? io::Interpolation::kBicubic : io::Interpolation::kBilinear);
    return nb::bytes(out.rgb.data(), out.rgb.size());
  });
  m.def("set_num_threads", [](int threads) { Runtime::get().set_threads(threads); });
  m.def("after_fork", [] {
    Runtime::get().after_fork();
    BlockCache::after_fork();
  });
  m.def("get_num_threads", [] { return Runtime::get().pool()->threads(); });
  m.def("cpu_info", cpu_dict);
  m.def("set_target", &set_target);
  m.def("measure_peak_gflops", &measure_peak_gflops);
  m.def("measure_read_gbps", &measure_read_gbps, "bytes"_a);
}
