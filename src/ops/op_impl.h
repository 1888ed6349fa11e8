#pragma once

#include <memory>
#include <span>
#include <string>

#include "base/cpu.h"
#include "sepconv/ops.h"

namespace sepconv {

/// Whether what an op reads and writes is more than stays in the caches until the next one runs.
inline bool outgrows_caches(const Shape& input, const Shape& output) {
  return outgrows_caches(static_cast<std::size_t>(input.elements() + output.elements()));
}

/// The same of one tensor by itself.
inline bool outgrows_caches(const Shape& shape) {
  return outgrows_caches(static_cast<std::size_t>(shape.elements()));
}

/// What stands behind an Op: pointers in, no checks.
struct Op::Impl {
  Shape input, output;
  Layout layout = Layout::kNHWC;
  bool residual = false;

  Impl(const Shape& in, const Shape& out, Layout l, bool r)
      : input(in), output(out), layout(l), residual(r) {}
  virtual ~Impl() = default;
  virtual std::size_t workspace_bytes(int threads) const = 0;
  /// `sides`: what the op reads besides x, a residual for one.
  virtual void run(const float* x, std::span<const float* const> sides, float* y,
                   std::byte* workspace, const ThreadPool& pool) const = 0;
  /// The same for an op that gives one of its intermediates besides.
  virtual void run_keeping(const float* x, std::span<const float* const> sides, float* y,
                           float* /*kept*/, std::byte* workspace, const ThreadPool& pool) const {
    run(x, sides, y, workspace, pool);
  }
  virtual std::string describe() const = 0;
  virtual double flops() const = 0;
};

}  // namespace sepconv
