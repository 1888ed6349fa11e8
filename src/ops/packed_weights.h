#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>

#include "base/aligned.h"
#include "base/page_arena.h"
#include "base/sizes.h"
#include "sepconv/ops.h"

namespace sepconv {

/// Weights and bias in the order in which a kernel reads them.
struct PackedWeights {
  /// In an arena, or if it is null in memory of their own.
  PackedWeights(std::size_t weight_floats, std::size_t bias_floats, PageArena* arena = nullptr)
      : floats(weight_floats),
        weights(arena ? arena->take(weight_floats) : make_aligned<float>(weight_floats)),
        bias(arena ? arena->take(bias_floats) : make_aligned<float>(bias_floats)) {}

  std::size_t floats;  ///< of the weights
  std::shared_ptr<float[]> weights, bias;
};

using SharedWeights = std::shared_ptr<const PackedWeights>;

/// Packed weights by the numbers that they come from: networks for several input sizes share them,
/// although each folds its own. Threads may use one store at once.
class PackedStore {
 public:
  using Source = std::shared_ptr<const Tensor>;
  using Pack = std::function<SharedWeights(PageArena*)>;

  /// What `pack` made of these numbers for the same purpose, made now if it is the first time.
  SharedWeights get(const Source& weight, const Source& bias, const std::string& purpose,
                    const Pack& pack) {
    const auto numbers = [](const Source& t) {
      return t ? fingerprint(t->data(), to_size(t->shape().elements())) : 0;
    };
    const std::string what = purpose + " " + to_string(weight->shape());
    const std::lock_guard lock(mutex_);
    SharedWeights& place = packed_[{numbers(weight), numbers(bias), what}];
    if (!place) place = pack(&arena_);
    return place;
  }

 private:
  std::mutex mutex_;
  PageArena arena_;
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::string>, SharedWeights> packed_;
};

/// A layer's weights, for its op to pack: in a store if there is one.
class LayerWeights {
 public:
  /// `bias` may be null. Both are read when the op is built and not afterwards.
  LayerWeights(const float* weight, const float* bias) : weight_(weight), bias_(bias) {}
  /// `bias` may be null; the layer's starts at its element `first`.
  LayerWeights(PackedStore::Source weight, PackedStore::Source bias, PackedStore& store,
               std::size_t first = 0)
      : weight_(weight->data()),
        bias_(bias ? bias->data() + first : nullptr),
        sources_(std::move(weight), std::move(bias)),
        first_(first),
        store_(&store) {}

  const float* weight() const { return weight_; }
  const float* bias() const { return bias_; }

  SharedWeights packed(const std::string& purpose, const PackedStore::Pack& pack) const {
    if (!store_) return pack(nullptr);
    return store_->get(sources_.first, sources_.second, purpose + " " + std::to_string(first_),
                       pack);
  }

 private:
  const float *weight_, *bias_;
  std::pair<PackedStore::Source, PackedStore::Source> sources_;
  std::size_t first_ = 0;
  PackedStore* store_ = nullptr;
};

}  // namespace sepconv
