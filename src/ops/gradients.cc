#include <algorithm>
#include <optional>
#include <utility>

#include "base/aligned.h"
#include "base/check.h"
#include "base/sizes.h"
#include "ops/arguments.h"
#include "ops/depthwise_backward.h"
#include "ops/input_gradient.h"
#include "ops/weight_gradient.h"
#include "sepconv/gradients.h"

namespace sepconv {

// dW's pass goes over the rows of dY anyway: dX is computed from them while they are in the cache.
struct Conv2dGradients::Impl {
  WeightGradient to_weight;
  ConvGeometry seen;                      // the images as dW's pass goes over them
  std::shared_ptr<RowOp> rows;            // of dX, or null where dW's pass never tells of any
  std::shared_ptr<const Op::Impl> apart;  // dX by itself; null where dW's pass always tells
  std::optional<DepthwiseBackwardPass> together;  // instead of all these

  Impl(ConvArguments a, WeightGradient weight)
      : to_weight(std::move(weight)), seen(to_weight->seen()) {
    const Layout layout = to_weight->layout;
    if (DepthwiseBackwardPass::takes(a, layout)) {
      together.emplace(a);
      return;
    }
    if (!to_weight->visits(1)) {
      apart = input_gradient_op(a, layout);
      return;
    }
    a.input = seen.input;
    a.output = seen.output;
    rows = input_gradient_rows(a, layout);
    if (a.groups > 1) apart = input_gradient_op(a, layout, rows);
  }

  // Of dX, for rows of dY; the last ones have those that no window starts at, too.
  RowRange own_rows(RowRange of_dy) const {
    const std::int64_t stride = seen.window.rows.stride, height = seen.input[2];
    const auto from = [&](std::int64_t row) {
      return row == seen.output[2] ? height : std::min(height, row * stride);
    };
    return {from(of_dy.begin), from(of_dy.end)};
  }

  std::int64_t most_rows() const {
    const std::int64_t stride = seen.window.rows.stride, height = seen.input[2];
    const std::int64_t beyond = std::max<std::int64_t>(0, height - seen.output[2] * stride);
    return std::min(height, to_weight->rows_at_once() * stride + beyond);
  }

  std::size_t slot_bytes() const {
    return align_up(to_size(seen.output[2]) * sizeof(float*)) +
           align_up(to_size(most_rows()) * sizeof(float*)) +
           align_up(rows->workspace_bytes(std::max<std::int64_t>(1, most_rows())));
  }

  std::size_t workspace_bytes(int threads) const {
    if (together) return together->workspace_bytes();
    const std::size_t of_weight = align_up(to_weight->workspace_bytes(threads));
    if (to_weight->visits(threads)) return of_weight + to_weight->slots(threads) * slot_bytes();
    return std::max(of_weight, apart->workspace_bytes(threads));
  }
};

namespace {

struct InputGradientRows final : RowVisitor {
  const Conv2dGradients::Impl& op;
  const float* dy;
  float* dx;
  std::byte* workspace;

  InputGradientRows(const Conv2dGradients::Impl& o, const float* from, float* to, std::byte* space)
      : op(o), dy(from), dx(to), workspace(space) {}

  void visit(std::size_t image, RowRange of_dy, std::size_t slot) const override {
    const RowRange own = op.own_rows(of_dy);
    if (own.size() == 0) return;
    const ImageShape &in = op.rows->input(), &out = op.rows->output();
    const RowRange need = op.rows->input_rows(own);
    Carver carver(workspace + slot * op.slot_bytes());
    const float** from = carver.take<const float*>(to_size(op.seen.output[2]));
    float** to = carver.take<float*>(to_size(op.most_rows()));
    const float* images = dy + image * to_size(in.height * in.row_floats());
    float* result = dx + image * to_size(out.height * out.row_floats());
    for (std::int64_t r = 0; r < need.size(); ++r) {
      from[r] = images + (need.begin + r) * in.row_floats();
    }
    for (std::int64_t r = 0; r < own.size(); ++r) {
      to[r] = result + (own.begin + r) * out.row_floats();
    }
    op.rows->run_rows(own, {from, need.begin}, nullptr, to, carver.rest());
  }
};

}  // namespace

Conv2dGradients::Conv2dGradients(const Shape& input, const TensorView& weight,
                                 const Conv2dOptions& options, std::int64_t groups, Layout layout)
    : impl_(std::make_shared<Impl>(
          conv_arguments(input, weight, {}, options, groups),
          weight_gradient(input, weight.shape(), options, groups, layout))) {}

std::size_t Conv2dGradients::workspace_bytes(int threads) const {
  return impl_->workspace_bytes(threads);
}

void Conv2dGradients::run(const TensorView& x, const TensorView& dy, const TensorView& dx,
                          const TensorView& dw, std::span<std::byte> workspace,
                          const ThreadPool& pool) const {
  const Conv2dWeightGradient::Impl& w = *impl_->to_weight;
  check_view("x", x, w.geometry.input, w.layout);
  check_view("dy", dy, w.geometry.output, w.layout);
  check_view("dx", dx, w.geometry.input, w.layout);
  check_view("dw", dw, w.weight, Layout::kNCHW);
  check_workspace(workspace, workspace_bytes(pool.threads()));
  std::byte* const space = workspace.data();
  if (impl_->together) {
    impl_->together->run(x.floats(), dy.floats(), dx.floats(), dw.floats(), space, pool);
    return;
  }
  if (!w.visits(pool.threads())) {
    impl_->apart->run(dy.floats(), {}, dx.floats(), space, pool);
    w.run(x.floats(), dy.floats(), dw.floats(), space, pool, nullptr);
    return;
  }
  const InputGradientRows visitor(*impl_, dy.floats(), dx.floats(),
                                  space + align_up(w.workspace_bytes(pool.threads())));
  w.run(x.floats(), dy.floats(), dw.floats(), space, pool, &visitor);
}

}  // namespace sepconv
