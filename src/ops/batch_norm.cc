#include "sepconv/batch_norm.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "base/aligned.h"
#include "base/check.h"
#include "base/cpu.h"
#include "base/sizes.h"
#include "kernels/batch_norm.h"
#include "ops/arguments.h"
#include "ops/moments.h"

namespace sepconv {

// Sums of the gradient are made like moments: by parts, added up in order, in double.
struct BatchNorm::Impl {
  Shape shape;
  Epilogue activation;
  double epsilon;
  Moments moments;
  std::size_t pixels = moments.pixels(), channels = moments.channels();
  const BatchNormKernels* kernels = &batch_norm_kernels();

  Impl(const Shape& s, const Activation& a, float e)
      : shape(checked(s)), activation(a), epsilon(e), moments(pixels_of(s), to_size(s[1])) {
    check(e >= 0, "epsilon: got {}, expected 0 or more", e);
  }

  static const Shape& checked(const Shape& s) {
    check(s.rank() == 4 && s.elements() > 0, "x: shape is {}, expected [N, C, H, W] with a pixel",
          to_string(s));
    return s;
  }
  static std::size_t pixels_of(const Shape& s) { return to_size(s.elements() / s[1]); }

  std::size_t parts() const { return moments.parts(); }
  float* row(std::byte* workspace, std::size_t i) const { return moments.row(workspace, i); }
  // The parts' rows of sums, then rows for all: scale, shift and two more.
  std::size_t workspace_bytes() const {
    return moments.workspace_bytes() + 4 * moments.row_bytes();
  }
  std::byte* rows_for_all(std::byte* workspace) const {
    return workspace + moments.workspace_bytes();
  }

  BatchNormPixels part(std::size_t i, const float* x, const float* dy) const {
    const Moments::Part pixels_of_part = moments.part(i);
    const std::size_t first = pixels_of_part.first * channels;
    BatchNormPixels a{};
    a.x = x + first;
    a.dy = dy ? dy + first : nullptr;
    a.pixels = pixels_of_part.count;
    a.channels = channels;
    a.activation = activation;
    return a;
  }

  // Whether a result goes past the caches: so many images are more than these.
  bool streams(std::size_t images, const float* to) const {
    return outgrows_caches(images * pixels * channels) && channels % kLineFloats == 0 &&
           is_aligned(to);
  }

  // What takes x to the activation.
  void affine(const float* weight, const float* bias, const float* mean, const float* variance,
              float* scale, float* shift) const {
    for (std::size_t c = 0; c < channels; ++c) {
      const double factor =
          static_cast<double>(weight[c]) / std::sqrt(static_cast<double>(variance[c]) + epsilon);
      scale[c] = static_cast<float>(factor);
      shift[c] =
          static_cast<float>(static_cast<double>(bias[c]) - static_cast<double>(mean[c]) * factor);
    }
  }

