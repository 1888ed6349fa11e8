#pragma once

#include <algorithm>
#include <vector>

#include "base/sizes.h"
#include "ops/copy_pixels.h"
#include "ops/map.h"
#include "ops/row_wise.h"

namespace sepconv {

/// A map, whatever the input.
class ConstantRows final : public RowOp {
 public:
  /// map: [C,H,W].
  ConstantRows(const ImageShape& input, const ImageShape& output, const float* map)
      : RowOp(input, output), map_(map_of(output, map)) {}

  RowRange input_rows(RowRange) const override { return {0, 0}; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows&, const float* const*, float* const* y,
                std::byte*) const override {
    const std::int64_t floats = output().row_floats();
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      std::copy_n(map_.data() + r * floats, floats, y[r - out.begin]);
    }
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "constant"; }

 private:
  Tensor map_;
};

/// The first row of an image, alone: a class token, where rows are tokens.
class FirstRow final : public RowOp {
 public:
  explicit FirstRow(const ImageShape& input) : RowOp(input, {1, input.width, input.channels}) {}

  RowRange input_rows(RowRange) const override { return {0, 1}; }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    std::copy_n(x.row[-x.first], input().row_floats(), y[0]);
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "first row"; }
};

/// Rows in any order.
class PickedRows final : public RowOp {
 public:
  PickedRows(const ImageShape& input, std::vector<std::int64_t> rows)
      : RowOp(input, {static_cast<std::int64_t>(rows.size()), input.width, input.channels}),
        rows_(std::move(rows)) {}

  RowRange input_rows(RowRange out) const override {
    if (out.begin >= out.end) return {0, 0};
    const auto [least, most] =
        std::minmax_element(rows_.begin() + out.begin, rows_.begin() + out.end);
    return {*least, *most + 1};
  }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      const std::int64_t from = rows_[static_cast<std::size_t>(r)];
      std::copy_n(x.row[from - x.first], input().row_floats(), y[r - out.begin]);
    }
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "picked rows"; }

 private:
  std::vector<std::int64_t> rows_;
};

/// Channels in any order.
class PickedChannels final : public RowWise {
 public:
  PickedChannels(const ImageShape& input, const std::vector<std::int64_t>& channels)
      : RowWise(input, {input.height, input.width, static_cast<std::int64_t>(channels.size())}),
        from_(channels.begin(), channels.end()) {}

  std::string describe() const override { return "picked channels"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const std::size_t count = from_.size();
    for (std::size_t p = 0; p < pixels(); ++p, x += channels(), y += count) {
      for (std::size_t c = 0; c < count; ++c) y[c] = x[from_[c]];
    }
  }
  double flops_each() const override { return 0; }

  std::vector<std::uint32_t> from_;
};

/// All rows but the first, each a pixel of the result: patches, where rows are tokens.
class OtherRows final : public RowOp {
 public:
  OtherRows(const ImageShape& input, const ImageShape& output) : RowOp(input, output) {}

  RowRange input_rows(RowRange out) const override {
    return {1 + out.begin * output().width, 1 + out.end * output().width};
  }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
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
  double flops() const override { return 0; }
  std::string describe() const override { return "other rows"; }
};

/// An image within a larger one of more height, width or channels, all the rest of which is one
/// number.
class PadRows final : public RowOp {
 public:
  /// `top`, `left` and `first`: where the image's first row, column and channel come to lie.
  PadRows(const ImageShape& input, const ImageShape& output, std::int64_t top, std::int64_t left,
          std::int64_t first, float value)
      : RowOp(input, output), top_(top), left_(left), first_(first), value_(value) {}

  RowRange input_rows(RowRange out) const override {
    return {std::clamp<std::int64_t>(out.begin - top_, 0, input().height),
            std::clamp<std::int64_t>(out.end - top_, 0, input().height)};
  }
  std::size_t workspace_bytes(std::int64_t) const override { return 0; }
  void run_rows(RowRange out, const InputRows& x, const float* const*, float* const* y,
                std::byte*) const override {
    const std::int64_t channels = input().channels, wide = output().channels;
    for (std::int64_t r = out.begin; r < out.end; ++r) {
      float* const to = y[r - out.begin];
      std::fill_n(to, output().row_floats(), value_);
      if (r < top_ || r >= top_ + input().height) continue;
      const float* const from = x.row[r - top_ - x.first];
      copy_pixels(from, to_size(channels), to + left_ * wide + first_, to_size(wide),
                  to_size(channels), to_size(input().width));
    }
  }
  double flops() const override { return 0; }
  std::string describe() const override { return "pad"; }

 private:
  std::int64_t top_, left_, first_;
  float value_;
};

/// Channels [first, first + output.channels).
class ChannelsRows final : public RowWise {
 public:
  ChannelsRows(const ImageShape& input, std::int64_t first, std::int64_t count)
      : RowWise(input, {input.height, input.width, count}), first_(first) {}

  std::string describe() const override { return "channels"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const std::size_t count = to_size(output().channels);
    copy_pixels(x + first_, channels(), y, count, count, pixels());
  }
  double flops_each() const override { return 0; }

  std::int64_t first_;
};

/// Channels of `groups` groups in turns, one of each.
class ShuffledRows final : public RowWise {
 public:
  ShuffledRows(const ImageShape& input, std::int64_t groups)
      : RowWise(input, input), groups_(to_size(groups)) {}

  std::string describe() const override { return "channel shuffle"; }

 private:
  void run_row(const float* x, const float*, float* y) const override {
    const std::size_t each = channels() / groups_;
    for (std::size_t p = 0; p < pixels(); ++p, x += groups_ * each) {
      for (std::size_t j = 0; j < each; ++j) {
        for (std::size_t i = 0; i < groups_; ++i) *y++ = x[i * each + j];
      }
    }
  }
  double flops_each() const override { return 0; }

  std::size_t groups_;
};

}  // namespace sepconv
