#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>

namespace sepconv {

/// One image in NHWC: `height` rows of `width` pixels of `channels` floats.
struct ImageShape {
  std::int64_t height, width, channels;
  std::int64_t row_floats() const { return width * channels; }
  bool operator==(const ImageShape&) const = default;
};

/// Rows [begin, end).
struct RowRange {
  std::int64_t begin, end;
  std::int64_t size() const { return std::max<std::int64_t>(end - begin, 0); }
};

/// A part of an op's output: rows, of which the first may begin and the last may end within, or
/// those of their tiles, and shares of the channels.
struct Part {
  RowRange rows, shares;
  std::int64_t first_column, end_column;
};

/// Input rows: row[i] points to pixel 0 of image row `first` + i, wherever that lies.
struct InputRows {
  const float* const* row;
  std::int64_t first;
  /// What every pixel is to be multiplied with first, by channel, for ops that can do that; or
  /// null.
  const float* scale = nullptr;
  /// Where the rows of whole images lie one after the other, so that behind these come those that
  /// are read next: the end of that; for ops that can fetch them ahead. Or null.
  const float* end = nullptr;
};

/// An operator whose output rows need only a few input rows each: what chains are made of.
///
/// It is built from its parameters and input shape; packing, tile and kernel are decided then. Rows
/// are dense ([width][channels], but for slices) and lie anywhere, so that a ring buffer and a
/// whole tensor look the same. Immutable; run_rows may be called from several threads with
/// workspaces of their own.
class RowOp {
 public:
  virtual ~RowOp() = default;

  const ImageShape& input() const { return input_; }
  const ImageShape& output() const { return output_; }

  /// The rows that exist in the input among those that output rows `out` need.
  virtual RowRange input_rows(RowRange out) const = 0;

  /// Scratch for one call of run_rows with at most `rows` output rows.
  virtual std::size_t workspace_bytes(std::int64_t rows) const = 0;

  /// Computes output rows `out`: y[i] is row out.begin + i. `second`, where not null, has a row of
  /// the second operand for each of y: a residual, or what the op says. x holds input_rows(out) at
  /// least.
  virtual void run_rows(RowRange out, const InputRows& x, const float* const* second,
                        float* const* y, std::byte* workspace) const = 0;

  /// How many shares of its channels can be computed apart, of nearly equal work, none sharing a
  /// cache line of the output with another.
  virtual std::int64_t shares() const { return 1; }
  /// The part of its time that every share of the channels takes again.
  virtual double repeated() const { return 0; }
  /// Columns that it computes at once: between them a part may begin and end.
  virtual std::int64_t column_tile() const { return std::max<std::int64_t>(1, output_.width); }
  /// These rows, whole.
  Part whole(RowRange rows) const { return {rows, {0, shares()}, 0, output_.width}; }
  /// Some rows, in whole tiles, of a part.
  Part piece(const Part& part, RowRange rows) const {
    return {rows, part.shares, rows.begin == part.rows.begin ? part.first_column : 0,
            rows.end == part.rows.end ? part.end_column : output_.width};
  }
  /// run_rows for a part alone; x, `second` and y have whole rows.
  virtual void run_part(const Part& part, const InputRows& x, const float* const* second,
                        float* const* y, std::byte* workspace) const {
    run_rows(part.rows, x, second, y, workspace);
  }

  /// The shape of the second operand, where run_rows takes one; one of a single row serves all
  /// rows.
  virtual ImageShape operand() const { return output_; }
  /// Rows that it computes at once: multiples of this many run fastest.
  virtual std::int64_t row_multiple() const { return 1; }
  /// Rows of which one takes as long to compute as all.
  virtual std::int64_t row_tile() const { return 1; }
  /// These rows and the others of their tiles.
  RowRange whole_tiles(RowRange rows) const {
    const std::int64_t tile = row_tile();
    if (rows.size() == 0) return rows;
    return {rows.begin / tile * tile,
            std::min((rows.end + tile - 1) / tile * tile, output_.height)};
  }
  /// Of the packed weights, all of which a call reads.
  virtual std::size_t weight_bytes() const { return 0; }
  /// What a call costs, however few its rows: as bytes that could be read from L2 meanwhile.
  virtual std::size_t call_bytes() const { return weight_bytes(); }
  /// Whether its output may be some channels of a wider image, without a second operand; its input.
  virtual bool can_write_slice() const { return false; }
  virtual bool can_read_slice() const { return false; }
  /// Makes it one: of an image with so many channels. Not once others use the op.
  virtual void write_slice_of(std::int64_t channels) { output_pixel_ = channels; }
  virtual void read_slice_of(std::int64_t channels) { input_pixel_ = channels; }
  /// Whether it goes along several rows at a time, and so wants pixels that L1 has places for.
  virtual bool goes_along_rows() const { return false; }
  /// Lets it write past the caches, where it can: its output is far larger than these. Not once
  /// others use the op.
  virtual void write_past_caches() {}
  /// Floats from one pixel to the next, and from one row of a whole image.
  std::int64_t input_pixel() const { return input_pixel_; }
  std::int64_t output_pixel() const { return output_pixel_; }
  std::int64_t input_row_floats() const { return input_.width * input_pixel_; }
  std::int64_t output_row_floats() const { return output_.width * output_pixel_; }
  /// Floating-point operations for one image.
  virtual double flops() const = 0;
  /// "conv 3x3 s2 6x16" …: what runs, for people.
  virtual std::string describe() const = 0;

 protected:
  RowOp(const ImageShape& input, const ImageShape& output)
      : input_(input),
        output_(output),
        input_pixel_(input.channels),
        output_pixel_(output.channels) {}

 private:
  ImageShape input_, output_;
  std::int64_t input_pixel_, output_pixel_;
};

}  // namespace sepconv
