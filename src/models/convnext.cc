#include <fmt/format.h>

#include <algorithm>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

namespace {

// Liu et al., "A ConvNet for the 2020s", 2022, section 3 and appendix; V2: Woo et al., 2023; the
// small ones are timm's. `conv_mlp`: a block's pointwise weights are kept as 1×1 convolutions.
struct Variant {
  const char* name;
  std::int64_t depths[4], widths[4];
  bool conv_mlp = false;
  bool response_norm = false;  ///< V2: in place of the layer scale
  double crop = 0.875;
  std::int64_t size = 224;
};

constexpr Variant kVariants[] = {
    {"convnext_atto", {2, 2, 6, 2}, {40, 80, 160, 320}, true},
    {"convnext_femto", {2, 2, 6, 2}, {48, 96, 192, 384}, true},
    {"convnext_pico", {2, 2, 6, 2}, {64, 128, 256, 512}, true},
    {"convnext_nano", {2, 2, 8, 2}, {80, 160, 320, 640}, true, false, 0.95},
    {"convnext_tiny", {3, 3, 9, 3}, {96, 192, 384, 768}, false, false, 0.95},
    {"convnext_small", {3, 3, 27, 3}, {96, 192, 384, 768}, false, false, 0.95},
    {"convnext_base", {3, 3, 27, 3}, {128, 256, 512, 1024}},
    {"convnext_large", {3, 3, 27, 3}, {192, 384, 768, 1536}},
    {"convnextv2_atto", {2, 2, 6, 2}, {40, 80, 160, 320}, true, true},
    {"convnextv2_femto", {2, 2, 6, 2}, {48, 96, 192, 384}, true, true},
    {"convnextv2_pico", {2, 2, 6, 2}, {64, 128, 256, 512}, true, true},
    {"convnextv2_nano", {2, 2, 8, 2}, {80, 160, 320, 640}, true, true},
    {"convnextv2_tiny", {3, 3, 9, 3}, {96, 192, 384, 768}, false, true},
    {"convnextv2_small", {3, 3, 27, 3}, {96, 192, 384, 768}, false, true},
    {"convnextv2_base", {3, 3, 27, 3}, {128, 256, 512, 1024}, false, true},
    {"convnextv2_large", {3, 3, 27, 3}, {192, 384, 768, 1536}, false, true},
    {"convnextv2_huge", {3, 3, 27, 3}, {352, 704, 1408, 2816}, false, true, 1.0, 384}};

constexpr double kEpsilon = 1e-6;

class NetworkBuilder {
 public:
  NetworkBuilder(const Variant& variant, Weights& weights) : v_(variant), builder_(weights) {}

  Graph build(std::int64_t classes) {
    std::int64_t channels = v_.widths[0];
    ValueId x = builder_.conv_bias(0, {"stem.0", "", 3, channels, 4, 4});
    x = builder_.layer_norm(x, "stem.1", channels, kEpsilon);
    for (int stage = 0; stage < 4; ++stage) {
      const std::string prefix = fmt::format("stages.{}.", stage);
      if (stage > 0) {
        x = builder_.layer_norm(x, prefix + "downsample.0", channels, kEpsilon);
        x = builder_.conv_bias(x, {prefix + "downsample.1", "", channels, v_.widths[stage], 2, 2});
        channels = v_.widths[stage];
      }
      for (std::int64_t block = 0; block < v_.depths[stage]; ++block) {
        x = add_block(x, fmt::format("{}blocks.{}.", prefix, block), channels);
      }
      builder_.end_stage(x, std::int64_t{4} << stage);
    }
    x = builder_.global_pool(x, "head.global_pool");
    x = builder_.layer_norm(x, "head.norm", channels, kEpsilon);
    builder_.linear(x, "head.fc", channels, classes);
    return std::move(builder_.graph);
  }

 private:
  ValueId add_block(ValueId input, const std::string& prefix, std::int64_t channels) {
    const std::int64_t wide = 4 * channels;
    Constant gamma;
    if (!v_.response_norm) gamma = builder_.get(prefix + "gamma", {channels});
    ValueId x =
        builder_.conv_bias(input, {prefix + "conv_dw", "", channels, channels, 7, 1, channels});
    x = builder_.layer_norm(x, prefix + "norm", channels, kEpsilon);
    x = builder_.conv_bias(
        x, {prefix + "mlp.fc1", "", channels, wide, 1, 1, 1, ActivationKind::kGelu}, !v_.conv_mlp);
    Constant shift;
    if (v_.response_norm) {
      const std::string name = prefix + "mlp.grn";
      const ValueId scale = builder_.graph.add(
          name, ResponseScaleNode{builder_.get(name + ".weight", {wide}), kEpsilon}, {x});
      shift = builder_.get(name + ".bias", {wide});
      x = builder_.graph.add(name + ".scale", ScaleNode{}, {x, scale});
    }
    x = builder_.conv_bias(x, {prefix + "mlp.fc2", "", wide, channels}, !v_.conv_mlp);
    if (shift) add_shift(std::get<Conv2dNode>(builder_.graph.nodes[x].op), *shift);
    if (gamma) x = layer_scale(x, prefix + "gamma", gamma);
    return builder_.add(x, input, prefix + "add");
  }

  // What the response norm adds to all that the projection reads is a part of its bias.
  static void add_shift(Conv2dNode& conv, const Tensor& shift) {
    if (!conv.weight->data()) return;
    const std::int64_t out = conv.weight->shape()[0], in = conv.weight->shape()[1];
    auto bias = std::make_shared<Tensor>(Shape{out});
    for (std::int64_t o = 0; o < out; ++o) {
      const float* row = conv.weight->data() + o * in;
      double sum = static_cast<double>(conv.bias->data()[o]);
      for (std::int64_t i = 0; i < in; ++i) {
        sum += static_cast<double>(row[i]) * static_cast<double>(shift.data()[i]);
      }
      bias->data()[o] = static_cast<float>(sum);
    }
    conv.bias = std::move(bias);
  }

  // A factor for each channel, as a batch norm that leaves all else as it is.
  ValueId layer_scale(ValueId x, const std::string& name, const Constant& gamma) {
    const auto zero = std::make_shared<Tensor>(gamma->shape());
    auto one = std::make_shared<Tensor>(gamma->shape());
    std::fill_n(one->data(), gamma->shape().elements(), 1.0F);
    return builder_.graph.add(name, BatchNormNode{gamma, zero, zero, one, 0.0}, {x});
  }

  const Variant& v_;
  Builder builder_;
};

}  // namespace

std::vector<Model> convnext_models() {
  std::vector<Model> models;
  for (const Variant& v : kVariants) {
    io::Preprocessing p;
    p.size = v.size;
    p.crop = v.crop;
    Model model;
    model.info = {v.name, v.response_norm ? "ConvNeXt V2" : "ConvNeXt", "timm", p};
    model.build = [&v](Weights& weights) { return NetworkBuilder(v, weights).build(1000); };
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace sepconv::models
