#include "sepconv/tensor.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>

#include "base/aligned.h"
#include "base/check.h"

namespace sepconv {

namespace {
constexpr std::int64_t kMaxElements = std::int64_t{1} << 47;
}

std::size_t size_of(DType dtype) {
  switch (dtype) {
    case DType::kFloat64:
    case DType::kInt64:
      return 8;
    case DType::kFloat32:
    case DType::kInt32:
      return 4;
    case DType::kFloat16:
    case DType::kBFloat16:
      return 2;
    case DType::kUInt8:
      return 1;
  }
  return 0;
}

std::string to_string(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
      return "float32";
    case DType::kFloat64:
      return "float64";
    case DType::kFloat16:
      return "float16";
    case DType::kBFloat16:
      return "bfloat16";
    case DType::kInt64:
      return "int64";
    case DType::kInt32:
      return "int32";
    case DType::kUInt8:
      return "uint8";
  }
  return "unknown";
}

std::string to_string(Layout layout) { return layout == Layout::kNCHW ? "NCHW" : "NHWC"; }

Shape::Shape(std::initializer_list<std::int64_t> dims)
    : Shape(dims.begin(), static_cast<int>(dims.size())) {}

Shape::Shape(const std::int64_t* dims, int rank) : rank_(rank) {
  check(rank >= 0 && rank <= kMaxRank, "shape: got {} dimensions, expected at most {}", rank,
        kMaxRank);
  std::int64_t elements = 1;
  for (int i = 0; i < rank; ++i) {
    check(dims[i] >= 0, "shape: dimension {} is {}, expected at least 0", i, dims[i]);
    dims_[static_cast<std::size_t>(i)] = dims[i];
    elements = checked_multiply(elements, std::max<std::int64_t>(dims[i], 1), "shape");
  }
  check(elements <= kMaxElements, "shape: {} has too many elements", to_string(*this));
}

std::int64_t Shape::elements() const {
  std::int64_t n = 1;
  for (int i = 0; i < rank_; ++i) n *= (*this)[i];
  return n;
}

std::string to_string(const Shape& shape) {
  std::string text = "[";
  for (int i = 0; i < shape.rank(); ++i) text += fmt::format("{}{}", i ? ", " : "", shape[i]);
  return text + "]";
}

std::array<std::int64_t, Shape::kMaxRank> dense_strides(const Shape& shape, Layout layout) {
  std::array<std::int64_t, Shape::kMaxRank> strides{};
  if (shape.rank() == 4 && layout == Layout::kNHWC) {
    return {shape[1] * shape[2] * shape[3], 1, shape[3] * shape[1], shape[1]};
  }
  std::int64_t stride = 1;
  for (int i = shape.rank() - 1; i >= 0; --i) {
    strides[static_cast<std::size_t>(i)] = stride;
    stride *= shape[i];
  }
  return strides;
}

TensorView::TensorView(float* data, const Shape& shape, Layout layout)
    : data_(data), shape_(shape), strides_(dense_strides(shape, layout)) {}

TensorView::TensorView(void* data, const Shape& shape,
                       const std::array<std::int64_t, Shape::kMaxRank>& strides, DType dtype)
    : data_(data), shape_(shape), strides_(strides), dtype_(dtype) {}

float* TensorView::floats() const {
  check<TypeError>(dtype_ == DType::kFloat32, "tensor: dtype is {}, expected float32",
                   to_string(dtype_));
  return static_cast<float*>(data_);
}

bool TensorView::is_dense(Layout layout) const {
  const auto dense = dense_strides(shape_, layout);
  if (shape_.elements() == 0) return true;
  for (int i = 0; i < shape_.rank(); ++i) {
    if (shape_[i] > 1 && stride(i) != dense[static_cast<std::size_t>(i)]) return false;
  }
  return true;
}

Tensor::Tensor(const Shape& shape, Layout layout) : shape_(shape), layout_(layout) {
  data_.reset(make_aligned<float>(static_cast<std::size_t>(shape.elements())).release());
}

Tensor Tensor::shape_only(const Shape& shape) {
  Tensor tensor;
  tensor.shape_ = shape;
  return tensor;
}

std::shared_ptr<const Tensor> Tensor::borrow(const float* data, const Shape& shape,
                                             std::shared_ptr<const void> owner) {
  Tensor tensor;
  tensor.data_ = {const_cast<float*>(data), Free{std::move(owner)}};
  tensor.shape_ = shape;
  return std::make_shared<const Tensor>(std::move(tensor));
}

void Tensor::Free::operator()(float* p) const {
  if (!owner) AlignedFree{}(p);
}

namespace {

// Element i of the first dimension.
TensorView element(const TensorView& of, std::int64_t i) {
  std::array<std::int64_t, Shape::kMaxRank> dims{}, strides{};
  for (int d = 1; d < of.shape().rank(); ++d) {
    dims[static_cast<std::size_t>(d - 1)] = of.shape()[d];
    strides[static_cast<std::size_t>(d - 1)] = of.stride(d);
  }
  return {of.floats() + i * of.stride(0), Shape(dims.data(), of.shape().rank() - 1), strides,
          of.dtype()};
}

}  // namespace

void copy(const TensorView& from, const TensorView& to) {
  check(from.shape() == to.shape(), "copy: shapes {} and {} differ", to_string(from.shape()),
        to_string(to.shape()));
  const float* source = from.floats();
  float* target = to.floats();
  const Shape& s = from.shape();
  for (const Layout layout : {Layout::kNCHW, Layout::kNHWC}) {
    if (!from.is_dense(layout) || !to.is_dense(layout)) continue;
    std::copy_n(source, s.elements(), target);
    return;
  }
  if (s.rank() > 4) {
    for (std::int64_t i = 0; i < s[0]; ++i) copy(element(from, i), element(to, i));
    return;
  }
  std::array<std::int64_t, 4> n{1, 1, 1, 1}, a{}, b{};
  for (int i = 0; i < s.rank(); ++i) {
    const auto k = static_cast<std::size_t>(4) - static_cast<std::size_t>(s.rank() - i);
    n[k] = s[i];
    a[k] = from.stride(i);
    b[k] = to.stride(i);
  }
  // Walk the target in its own order: whichever dimension is densest there goes innermost.
  std::array<std::size_t, 4> order{0, 1, 2, 3};
  std::stable_sort(order.begin(), order.end(),
                   [&](std::size_t i, std::size_t j) { return b[i] > b[j]; });
  const auto [o0, o1, o2, o3] = order;
  for (std::int64_t i = 0; i < n[o0]; ++i) {
    for (std::int64_t j = 0; j < n[o1]; ++j) {
      for (std::int64_t k = 0; k < n[o2]; ++k) {
        const float* p = source + i * a[o0] + j * a[o1] + k * a[o2];
        float* q = target + i * b[o0] + j * b[o1] + k * b[o2];
        for (std::int64_t l = 0; l < n[o3]; ++l) q[l * b[o3]] = p[l * a[o3]];
      }
    }
  }
}

}  // namespace sepconv
