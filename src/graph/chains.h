#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ops/chain.h"
#include "sepconv/graph.h"

namespace sepconv {

/// Which row-local nodes run as one chain: decided by what a chain can do and by its cost, never by
/// a node's name.
class Chains {
 public:
  /// `rows`: the nodes' row ops, by value; `last_use`: the last node that reads each value. All are
  /// kept by reference.
  Chains(const Graph& graph, const std::vector<std::shared_ptr<RowOp>>& rows,
         const std::vector<ValueId>& last_use)
      : graph_(graph), rows_(rows), last_use_(last_use) {}

  struct Part {
    ValueId begin, end;
    std::string cut;  ///< why the chain does not go on
  };
  /// Splits nodes [begin, end), which each read the one before, so that the sum of the chains'
  /// costs is least.
  std::vector<Part> cut(ValueId begin, ValueId end) const;

  /// Nodes [b, e) as one chain.
  Chain chain(ValueId b, ValueId e) const;
  /// The values that nodes [b, e) read from outside besides their first.
  std::vector<ValueId> sides(ValueId b, ValueId e) const;
  /// Whether others read value i of a chain of nodes [b, e), which is not its result.
  bool is_kept(ValueId i, ValueId e) const { return i + 1 < e && last_use_[i] >= e; }

 private:
  struct Obstacle {
    const char* why = nullptr;
    ValueId node = 0;
  };

  Obstacle obstacle(ValueId b, ValueId e) const;
  bool is_joinable(ValueId b, ValueId e) const { return !obstacle(b, e).why; }
  std::string why_cut(ValueId b, ValueId e, ValueId next, ValueId end) const;
  bool gathers(ValueId i) const;
  bool is_row_mean(ValueId i) const;
  bool is_scaled(ValueId i) const;
  double cost(ValueId b, ValueId e) const { return chain(b, e).cost(); }

  const Graph& graph_;
  const std::vector<std::shared_ptr<RowOp>>& rows_;
  const std::vector<ValueId>& last_use_;
};

}  // namespace sepconv
