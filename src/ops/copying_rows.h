#pragma once

#include <algorithm>

#include "ops/row_op.h"

namespace sepconv {

/// A row op that moves values and changes none.
class CopyingRows : public RowOp {
 public:
  using RowOp::RowOp;
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  double flops() const override { return 0; }
};

/// The first row of an image, alone: a class token, where rows are tokens.
class FirstRow final : public CopyingRows {
 public:
  explicit FirstRow(const ImageShape& input)
      : CopyingRows(input, {1, input.width, input.channels}) {}

  RowRange input_rows(RowRange) const override { return {0, 1}; }
  void run_rows(RowRange, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    std::copy_n(x.row[-x.first], input().row_floats(), y[0]);
  }
  std::string describe() const override { return "first row"; }
};

/// All rows but the first, each a pixel of the result: patches, where rows are tokens.
class OtherRows final : public CopyingRows {
 public:
  OtherRows(const ImageShape& input, const ImageShape& output) : CopyingRows(input, output) {}

  RowRange input_rows(RowRange out) const override {
    return {1 + out.begin * output().width, 1 + out.end * output().width};
  }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    const std::int64_t channels = input().channels;
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const float* const* token = x.row + (1 + r * output().width - x.first);
      for (std::int64_t p = 0; p < output().width; ++p) {
        std::copy_n(token[p], channels, y[r - out.begin] + p * channels);
      }
    }
  }
  std::string describe() const override { return "other rows"; }
};

/// Channels [first, first + output.channels).
class ChannelsRows final : public CopyingRows {
 public:
  ChannelsRows(const ImageShape& input, std::int64_t first, std::int64_t count)
      : CopyingRows(input, {input.height, input.width, count}), first_(first) {}

  RowRange input_rows(RowRange out) const override { return out; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const float* from = x.row[r - x.first] + first_;
      float* to = y[r - out.begin];
      for (std::int64_t p = 0; p < input().width; ++p, from += input().channels) {
        to = std::copy_n(from, output().channels, to);
      }
    }
  }
  std::string describe() const override { return "channels"; }

 private:
  std::int64_t first_;
};

}  // namespace sepconv
