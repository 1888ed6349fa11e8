#pragma once

namespace sepconv {

/// How Resize finds values between an image's pixels; names and formulas are those of the ONNX
/// operator Resize (github.com/onnx/onnx, docs/Operators.md).
struct Resampling {
  enum class Mode { kNearest, kLinear, kCubic };
  /// Where output i of `out` lies among `in` inputs; s is the scale.
  enum class Coordinates {
    kHalfPixel,         ///< (i + 0.5) / s − 0.5
    kPytorchHalfPixel,  ///< the same; 0 for a single output
    kSymmetric,         ///< the same about the middle, where out is not in · s (ONNX:
                        ///< half_pixel_symmetric)
    kAlignCorners,      ///< i · (in − 1) / (in · s − 1)
    kAsymmetric,        ///< i / s
  };
  enum class Nearest { kRoundPreferFloor, kRoundPreferCeil, kFloor, kCeil };

  Mode mode = Mode::kNearest;
  Coordinates coordinates = Coordinates::kHalfPixel;
  Nearest nearest = Nearest::kRoundPreferFloor;
  double cubic_coefficient = -0.75;  ///< Keys' a
  bool exclude_outside = false;      ///< weights beyond the ends are shared out, not clamped
};

}  // namespace sepconv
