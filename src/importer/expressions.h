#pragma once

#include <memory>
#include <optional>
#include <variant>
#include <vector>

#include "importer/view.h"

namespace sepconv::importer {

// What is not yet anything of ours, but may become part of it: exporters take a GELU, a layer norm,
// attention apart into operators that mean nothing by themselves.

/// of > than, which chooses between a softplus and its argument.
struct Comparison {
  static constexpr const char* kName = "a comparison";
  View of;
  double than;
};

// A GELU: x · (1 + erf(x / √2)) / 2.
struct Erf {
  static constexpr const char* kName = "erf";
  View of;
};
struct OnePlusErf {
  static constexpr const char* kName = "1 + erf";
  View of;
  double factor = 1;
};

/// Some of an image's channels, and a convolution of these: a concatenation of all of them is one
/// convolution.
struct SomeChannels {
  static constexpr const char* kName = "a part of the channels";
  View of;
  std::int64_t first, count;
};
struct ConvolvedChannels {
  static constexpr const char* kName = "a convolution of a part of the channels";
  SomeChannels channels;
  const OnnxNode* node;
  OnnxConstant weight, bias;
};

// A layer norm: (x − mean) / √(variance + epsilon), over the channels.
struct ChannelMean {
  static constexpr const char* kName = "a mean over channels";
  View of;
};
struct Centred {
  static constexpr const char* kName = "a value without its mean";
  View of;
};
struct CentredSquares {
  static constexpr const char* kName = "squares";
  View of;
};
struct Variance {
  static constexpr const char* kName = "a variance";
  View of;
  double epsilon = 0;
};
struct Deviation {
  static constexpr const char* kName = "a standard deviation";
  View of;
  double epsilon;
};

// An RMS norm: x / √(mean of squares + epsilon), over the channels.
struct Squares {
  static constexpr const char* kName = "squares of a value";
  View of;
};
struct MeanSquare {
  static constexpr const char* kName = "a mean of squares";
  View of;
  double epsilon = 0;
};
struct RootMeanSquare {
  static constexpr const char* kName = "a root of a mean of squares";
  View of;
  double epsilon;
  bool inverse = false;
};

/// Euclidean norms over some dimensions, no less than a number.
struct Norms {
  static constexpr const char* kName = "norms";
  View of;
  std::vector<bool> over;
  bool positions;  ///< whether that is all positions and nothing else
  double least = 0;
};
// A global response norm (ConvNeXt V2): x + x · scale · norms / (their mean + epsilon) + shift.
struct MeanOfNorms {
  static constexpr const char* kName = "a mean of norms";
  View of;
  double epsilon = 0;
};
struct NormsByMean {
  static constexpr const char* kName = "norms by their mean";
  View of;
  double epsilon;
};
struct Response {
  static constexpr const char* kName = "a response";
  View of;
  double epsilon;
  std::optional<Floats> scale = {}, shift = {};  ///< by channel
};

/// A value repeated, for a product with something of that size, which broadcasts anyway.
struct Expanded {
  static constexpr const char* kName = "an expanded value";
  View of;
  Dims sizes;
};

/// scale · q·kᵀ + bias, and its softmax, until it is known what that is multiplied by.
struct AttentionScores {
  static constexpr const char* kName = "attention scores";
  View queries, keys;
  double scale;
  OnnxConstant bias = {};  ///< [heads, queries, keys], or null
};
struct AttentionWeights {
  static constexpr const char* kName = "attention weights";
  AttentionScores scores;
  bool transposed = false;
};

/// Whether attention's weights are no numbers, which exporters ask as a mask may hide every key,
/// where none does.
struct Never {
  static constexpr const char* kName = "whether weights are no numbers";
};

/// Tokens behind a class token, to which positions may be added.
struct ClassTokens {
  static constexpr const char* kName = "tokens behind a class token";
  View of;
  OnnxConstant token;
};

using Expression =
    std::variant<Comparison, Erf, OnePlusErf, SomeChannels, ConvolvedChannels, ChannelMean, Centred,
                 CentredSquares, Variance, Deviation, Squares, MeanSquare, RootMeanSquare, Norms,
                 MeanOfNorms, NormsByMean, Response, Expanded, AttentionScores, AttentionWeights,
                 Never, ClassTokens>;
const char* name_of(const Expression& e);

/// What an ONNX tensor is to us; nothing where its node is not supported.
using Waiting = std::shared_ptr<const Expression>;
using Value = std::variant<std::monostate, OnnxConstant, View, Waiting>;
using Values = std::vector<Value>;

inline Value waiting(Expression e) { return std::make_shared<const Expression>(std::move(e)); }

/// Null unless the value is an expression of this kind.
template <class E>
const E* expression(const Value& value) {
  const auto* e = std::get_if<Waiting>(&value);
  return e ? std::get_if<E>(e->get()) : nullptr;
}

/// Throws Unsupported unless it is one.
const View& view(const Value& value);
/// Null unless input i is a constant.
OnnxConstant constant(const Values& in, std::size_t i);
/// Throws Unsupported, with the name, unless input i is a constant of floats.
const Floats& floats(const Values& in, std::size_t i, const char* name);
/// A constant's only number.
std::optional<double> scalar(const Value& value);

}  // namespace sepconv::importer