  // The parts' gradient sums to those of weight and bias, and to what dx takes from them.
  void join_sums(const float* variance, std::byte* sums, float* dweight, float* dbias, float* slope,
                 float* level) const {
    const auto n = static_cast<double>(pixels);
    double *const of_g = moments.totals(sums), *const products = of_g + channels;
    std::fill_n(of_g, 2 * channels, 0.0);
    for (std::size_t i = 0; i < parts(); ++i) {
      const float *g = row(sums, 2 * i), *product = row(sums, 2 * i + 1);
      for (std::size_t c = 0; c < channels; ++c) {
        of_g[c] += static_cast<double>(g[c]);
        products[c] += static_cast<double>(product[c]);
      }
    }
    for (std::size_t c = 0; c < channels; ++c) {
      const double squared = static_cast<double>(variance[c]) + epsilon;
      dbias[c] = static_cast<float>(of_g[c]);
      dweight[c] = static_cast<float>(products[c] / std::sqrt(squared));
      slope[c] = static_cast<float>(products[c] / (squared * n));
      level[c] = static_cast<float>(of_g[c] / n);
    }
  }
};

BatchNorm::BatchNorm(const Shape& shape, const Activation& activation, float epsilon)
    : impl_(std::make_shared<Impl>(shape, activation, epsilon)) {}

const Shape& BatchNorm::shape() const { return impl_->shape; }

std::size_t BatchNorm::workspace_bytes(int) const { return impl_->workspace_bytes(); }

namespace {

using Named = std::pair<const char*, const TensorView*>;

void check_all(const Shape& shape, std::initializer_list<Named> images,
               std::initializer_list<Named> rows) {
  for (const auto& [name, view] : images) check_view(name, *view, shape, Layout::kNHWC);
  for (const auto& [name, view] : rows) check_view(name, *view, {shape[1]}, Layout::kNCHW);
}

}  // namespace

void BatchNorm::run(const TensorView& x, const TensorView& weight, const TensorView& bias,
                    const TensorView& y, const TensorView& mean, const TensorView& variance,
                    std::span<std::byte> workspace, const ThreadPool& pool) const {
  const Impl& op = *impl_;
  check_all(op.shape, {{"x", &x}, {"y", &y}},
            {{"weight", &weight}, {"bias", &bias}, {"mean", &mean}, {"variance", &variance}});
  check_workspace(workspace, workspace_bytes(pool.threads()));
  op.moments.run(x.floats(), mean.floats(), variance.floats(), workspace.data(), pool);
  std::byte* const all = op.rows_for_all(workspace.data());
  float *scale = op.row(all, 0), *shift = op.row(all, 1);
  op.affine(weight.floats(), bias.floats(), mean.floats(), variance.floats(), scale, shift);
  const bool streams = op.streams(2, y.floats());
  pool.parallel_for(op.parts(), [&](std::size_t i) {
    BatchNormPixels a = op.part(i, x.floats(), nullptr);
    a.scale = scale;
    a.shift = shift;
    a.streams = streams;
    op.kernels->normalize(a, y.floats() + (a.x - x.floats()));
  });
}

void BatchNorm::run_backward(const TensorView& x, const TensorView& dy, const TensorView& weight,
                             const TensorView& bias, const TensorView& mean,
                             const TensorView& variance, const TensorView& dx,
                             const TensorView& dweight, const TensorView& dbias,
                             std::span<std::byte> workspace, const ThreadPool& pool) const {
  const Impl& op = *impl_;
  check_all(op.shape, {{"x", &x}, {"dy", &dy}, {"dx", &dx}},
            {{"weight", &weight},
             {"bias", &bias},
             {"mean", &mean},
             {"variance", &variance},
             {"dweight", &dweight},
             {"dbias", &dbias}});
  check_workspace(workspace, workspace_bytes(pool.threads()));
  std::byte *const sums = workspace.data(), *const all = op.rows_for_all(sums);
  float *scale = op.row(all, 0), *shift = op.row(all, 1);
  float *slope = op.row(all, 2), *level = op.row(all, 3);
  op.affine(weight.floats(), bias.floats(), mean.floats(), variance.floats(), scale, shift);
  const auto part = [&](std::size_t i) {
    BatchNormPixels a = op.part(i, x.floats(), dy.floats());
    a.scale = scale;
    a.shift = shift;
    a.mean = mean.floats();
    return a;
  };
  pool.parallel_for(op.parts(), [&](std::size_t i) {
    op.kernels->gradient_sums(part(i), op.row(sums, 2 * i), op.row(sums, 2 * i + 1));
  });
  op.join_sums(variance.floats(), sums, dweight.floats(), dbias.floats(), slope, level);
  const bool streams = op.streams(3, dx.floats());
  pool.parallel_for(op.parts(), [&](std::size_t i) {
    BatchNormPixels a = part(i);
    a.streams = streams;
    op.kernels->input_gradient(a, slope, level, dx.floats() + (a.x - x.floats()));
  });
}

}  // namespace sepconv
