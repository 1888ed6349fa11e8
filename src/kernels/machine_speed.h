#pragma once

#include <cstddef>

namespace sepconv {

/// Loops that do nothing but reach one of the core's limits.
struct MachineSpeedKernels {
  /// Runs `rounds` rounds of independent fused multiply-adds; returns the flops done.
  double (*multiply_add)(std::size_t rounds);
  /// Reads n floats; the sum keeps the compiler from leaving it out.
  float (*read)(const float* x, std::size_t n);
};

const MachineSpeedKernels& machine_speed_kernels();

}  // namespace sepconv
