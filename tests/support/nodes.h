#pragma once

#include <gtest/gtest.h>

#include <cstddef>

#include "sepconv/sepconv.h"
#include "support/reference.h"
#include "support/targets.h"

namespace sepconv::testing {

/// Nodes that networks have and the public ops have not, each as a network of its own, against its
/// definition in double.
class Nodes : public EachTarget {
 protected:
  Constant constant(const Shape& shape) {
    return std::make_shared<Tensor>(random_tensor(shape, random_));
  }
  Tensor input(const Shape& shape) { return random_tensor(shape, random_, Layout::kNHWC); }

  static double at(const Tensor& t, std::int64_t n, std::int64_t c, std::int64_t h,
                   std::int64_t w) {
    return static_cast<double>(testing::at(t.view(), n, c, h, w));
  }

  static std::size_t to_index(const Shape& s, std::int64_t n, std::int64_t c, std::int64_t h,
                              std::int64_t w) {
    return std::size_t(((n * s[1] + c) * s[2] + h) * s[3] + w);
  }

  // The same bits for any number of threads.
  static Tensor run(const Graph& graph, const Tensor& x) {
    const Network network(graph, x.shape());
    Tensor y = network(x.view());
    const Tensor other = network(x.view(), ThreadPool(3));
    for (std::int64_t i = 0; i < y.shape().elements(); ++i) EXPECT_EQ(y.data()[i], other.data()[i]);
    return y;
  }

  std::mt19937 random_{11};
};

}  // namespace sepconv::testing
