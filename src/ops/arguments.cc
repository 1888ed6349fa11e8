#include "ops/arguments.h"

#include "base/check.h"
#include "ops/conv_rows.h"
#include "ops/depthwise_rows.h"
#include "ops/winograd_rows.h"

namespace sepconv {

namespace {

// Keeps every product of sizes below far from 2^63.
constexpr std::int64_t kMaxSize = std::int64_t{1} << 31;

void check_range(const char* name, std::int64_t value, std::int64_t least) {
  check(value >= least && value < kMaxSize, "{}: got {}, expected at least {} and below 2^31", name,
        value, least);
}

void check_pair(const char* name, Size2d value, std::int64_t least) {
  check_range(name, value.height, least);
  check_range(name, value.width, least);
}

std::int64_t output_size(const char* axis, std::int64_t size, std::int64_t kernel,
                         std::int64_t stride, std::int64_t pads, std::int64_t dilation) {
  const std::int64_t reach = checked_multiply(kernel - 1, dilation, "dilation") + 1;
  check(reach < kMaxSize, "kernel: {} with dilation {} spans {}, expected below 2^31", kernel,
        dilation, reach);
  const std::int64_t room = size + pads - reach;
  check(room >= 0,
        "{}: input of {} with padding {} in all is smaller than the kernel's {}, expected at least "
        "as large",
        axis, size, pads, reach);
  return room / stride + 1;
}

Tensor dense_copy(const TensorView& view) {
  Tensor tensor(view.shape());
  copy(view, tensor.view());
  return tensor;
}

}  // namespace

Padding Padding::same(Size2d image, Size2d kernel, Size2d stride, Size2d dilation) {
  const auto total = [](std::int64_t size, std::int64_t k, std::int64_t s, std::int64_t d) {
    check(s >= 1, "stride: got {}, expected at least 1", s);
    check(d >= 1, "dilation: got {}, expected at least 1", d);
    const std::int64_t out = (size + s - 1) / s;
    return std::max<std::int64_t>((out - 1) * s + (k - 1) * d + 1 - size, 0);
  };
  const std::int64_t v = total(image.height, kernel.height, stride.height, dilation.height);
  const std::int64_t h = total(image.width, kernel.width, stride.width, dilation.width);
  return {v / 2, v - v / 2, h / 2, h - h / 2};
}

Shape window_output(const Shape& input, std::int64_t channels, Size2d kernel, Size2d stride,
                    const Padding& padding, Size2d dilation) {
  check_pair("kernel", kernel, 1);
  check_pair("stride", stride, 1);
  check_pair("dilation", dilation, 1);
  for (std::int64_t pad : {padding.top, padding.bottom, padding.left, padding.right}) {
    check_range("padding", pad, 0);
  }
  return {input[0], channels,
          output_size("height", input[2], kernel.height, stride.height,
                      padding.top + padding.bottom, dilation.height),
          output_size("width", input[3], kernel.width, stride.width, padding.left + padding.right,
                      dilation.width)};
}

ConvGeometry conv_geometry(const Shape& input, const TensorView& weight, const TensorView& bias,
                           const Conv2dOptions& options, std::int64_t groups) {
  check(input.rank() == 4, "x: shape is {}, expected [N, C, H, W]", to_string(input));
  for (int i = 1; i < 4; ++i) {
    check(input[i] > 0, "x: shape is {}, expected channels, height and width above 0",
          to_string(input));
    check_range("x", input[i], 1);
  }
  const Shape& w = weight.shape();
  check(w.rank() == 4, "weight: shape is {}, expected [Cout, C / groups, kh, kw]", to_string(w));
  check<TypeError>(weight.dtype() == DType::kFloat32, "weight: dtype is {}, expected float32",
                   to_string(weight.dtype()));
  check(groups >= 1, "groups: got {}, expected at least 1", groups);
  check(input[1] % groups == 0, "groups: {} does not divide the {} channels of x", groups,
        input[1]);
  check(w[1] == input[1] / groups,
        "weight: shape is {}, expected {} in dimension 1 for x with {} channels and {} groups",
        to_string(w), input[1] / groups, input[1], groups);
  check(w[0] > 0 && w[0] % groups == 0,
        "weight: shape is {}, expected a positive multiple of groups ({}) in dimension 0",
        to_string(w), groups);
  if (bias.shape().rank() > 0) {
    check<TypeError>(bias.dtype() == DType::kFloat32, "bias: dtype is {}, expected float32",
                     to_string(bias.dtype()));
    check(bias.shape() == Shape{w[0]}, "bias: shape is {}, expected [{}]", to_string(bias.shape()),
          w[0]);
  }
  ConvGeometry g;
  g.input = input;
  g.output =
      window_output(input, w[0], {w[2], w[3]}, options.stride, options.padding, options.dilation);
  g.window = {{w[2], options.stride.height, options.dilation.height, options.padding.top},
              {w[3], options.stride.width, options.dilation.width, options.padding.left}};
  g.groups = groups;
  return g;
}

ConvArguments conv_arguments(const Shape& input, const TensorView& weight, const TensorView& bias,
                             const Conv2dOptions& options, std::int64_t groups) {
  ConvArguments a{conv_geometry(input, weight, bias, options, groups), {}, {}};
  a.weight = dense_copy(weight);
  if (bias.shape().rank() > 0) a.bias = dense_copy(bias);
  return a;
}

namespace {

Epilogue epilogue_of(const Conv2dOptions& options) {
  Epilogue epilogue(options.activation);
  epilogue.residual_first = options.residual_before_activation;
  return epilogue;
}

}  // namespace

std::shared_ptr<RowOp> scaled_conv_row_op(const ConvGeometry& g, const LayerWeights& weights,
                                          const Conv2dOptions& options) {
  return std::make_shared<ConvRows>(g.input_image(), g.output_image(), g.window, g.groups, weights,
                                    epilogue_of(options), ErrorBound::kNetwork, true);
}

std::shared_ptr<RowOp> conv_row_op(const ConvGeometry& g, const LayerWeights& weights,
                                   const Conv2dOptions& options, ErrorBound bound) {
  const Epilogue epilogue = epilogue_of(options);
  const ImageShape input = g.input_image(), output = g.output_image();
  const bool depthwise = g.groups > 1 && g.groups == g.input[1];
  if (!options.residual &&
      (depthwise || DepthwiseRows2d::takes_groups(input, output, g.window, g.groups))) {
    return std::make_shared<DepthwiseRows2d>(input, output, g.window, weights, epilogue, bound,
                                             g.input[1] / g.groups);
  }
  const auto size = bound == ErrorBound::kNetwork
                        ? WinogradRows::best(input, output, g.window, g.groups)
                        : std::nullopt;
  if (size) {
    return std::make_shared<WinogradRows>(*size, input, output, g.window, weights, epilogue);
  }
  return std::make_shared<ConvRows>(input, output, g.window, g.groups, weights, epilogue, bound);
}

std::shared_ptr<RowOp> conv_row_op(const ConvArguments& a, const Conv2dOptions& options) {
  return conv_row_op(a, LayerWeights(a.weight.data(), a.bias_data()), options);
}

}  // namespace sepconv
