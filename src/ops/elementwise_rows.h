#pragma once

#include <algorithm>
#include <vector>

#include "kernels/elementwise.h"
#include "ops/map.h"
#include "ops/row_wise.h"

namespace sepconv {

/// activation(x), or activation(x + residual) where the op adds, for what no convolution absorbed.
class ElementwiseRows final : public RowWise {
 public:
  ElementwiseRows(const ImageShape& shape, const Epilogue& epilogue, bool adds)
      : RowWise(shape, shape), epilogue_(epilogue), adds_(adds) {}

  std::string describe() const override { return adds_ ? "add" : "activation"; }

 private:
  void run_row(const float* x, const float* residual, float* y) const override {
    if (adds_) {
      kernels_->add(epilogue_, x, residual, y, pixels() * channels());
    } else {
      kernels_->activate(epilogue_, x, y, pixels() * channels());
    }
  }
  double flops_each() const override { return 1; }

  Epilogue epilogue_;
  bool adds_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// An elementary function of every element.
class FunctionRows final : public RowWise {
 public:
  FunctionRows(const ImageShape& shape, Function function)
      : RowWise(shape, shape), function_(function) {}

  std::string describe() const override { return to_string(function_); }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    kernels_->apply(function_, x, y, pixels() * channels());
  }
  double flops_each() const override { return 1; }

  Function function_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// x plus, or times, an image of its own.
class MapRows final : public RowOp {
 public:
  /// map: [C,H,W].
  MapRows(const ImageShape& shape, const float* map, bool multiplies)
      : RowOp(shape, shape), map_(map_of(shape, map)), multiplies_(multiplies) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    const auto floats = static_cast<std::size_t>(input().row_floats());
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const float* const row = map_.data() + r * input().row_floats();
      const float* const from = x.row[r - x.first];
      if (multiplies_) {
        kernels_->scale_channels(from, row, y[r - out.begin], 1, floats);
      } else {
        kernels_->add(Epilogue(), from, row, y[r - out.begin], floats);
      }
    }
  }
  double flops() const override {
    return static_cast<double>(input().height * input().row_floats());
  }
  std::string describe() const override { return multiplies_ ? "times a map" : "add a map"; }

 private:
  Tensor map_;
  bool multiplies_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// x where a map is not zero, the second operand elsewhere.
class ChooseRows final : public RowOp {
 public:
  /// map: [C,H,W].
  ChooseRows(const ImageShape& shape, const float* map)
      : RowOp(shape, shape), map_(map_of(shape, map)) {}

  RowRange input_rows(RowRange out) const override { return out; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const* second, float* const* y,
                std::byte*) const override {
    const std::int64_t floats = input().row_floats();
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const std::int64_t i = r - out.begin;
      kernels_->choose(map_.data() + r * floats, x.row[r - x.first], second[i], y[i],
                       static_cast<std::size_t>(floats));
    }
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "choose by a map"; }

 private:
  Tensor map_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// x and the second operand, element by element.
class BinaryRows final : public RowWise {
 public:
  enum class Kind { kProduct, kQuotient, kMaximum };

  BinaryRows(const ImageShape& shape, Kind kind) : RowWise(shape, shape), kind_(kind) {}

  std::string describe() const override {
    static constexpr const char* kNames[] = {"multiply", "divide", "maximum"};
    return kNames[static_cast<int>(kind_)];
  }

 private:
  void run_row(const float* x, const float* other, float* y) const override {
    const std::size_t floats = pixels() * channels();
    switch (kind_) {
      case Kind::kProduct:
        return kernels_->scale_channels(x, other, y, 1, floats);
      case Kind::kQuotient:
        return kernels_->divide(x, other, y, floats);
      case Kind::kMaximum:
        return kernels_->maximum(x, other, y, floats);
    }
  }
  double flops_each() const override { return 1; }

  Kind kind_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// Every pixel times one vector of channels, the second operand: squeeze-excite's scale.
class ScaleRows final : public RowWise {
 public:
  explicit ScaleRows(const ImageShape& shape) : RowWise(shape, shape) {}

  ImageShape operand() const override { return {1, 1, input().channels}; }
  std::string describe() const override { return "scale"; }

 private:
  void run_row(const float* x, const float* scale, float* y) const override {
    kernels_->scale_channels(x, scale, y, pixels(), channels());
  }
  double flops_each() const override { return 1; }

  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// Every pixel times a number of its own, the second operand: spatial attention.
class ScalePixelsRows final : public RowWise {
 public:
  explicit ScalePixelsRows(const ImageShape& shape) : RowWise(shape, shape) {}

  ImageShape operand() const override { return {input().height, input().width, 1}; }
  std::string describe() const override { return "scale pixels"; }

 private:
  void run_row(const float* x, const float* factors, float* y) const override {
    kernels_->scale_pixels(x, factors, y, pixels(), channels());
  }
  double flops_each() const override { return 1; }

  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// x, times a number for each channel where it is negative.
class PReluRows final : public RowWise {
 public:
  PReluRows(const ImageShape& shape, const float* slope)
      : RowWise(shape, shape), slope_(slope, slope + shape.channels) {}

  std::string describe() const override { return "prelu"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    kernels_->prelu(x, slope_.data(), y, pixels(), channels());
  }
  double flops_each() const override { return 1; }

  std::vector<float> slope_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// activation(x · s + t) with s and t, a number for each channel, one after the other in the second
/// operand: what a group norm has found.
class ScaleShiftRows final : public RowWise {
 public:
  ScaleShiftRows(const ImageShape& shape, const Epilogue& epilogue)
      : RowWise(shape, shape), epilogue_(epilogue) {}

  ImageShape operand() const override { return {1, 1, 2 * input().channels}; }
  std::string describe() const override { return "scale and shift"; }

 private:
  void run_row(const float* x, const float* s, float* y) const override {
    kernels_->affine(epilogue_, x, s, s + channels(), y, pixels(), channels());
  }
  double flops_each() const override { return 2; }

  Epilogue epilogue_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

/// activation(x · scale + shift) by channel: a batch norm that no layer absorbed.
class AffineRows final : public RowWise {
 public:
  AffineRows(const ImageShape& shape, std::vector<float> scale, std::vector<float> shift,
             const Epilogue& epilogue)
      : RowWise(shape, shape),
        scale_(std::move(scale)),
        shift_(std::move(shift)),
        epilogue_(epilogue) {
    // A whole row as one pixel: of few channels a vector holds several.
    if (channels() >= kernels_->lanes) return;
    const std::size_t all = channels() * pixels();
    for (std::vector<float>* v : {&scale_, &shift_}) {
      v->reserve(all);
      while (v->size() < all) v->push_back((*v)[v->size() - channels()]);
    }
  }

  std::string describe() const override { return "scale and shift"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const std::size_t n = std::max<std::size_t>(scale_.size(), 1);
    kernels_->affine(epilogue_, x, scale_.data(), shift_.data(), y, pixels() * channels() / n, n);
  }
  double flops_each() const override { return 2; }

  std::vector<float> scale_, shift_;
  Epilogue epilogue_;
  const ElementwiseKernels* kernels_ = &elementwise_kernels();
};

}  // namespace sepconv
