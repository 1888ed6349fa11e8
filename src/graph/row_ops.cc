// From a node of the graph to the row op that computes it.

#include <algorithm>

#include "base/resample.h"
#include "base/sizes.h"
#include "graph/affine.h"
#include "graph/plan.h"
#include "ops/arguments.h"
#include "ops/copying_rows.h"
#include "ops/elementwise_rows.h"
#include "ops/mixed_depthwise_rows.h"
#include "ops/norm_rows.h"
#include "ops/pool_rows.h"
#include "ops/resize_rows.h"
#include "ops/softmax_rows.h"
#include "ops/transposed_conv_rows.h"

namespace sepconv {

namespace {

ImageShape image(const Shape& s) {
  return s.rank() == 4 ? ImageShape{s[2], s[3], s[1]} : ImageShape{1, 1, s[1]};
}

std::vector<ResizeRows::Taps> resize_taps(std::int64_t in, std::int64_t out, double scale,
                                          const Resampling& how) {
  std::vector<ResizeRows::Taps> taps;
  for (const ResampleTaps& t : interpolation_taps(in, out, scale, how)) {
    taps.push_back({t.first, {t.weights.begin(), t.weights.end()}});
  }
  return taps;
}

// Output i of `out` is an input, from `before` places before the first one on.
std::vector<ResizeRows::Taps> around(std::int64_t in, std::int64_t out, std::int64_t before,
                                     PadMode mode) {
  std::vector<ResizeRows::Taps> taps;
  for (std::int64_t i = -before; i < out - before; ++i) {
    const std::int64_t last = in - 1, mirrored = i < 0 ? -i : 2 * last - i;
    const bool inside = i >= 0 && i <= last;
    taps.push_back(
        {mode == PadMode::kReflect && !inside ? mirrored : std::clamp<std::int64_t>(i, 0, last),
         {1}});
  }
  return taps;
}

struct RowOpOf {
  const Shape &in, &out;
  PackedStore& store;

