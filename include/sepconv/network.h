#pragma once

#include <memory>
#include <string>
#include <vector>

#include "sepconv/graph.h"

namespace sepconv {

/// One step of a network, as explain() tells it.
struct StepInfo {
  std::string name;    ///< nodes that run in it
  std::string fused;   ///< what was folded into them
  std::string kernel;  ///< kernels and tiles
  Shape output;
  std::int64_t band = 0;  ///< of a chain: output rows at a time; 0 for other ops
  double ring_bytes = 0;  ///< of a chain: what its intermediates take
  std::string cut;        ///< why the chain does not go on; empty for other ops and the last
  double flops = 0;
  double bytes = 0;    ///< input, output and weights, each once
  double seconds = 0;  ///< fastest of the measured runs; 0 if none was measured
};

/// A graph made ready to run on inputs of one shape: optimised, ops built, every intermediate given
/// its place in one arena. Immutable; threads may run it at once with workspaces of their own.
class Network {
 public:
  /// Throws ArgumentError if the graph does not fit the input shape [N, C, H, W]. What `like`, the
  /// same network for another shape, has packed of its weights is shared and not packed again.
  Network(Graph graph, const Shape& input, const Network* like = nullptr);
  ~Network();
  Network(Network&&) noexcept;
  Network& operator=(Network&&) noexcept;

  const Shape& input_shape() const;
  std::size_t outputs() const;
  const Shape& output_shape(std::size_t output = 0) const;
  /// How an output lies in memory: NHWC where its shape is [N, C, H, W], row-major otherwise.
  Layout output_layout(std::size_t output = 0) const;
  std::size_t workspace_bytes(int threads = 1) const;

  /// x: input_shape(), float32, dense NCHW or NHWC; ys: one for each output, dense in its layout.
  /// Allocates nothing.
  void run(const TensorView& x, std::span<const TensorView> ys, std::span<std::byte> workspace,
           const ThreadPool& pool = ThreadPool::single()) const;
  /// The same for a network with one output.
  void run(const TensorView& x, const TensorView& y, std::span<std::byte> workspace,
           const ThreadPool& pool = ThreadPool::single()) const {
    run(x, std::span(&y, 1), workspace, pool);
  }
  /// run() with outputs made for this call and a workspace that is kept for the next ones
  /// (empty_cache()).
  std::vector<Tensor> run_all(const TensorView& x,
                              const ThreadPool& pool = ThreadPool::single()) const;
  /// The same for a network with one output.
  Tensor operator()(const TensorView& x, const ThreadPool& pool = ThreadPool::single()) const;

  /// Every step, timed over `runs` runs of the whole network on noise (none if 0).
  std::vector<StepInfo> explain(int runs = 0, const ThreadPool& pool = ThreadPool::single()) const;

 private:
  struct Plan;
  std::unique_ptr<Plan> plan_;
};

}  // namespace sepconv
