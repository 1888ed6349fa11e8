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
#include "kernels/vector_math.h"
#include "ops/arguments.h"
#include "ops/pixel_parts.h"

namespace sepconv {

// Pixels in parts that stay in L1 or L2 for a second look, each with sums of its own; the parts'
// are added up in order, in double.
struct BatchNorm::Impl {
  Shape shape;
  Epilogue activation;
  double epsilon;
  std::size_t pixels, channels;
  const BatchNormKernels* kernels = &batch_norm_kernels();
  const VectorMathKernels* math = &vector_math_kernels();

  Impl(const Shape& s, const Activation& a, float e) : shape(s), activation(a), epsilon(e) {
    check(s.rank() == 4 && s.elements() > 0, "x: shape is {}, expected [N, C, H, W] with a pixel",
          to_string(s));
    check(e >= 0, "epsilon: got {}, expected 0 or more", e);
    channels = to_size(s[1]);
    pixels = to_size(s.elements()) / channels;
  }

  std::size_t part_pixels() const { return pixels_of_part(channels); }
  std::size_t parts() const { return divide_up(pixels, part_pixels()); }
  std::size_t row_bytes() const { return align_up(channels * sizeof(float)); }
  float* row(std::byte* workspace, std::size_t i) const {
    return reinterpret_cast<float*>(workspace + i * row_bytes());
  }
  // Two rows of sums for each part, then rows for all: scale, shift and two more.
  std::size_t workspace_bytes() const { return (2 * parts() + 4) * row_bytes(); }
  std::byte* rows_for_all(std::byte* workspace) const {
    return workspace + 2 * parts() * row_bytes();
  }

  BatchNormPixels part(std::size_t i, const float* x, const float* dy) const {
    const std::size_t first = i * part_pixels();
    BatchNormPixels a{};
    a.x = x + first * channels;
    a.dy = dy ? dy + first * channels : nullptr;
    a.pixels = std::min(part_pixels(), pixels - first);
    a.channels = channels;
    a.activation = activation;
    return a;
  }

  // Whether a result goes past the caches: so many images are more than these.
  bool streams(std::size_t images, const float* to) const {
    return outgrows_caches(images * pixels * channels) && channels % kLineFloats == 0 &&
           is_aligned(to);
  }

  // By channel; the parts' means and squared deviations join as in Chan, Golub and LeVeque, 1979.
  void moments(const float* x, float* mean, float* variance, std::byte* workspace,
               const ThreadPool& pool) const {
    pool.parallel_for(parts(), [&](std::size_t i) {
      BatchNormPixels a = part(i, x, nullptr);
      float* of_part = row(workspace, 2 * i);
      math->sum_row(a.x, a.pixels, 1.0F / static_cast<float>(a.pixels), of_part, channels);
      a.mean = of_part;
      kernels->squared_deviations(a, row(workspace, 2 * i + 1));
    });
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0, squares = 0;
      const auto each_part = [&](const auto& add) {
        for (std::size_t i = 0; i < parts(); ++i) {
          add(static_cast<double>(part(i, x, nullptr).pixels),
              static_cast<double>(row(workspace, 2 * i)[c]),
              static_cast<double>(row(workspace, 2 * i + 1)[c]));
        }
      };
      each_part([&](double n, double part_mean, double) { sum += n * part_mean; });
      const double all = sum / static_cast<double>(pixels);
      each_part([&](double n, double part_mean, double part_squares) {
        squares += part_squares + n * (part_mean - all) * (part_mean - all);
      });
      mean[c] = static_cast<float>(all);
      variance[c] = static_cast<float>(squares / static_cast<double>(pixels));
    }
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
    for (std::size_t c = 0; c < channels; ++c) {
      double sum = 0, products = 0;
      for (std::size_t i = 0; i < parts(); ++i) {
        sum += static_cast<double>(row(sums, 2 * i)[c]);
        products += static_cast<double>(row(sums, 2 * i + 1)[c]);
      }
      const double squared = static_cast<double>(variance[c]) + epsilon;
      dbias[c] = static_cast<float>(sum);
      dweight[c] = static_cast<float>(products / std::sqrt(squared));
      slope[c] = static_cast<float>(products / (squared * n));
      level[c] = static_cast<float>(sum / n);
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
  op.moments(x.floats(), mean.floats(), variance.floats(), workspace.data(), pool);
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