  std::shared_ptr<RowOp> operator()(const Conv2dNode& n) const {
    Conv2dOptions options = n.options;
    const Shape& w = n.weight->shape();
    if (n.same_padding) {
      options.padding =
          Padding::same({in[2], in[3]}, {w[2], w[3]}, options.stride, options.dilation);
    }
    const TensorView bias = n.bias ? n.bias->view() : TensorView();
    const ConvGeometry geometry = conv_geometry(in, n.weight->view(), bias, options, n.groups);
    const LayerWeights weights(n.weight, n.bias, store);
    return n.scaled ? scaled_conv_row_op(geometry, weights, options)
                    : conv_row_op(geometry, weights, options, ErrorBound::kNetwork);
  }
  std::shared_ptr<RowOp> operator()(const ConvTranspose2dNode& n) const {
    const Shape& w = n.weight->shape();
    const Window2d window{{w[2], n.stride.height, n.dilation.height, n.padding.top},
                          {w[3], n.stride.width, n.dilation.width, n.padding.left}};
    return std::make_shared<TransposedConvRows>(image(in), image(out), window, n.groups,
                                                n.weight->data(), n.bias ? n.bias->data() : nullptr,
                                                n.activation);
  }
  std::shared_ptr<RowOp> operator()(const MixedDepthwiseNode& n) const {
    std::vector<MixedDepthwiseRows::Part> parts;
    std::int64_t first = 0;
    for (const Constant& w : n.weights) {
      const std::int64_t channels = w->shape()[0], kernel = w->shape()[2];
      const Padding pad = mixed_padding(n, in, kernel);
      const Window2d window{{kernel, n.stride, 1, pad.top}, {kernel, n.stride, 1, pad.left}};
      auto op = std::make_unique<DepthwiseRows2d>(ImageShape{in[2], in[3], channels},
                                                  ImageShape{out[2], out[3], channels}, window,
                                                  LayerWeights(w, n.bias, store, to_size(first)),
                                                  Epilogue(n.activation), ErrorBound::kNetwork);
      op->read_slice_of(in[1]);
      op->write_slice_of(in[1]);
      parts.push_back({std::move(op), first});
      first += channels;
    }
    return std::make_shared<MixedDepthwiseRows>(image(in), image(out), std::move(parts));
  }
  std::shared_ptr<RowOp> operator()(const BatchNormNode& n) const {
    const Affine affine(n);
    const auto narrow = [](const std::vector<double>& values) {
      return std::vector<float>(values.begin(), values.end());
    };
    return std::make_shared<AffineRows>(image(in), narrow(affine.scale), narrow(affine.shift),
                                        Epilogue(n.activation));
  }
  std::shared_ptr<RowOp> operator()(const ScaleNode&) const {
    return std::make_shared<ScaleRows>(image(in));
  }
  std::shared_ptr<RowOp> operator()(const ScaleShiftNode& n) const {
    return std::make_shared<ScaleShiftRows>(image(in), Epilogue(n.activation));
  }
  std::shared_ptr<RowOp> operator()(const LayerNormNode& n) const {
    return std::make_shared<LayerNormRows>(image(in), n.weight->data(), n.bias->data(),
                                           static_cast<float>(n.epsilon), n.centred);
  }
  std::shared_ptr<RowOp> operator()(const ResponseScaleNode& n) const {
    return std::make_shared<ResponseScaleRows>(image(in), n.weight->data(),
                                               static_cast<float>(n.epsilon));
  }
  std::shared_ptr<RowOp> operator()(const FirstTokenNode&) const {
    return std::make_shared<FirstRow>(image(in));
  }
  std::shared_ptr<RowOp> operator()(const PatchMapNode&) const {
    return std::make_shared<OtherRows>(image(in), image(out));
  }
  std::shared_ptr<RowOp> operator()(const ChannelsNode& n) const {
    return std::make_shared<ChannelsRows>(image(in), n.first, n.count);
  }
  std::shared_ptr<RowOp> operator()(const ChannelShuffleNode& n) const {
    return std::make_shared<ShuffledRows>(image(in), n.groups);
  }
  std::shared_ptr<RowOp> operator()(const ResizeNode& n) const {
    const bool sized = n.size.height > 0;
    const auto scale = [sized](std::int64_t from, std::int64_t to, double given) {
      return sized ? static_cast<double>(to) / static_cast<double>(from) : given;
    };
    return std::make_shared<ResizeRows>(
        image(in), resize_taps(in[2], out[2], scale(in[2], out[2], n.scale_height), n.how),
        resize_taps(in[3], out[3], scale(in[3], out[3], n.scale_width), n.how));
  }
  std::shared_ptr<RowOp> operator()(const SoftmaxNode& n) const {
    return std::make_shared<SoftmaxRows>(image(in), n.logarithm);
  }
  std::shared_ptr<RowOp> operator()(const Pool2dNode& n) const {
    const Pool2dOptions& o = n.options;
    const Padding pad = pool_padding(n, in);
    const Window2d window{{o.kernel.height, o.stride.height, 1, pad.top},
                          {o.kernel.width, o.stride.width, 1, pad.left}};
    return std::make_shared<PoolRows>(image(in), image(out), window, n.kind, o.count_include_pad);
  }
  std::shared_ptr<RowOp> operator()(const GlobalAveragePoolNode&) const {
    const Window2d window{{in[2], in[2], 1, 0}, {in[3], in[3], 1, 0}};
    return std::make_shared<PoolRows>(image(in), image(out), window, Pool::kAverage, true);
  }
  std::shared_ptr<RowOp> operator()(const ActivationNode& n) const {
    return std::make_shared<ElementwiseRows>(image(in), Epilogue(n.activation), false);
  }
  std::shared_ptr<RowOp> operator()(const FunctionNode& n) const {
    return std::make_shared<FunctionRows>(image(in), n.function);
  }
  std::shared_ptr<RowOp> operator()(const PReluNode& n) const {
    return std::make_shared<PReluRows>(image(in), n.slope->data());
  }
  std::shared_ptr<RowOp> operator()(const ScalePixelsNode&) const {
    return std::make_shared<ScalePixelsRows>(image(in));
  }
  std::shared_ptr<RowOp> operator()(const NormalizeNode& n) const {
    return std::make_shared<NormalizeRows>(image(in), static_cast<float>(n.least));
  }
  std::shared_ptr<RowOp> operator()(const ChannelPoolNode& n) const {
    return std::make_shared<ChannelPoolRows>(image(in), n.kind);
  }
  std::shared_ptr<RowOp> operator()(const PadNode& n) const {
    if (n.mode == PadMode::kConstant) {
      return std::make_shared<PadRows>(image(in), image(out), n.amount.top, n.amount.left,
                                       n.channels_before, n.value);
    }
    return std::make_shared<ResizeRows>(image(in), around(in[2], out[2], n.amount.top, n.mode),
                                        around(in[3], out[3], n.amount.left, n.mode));
  }
  std::shared_ptr<RowOp> operator()(const AddNode& n) const {
    return std::make_shared<ElementwiseRows>(image(in), Epilogue(n.activation), true);
  }
  std::shared_ptr<RowOp> operator()(const ConstantNode& n) const {
    return std::make_shared<ConstantRows>(image(in), image(out), n.map->data());
  }
  std::shared_ptr<RowOp> operator()(const ChooseNode& n) const {
    return std::make_shared<ChooseRows>(image(in), n.map->data());
  }
  std::shared_ptr<RowOp> operator()(const PickNode& n) const {
    if (n.channels) return std::make_shared<PickedChannels>(image(in), n.order);
    return std::make_shared<PickedRows>(image(in), n.order);
  }
  std::shared_ptr<RowOp> operator()(const AddMapNode& n) const {
    return std::make_shared<MapRows>(image(in), n.map->data(), false);
  }
  std::shared_ptr<RowOp> operator()(const MultiplyMapNode& n) const {
    return std::make_shared<MapRows>(image(in), n.map->data(), true);
  }
  std::shared_ptr<RowOp> operator()(const MultiplyNode&) const {
    return std::make_shared<BinaryRows>(image(in), BinaryRows::Kind::kProduct);
  }
  std::shared_ptr<RowOp> operator()(const DivideNode&) const {
    return std::make_shared<BinaryRows>(image(in), BinaryRows::Kind::kQuotient);
  }
  std::shared_ptr<RowOp> operator()(const MaximumNode&) const {
    return std::make_shared<BinaryRows>(image(in), BinaryRows::Kind::kMaximum);
  }
  template <class Other>
  std::shared_ptr<RowOp> operator()(const Other&) const {
    return nullptr;
  }
};

}  // namespace

std::shared_ptr<RowOp> row_op_of(const Node& node, const Shape& in, const Shape& out,
                                 PackedStore& store) {
  return std::visit(RowOpOf{in, out, store}, node.op);
}

}  // namespace sepconv
