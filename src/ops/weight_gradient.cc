#include "ops/weight_gradient.h"

#include "base/check.h"

namespace sepconv {

WeightGradient weight_gradient(const Shape& input, const Shape& w, const Conv2dOptions& options,
                               std::int64_t groups, Layout layout) {
  const ConvGeometry g = conv_geometry(input, TensorView(nullptr, w), {}, options, groups);
  const Window2d& window = g.window;
  if (w[1] == 1 && groups == input[1] && w[0] == groups) {
    return depthwise_weight_gradient(g, w, layout);
  }
  const bool pointwise = groups == 1 && window.taps() == 1 && window.rows.stride == 1 &&
                         window.columns.stride == 1 && options.padding == Padding(0);
  check(pointwise,
        "weight: shape is {} with {} groups, expected [C, 1, kh, kw] with C groups, or "
        "[Cout, C, 1, 1] with one, stride 1 and no padding",
        to_string(w), groups);
  return pointwise_weight_gradient(g, w, layout);
}

Conv2dWeightGradient::Conv2dWeightGradient(const Shape& input, const Shape& weight,
                                           const Conv2dOptions& options, std::int64_t groups,
                                           Layout layout)
    : impl_(weight_gradient(input, weight, options, groups, layout)) {}

const Shape& Conv2dWeightGradient::input_shape() const { return impl_->geometry.input; }
const Shape& Conv2dWeightGradient::output_shape() const { return impl_->geometry.output; }
const Shape& Conv2dWeightGradient::weight_shape() const { return impl_->weight; }
Layout Conv2dWeightGradient::layout() const { return impl_->layout; }
std::string Conv2dWeightGradient::describe() const { return impl_->describe(); }

double Conv2dWeightGradient::flops() const {
  return 2.0 * static_cast<double>(output_shape().elements() * impl_->weight[1] *
                                   impl_->geometry.window.taps());
}

std::size_t Conv2dWeightGradient::workspace_bytes(int threads) const {
  return impl_->workspace_bytes(threads);
}

void Conv2dWeightGradient::run(const TensorView& x, const TensorView& dy, const TensorView& dw,
                               std::span<std::byte> workspace, const ThreadPool& pool) const {
  check_view("x", x, input_shape(), layout());
  check_view("dy", dy, output_shape(), layout());
  check_view("dw", dw, weight_shape(), Layout::kNCHW);
  check_workspace(workspace, workspace_bytes(pool.threads()));
  impl_->run(x.floats(), dy.floats(), dw.floats(), workspace.data(), pool, nullptr);
}

}  // namespace sepconv
