#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "kernels/epilogue.h"
#include "kernels/gemm.h"
#include "kernels/gemv.h"
#include "ops/amx_product.h"
#include "ops/error_bound.h"
#include "ops/gemm_weights.h"
#include "ops/paired_product.h"
#include "ops/pixel_runs.h"
#include "ops/row_op.h"

namespace sepconv {

/// Pixels times weights, group by group: a pixel's taps · k values, in runs of k, by the weights of
/// `columns` output channels.
struct ProductShape {
  std::size_t pixels;  ///< of an image
  std::size_t groups, columns, taps, k;
  std::size_t joined = 1;  ///< taps of the window that make one run, without groups
  bool sparse = false;     ///< pixels may lack taps

  std::size_t products() const { return taps * k; }
  std::size_t channels() const { return k / joined; }  ///< of a group's input
  PairedShape in_pairs() const { return {pixels, groups, columns, taps, k}; }
};

/// Packed weights, and where a product's start among them.
struct PackedPanels {
  SharedWeights all;
  std::size_t weight = 0;
  std::size_t column = 0;                         ///< that its bias starts at
  bool followed = false;                          ///< what lies behind its weights is read next
  std::optional<PairedSet> pairs = std::nullopt;  ///< how they were packed
};

/// All of a layer's, in pairs if that pays and the bound allows it: weight
/// [groups · columns][channels][taps of the window], bias [groups · columns] or null.
PackedPanels pack_panels(const ProductShape& shape, const LayerWeights& weights, ErrorBound bound);

/// Some pixels to be multiplied.
struct PixelBatch {
  std::span<const PixelRun> runs;
  std::size_t a_step, c_step;     ///< from pixel to pixel
  const float* scale;             ///< by input channel, of a scaled product
  std::span<const float> behind;  ///< what is read next and comes from memory
  bool streams;                   ///< results go past the caches where they can

  std::size_t pixels() const;
};

/// The product behind dense, grouped, 1×1 and linear layers, and what its shape and the processor
/// make of it: by FMA, by AMX, in pairs, or a single pixel by panels side by side. A panel of
/// weights is what a tile's columns take.
class PanelProduct {
 public:
  /// `scaled`: inputs come with a scale, for which the weights are multiplied.
  PanelProduct(const ProductShape& shape, PackedPanels packed, const Epilogue& epilogue,
               bool scaled = false);

  const ProductShape& shape() const { return shape_; }
  const Epilogue& epilogue() const { return epilogue_; }
  bool scaled() const { return scaled_; }
  std::size_t panels() const { return shape_.groups * panels_; }
  std::size_t panel_columns() const { return kernels_->columns; }
  /// The first output channel of a panel, or behind the last one.
  std::size_t channel(std::size_t panel) const;
  std::size_t weight_bytes() const { return panels() * panel_floats_ * sizeof(float); }
  /// As RowOp has it.
  std::size_t call_bytes() const;
  /// The part of a pixel's time before any panel is multiplied.
  double preparation() const;
  /// Pixels that are best multiplied at once.
  std::size_t pixels_at_once() const;
  std::size_t workspace_bytes(std::size_t pixels) const;

  /// Multiplies the pixels by some panels and finishes them.
  void run(RowRange panels, const PixelBatch& batch, std::byte* workspace) const;
  /// "gemm 6x16" …
  std::string describe() const;

 private:
  struct Room;

  std::size_t columns_of(std::size_t panel) const;
  std::size_t bias_parts() const { return pairs_ ? kPairedBiasParts : 1; }
  std::size_t sum_floats(std::size_t pixels) const;
  std::size_t scaled_floats() const;
  GemmTile tile(std::size_t panel, const PixelBatch& batch) const;
  std::size_t tiles(const PixelBatch& batch) const;
  void look_ahead(GemmTile& tile, std::size_t panel, RowRange panels, std::size_t tiles,
                  std::span<const float> behind) const;
  bool is_half(std::size_t panel) const;
  std::size_t multiply_pixel(RowRange panels, const PixelBatch& batch) const;
  void multiply_in_pairs(RowRange panels, const PixelBatch& batch, std::byte* workspace) const;
  void multiply_group(RowRange own, RowRange panels, const PixelBatch& batch,
                      std::byte* workspace) const;
  void multiply_singly(RowRange panels, const PixelBatch& batch, std::byte* workspace) const;
  void multiply_by_fma(GemmTile tile, std::size_t column, const PixelBatch& batch,
                       const Room& room) const;
  void multiply_present(GemmTile tile, std::size_t column, const PixelBatch& batch,
                        const Room& room) const;
  bool multiply_by_amx(GemmTile tile, std::size_t panel, const PixelBatch& batch, const Room& room,
                       AmxProduct& amx) const;

  ProductShape shape_;
  bool scaled_;
  Epilogue epilogue_;
  const GemmKernels* kernels_;
  const GemvKernels* pixel_kernels_ = nullptr;  ///< of a single pixel; or null
  std::size_t panels_;                          ///< per group
  std::size_t panel_floats_;
  std::optional<PairedSet> pairs_;
  std::optional<AmxSet> amx_;
  SharedWeights packed_;
  const float* weights_;  ///< [groups][panels][taps * k][panel columns]
  const float* bias_;     ///< [groups][panels][columns], or as paired weights have it
  bool followed_;
  std::vector<bool> splits_;  ///< by panel, unless scaled
};

}  // namespace sepconv
