#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <string>

namespace sepconv {

/// Element types that tensors and weight files may have. Computation is in kFloat32.
enum class DType { kFloat32, kFloat64, kFloat16, kBFloat16, kInt64, kInt32, kUInt8 };

/// Bytes of one element.
std::size_t size_of(DType dtype);
std::string to_string(DType dtype);

/// Order of a 4-D tensor's elements in memory. Shapes are always written [N, C, H, W].
enum class Layout {
  kNCHW,  ///< width fastest; PyTorch's contiguous format
  kNHWC,  ///< channels fastest; PyTorch's channels_last
};

std::string to_string(Layout layout);

/// Up to eight dimensions, mostly [N, C, H, W]. Sizes are ≥ 0; a zero makes the tensor empty.
class Shape {
 public:
  static constexpr int kMaxRank = 8;

  Shape() = default;
  /// Throws ArgumentError on a negative size, rank > 8, or an element count over 2^47.
  Shape(std::initializer_list<std::int64_t> dims);
  Shape(const std::int64_t* dims, int rank);

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return dims_[static_cast<std::size_t>(i)]; }
  /// Product of the sizes; 1 for rank 0.
  std::int64_t elements() const;
  bool operator==(const Shape&) const = default;

 private:
  std::array<std::int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

/// "[1, 3, 224, 224]".
std::string to_string(const Shape& shape);

/// A shape, strides (in elements) and a pointer to memory that someone else owns.
class TensorView {
 public:
  TensorView() = default;
  /// Dense memory in `layout`; `layout` matters for rank 4 only.
  TensorView(float* data, const Shape& shape, Layout layout = Layout::kNCHW);
  TensorView(void* data, const Shape& shape,
             const std::array<std::int64_t, Shape::kMaxRank>& strides, DType dtype);

  const Shape& shape() const { return shape_; }
  std::int64_t stride(int i) const { return strides_[static_cast<std::size_t>(i)]; }
  DType dtype() const { return dtype_; }
  void* data() const { return data_; }
  /// The elements as float32; throws TypeError for another dtype.
  float* floats() const;
  /// True if the strides are those of dense memory in `layout`. Strides of dimensions of size 1 do
  /// not matter, so a view may be dense in both layouts.
  bool is_dense(Layout layout) const;

 private:
  void* data_ = nullptr;
  Shape shape_;
  std::array<std::int64_t, Shape::kMaxRank> strides_{};
  DType dtype_ = DType::kFloat32;
};

/// Strides in elements of dense memory.
std::array<std::int64_t, Shape::kMaxRank> dense_strides(const Shape& shape, Layout layout);

/// An axis of a value (0 to 3: N, C, H, W), or a factor of it: every `step`-th index, or with a
/// step of 0 the same one again and again.
struct AxisFactor {
  int axis;
  std::int64_t size, step = 1;
  bool operator==(const AxisFactor&) const = default;
};

/// A float32 tensor that owns its memory, aligned to 64 bytes. Move-only.
class Tensor {
 public:
  Tensor() = default;
  /// Elements start as zero.
  explicit Tensor(const Shape& shape, Layout layout = Layout::kNCHW);
  /// A shape without elements, whose data() is null: for asking what a network would be.
  static Tensor shape_only(const Shape& shape);
  /// A tensor to be read only, over someone else's dense float32 memory of this shape (NCHW, on any
  /// boundary of a float), which `owner`, not null, keeps as long as the tensor is used.
  static std::shared_ptr<const Tensor> borrow(const float* data, const Shape& shape,
                                              std::shared_ptr<const void> owner);

  const Shape& shape() const { return shape_; }
  Layout layout() const { return layout_; }
  float* data() { return data_.get(); }
  const float* data() const { return data_.get(); }
  TensorView view() const { return TensorView(data_.get(), shape_, layout_); }

 private:
  struct Free {
    std::shared_ptr<const void> owner;  ///< of borrowed memory
    void operator()(float* p) const;
  };
  std::unique_ptr<float[], Free> data_;
  Shape shape_;
  Layout layout_ = Layout::kNCHW;
};

/// Copies `from` to `to`: same shape, float32, any strides on both sides.
void copy(const TensorView& from, const TensorView& to);

/// Gives back to the system what calls that made their own workspace have kept for the next ones.
void empty_cache();

}  // namespace sepconv
