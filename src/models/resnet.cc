#include <fmt/format.h>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

namespace {

// He et al., "Deep Residual Learning", 2015, table 1; the stride of a bottleneck is in its 3×3, as
// in torchvision and timm. Wide: Zagoruyko and Komodakis, 2016; ResNeXt: Xie et al., 2016.
struct Variant {
  const char* name;
  bool bottleneck;
  std::int64_t blocks[4];
  std::int64_t base_width = 64, groups = 1;
  bool squeeze = false;
  double crop = 0.95;
  bool bilinear = false;
};

constexpr Variant kVariants[] = {
    {"resnet18", false, {2, 2, 2, 2}},
    {"resnet34", false, {3, 4, 6, 3}},
    {"resnet50", true, {3, 4, 6, 3}},
    {"resnet101", true, {3, 4, 23, 3}},
    {"resnet152", true, {3, 8, 36, 3}},
    {"wide_resnet50_2", true, {3, 4, 6, 3}, 128, 1, false, 0.875},
    {"wide_resnet101_2", true, {3, 4, 23, 3}, 128, 1, false, 0.875, true},
    {"resnext50_32x4d", true, {3, 4, 6, 3}, 4, 32},
    {"seresnet50", true, {3, 4, 6, 3}, 64, 1, true}};

class NetworkBuilder {
 public:
  NetworkBuilder(const Variant& variant, Weights& weights) : v_(variant), builder_(weights) {}

  Graph build(std::int64_t classes) {
    x_ = builder_.conv_norm(0, {"conv1", "bn1", 3, 64, 7, 2, 1, relu()});
    builder_.end_stage(x_, 2);
    Pool2dOptions pool;
    pool.kernel = 3;
    pool.stride = 2;
    pool.padding = 1;
    x_ = builder_.graph.add("maxpool", Pool2dNode{Pool::kMax, pool}, {x_});
    for (int stage = 0; stage < 4; ++stage) {
      for (std::int64_t block = 0; block < v_.blocks[stage]; ++block) {
        add_block(fmt::format("layer{}.{}.", stage + 1, block), std::int64_t{64} << stage,
                  stage > 0 && block == 0 ? 2 : 1);
      }
      builder_.end_stage(x_, std::int64_t{4} << stage);
    }
    x_ = builder_.global_pool(x_);
    builder_.linear(x_, "fc", channels_, classes);
    return std::move(builder_.graph);
  }

 private:
  static Activation relu() { return ActivationKind::kRelu; }

  void add_block(const std::string& prefix, std::int64_t planes, std::int64_t stride) {
    const std::int64_t in = channels_, out = v_.bottleneck ? 4 * planes : planes;
    const ValueId input = x_;
    ValueId shortcut = x_;
    if (stride > 1 || in != out) {
      shortcut = builder_.conv_norm(
          input, {prefix + "downsample.0", prefix + "downsample.1", in, out, 1, stride});
    }
    if (v_.bottleneck) {
      const std::int64_t width = planes * v_.base_width / 64 * v_.groups;
      x_ =
          builder_.conv_norm(input, {prefix + "conv1", prefix + "bn1", in, width, 1, 1, 1, relu()});
      x_ = builder_.conv_norm(
          x_, {prefix + "conv2", prefix + "bn2", width, width, 3, stride, v_.groups, relu()});
      x_ = builder_.conv_norm(x_, {prefix + "conv3", prefix + "bn3", width, out});
    } else {
      x_ = builder_.conv_norm(input,
                              {prefix + "conv1", prefix + "bn1", in, out, 3, stride, 1, relu()});
      x_ = builder_.conv_norm(x_, {prefix + "conv2", prefix + "bn2", out, out, 3});
    }
    if (v_.squeeze) {
      x_ = builder_.squeeze_excite(x_, {prefix + "se.fc1", prefix + "se.fc2", out, out / 16, relu(),
                                        ActivationKind::kSigmoid});
    }
    x_ = builder_.add(x_, shortcut, prefix + "add");
    x_ = builder_.graph.add(prefix + "act", ActivationNode{relu()}, {x_});
    channels_ = out;
  }

  const Variant& v_;
  Builder builder_;
  ValueId x_ = 0;
  std::int64_t channels_ = 64;
};

}  // namespace

std::vector<Model> resnet_models() {
  std::vector<Model> models;
  for (const Variant& v : kVariants) {
    io::Preprocessing p;
    p.crop = v.crop;
    if (v.bilinear) p.interpolation = io::Interpolation::kBilinear;
    Model model;
    model.info = {v.name, "ResNet", "timm", p};
    model.build = [&v](Weights& weights) { return NetworkBuilder(v, weights).build(1000); };
    models.push_back(std::move(model));
  }
  return models;
}

}  // namespace sepconv::models
