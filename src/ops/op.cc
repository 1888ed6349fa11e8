#include "base/aligned.h"
#include "base/check.h"
#include "base/scratch.h"
#include "ops/arguments.h"
#include "ops/op_impl.h"

namespace sepconv {

void check_view(const char* name, const TensorView& view, const Shape& shape, Layout layout) {
  check(view.shape() == shape, "{}: shape is {}, the op was built for {}", name,
        to_string(view.shape()), to_string(shape));
  check<TypeError>(view.dtype() == DType::kFloat32, "{}: dtype is {}, expected float32", name,
                   to_string(view.dtype()));
  check(view.is_dense(layout), "{}: strides are not those of dense {} memory", name,
        to_string(layout));
  check(view.data() != nullptr || shape.elements() == 0, "{}: has no memory", name);
}

void check_workspace(std::span<std::byte> workspace, std::size_t bytes) {
  check(workspace.size() >= bytes, "workspace: has {} bytes, expected at least {}",
        workspace.size(), bytes);
  check(is_aligned(workspace.data()), "workspace: address is not a multiple of {}", kAlignment);
}

const Shape& Op::input_shape() const { return impl_->input; }
const Shape& Op::output_shape() const { return impl_->output; }
Layout Op::layout() const { return impl_->layout; }
std::size_t Op::workspace_bytes(int threads) const { return impl_->workspace_bytes(threads); }
std::string Op::describe() const { return impl_->describe(); }
double Op::flops() const { return impl_->flops(); }

void Op::run(const TensorView& x, const TensorView& y, std::span<std::byte> workspace,
             const ThreadPool& pool) const {
  check(!impl_->residual, "residual: missing, the op was built with one");
  run(x, TensorView(), y, workspace, pool);
}

void Op::run(const TensorView& x, const TensorView& residual, const TensorView& y,
             std::span<std::byte> workspace, const ThreadPool& pool) const {
  check_view("x", x, impl_->input, impl_->layout);
  check_view("y", y, impl_->output, impl_->layout);
  if (impl_->residual) check_view("residual", residual, impl_->output, impl_->layout);
  check_workspace(workspace, workspace_bytes(pool.threads()));
  if (impl_->output.elements() == 0) return;
  const float* sides[] = {impl_->residual ? residual.floats() : nullptr};
  impl_->run(x.floats(), std::span(sides, impl_->residual ? 1 : 0), y.floats(), workspace.data(),
             pool);
}

Tensor Op::operator()(const TensorView& x, const ThreadPool& pool) const {
  Tensor y(impl_->output, impl_->layout);
  run(x, y.view(), Scratch(workspace_bytes(pool.threads())).get(), pool);
  return y;
}

}  // namespace sepconv
