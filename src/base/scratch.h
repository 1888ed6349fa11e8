#pragma once

#include <cstddef>
#include <optional>
#include <span>

#include "base/aligned.h"
#include "base/block_cache.h"

namespace sepconv {

/// Memory for one call, not zeroed: a large piece is kept for the calls that follow.
class Scratch {
 public:
  explicit Scratch(std::size_t bytes) : bytes_(bytes) {
    if (bytes < BlockCache::kLeastBytes) {
      small_ = make_aligned<std::byte>(bytes);
    } else {
      large_.emplace(BlockCache::take(bytes));
    }
  }

  std::span<std::byte> get() const { return {large_ ? large_->data() : small_.get(), bytes_}; }

 private:
  std::size_t bytes_;
  AlignedArray<std::byte> small_;
  std::optional<Block> large_;
};

}  // namespace sepconv
