#include <array>

#include "models/family.h"
#include "models/layers.h"

namespace sepconv::models {

namespace {

// What both networks are made of: convolutions with norm and ReLU, pools, and modules of parallel
// branches. Keeps the channels of every value.
class InceptionBuilder {
 public:
  explicit InceptionBuilder(Weights& weights) : builder_(weights, {false, 1e-3}) {}

  ValueId conv(ValueId x, const std::string& name, std::int64_t out, Size2d kernel = 1,
               std::int64_t stride = 1, bool unpadded = false) {
    ConvNorm layer{name + ".conv", name + ".bn", channels_[x], out, kernel, stride};
    layer.activation = ActivationKind::kRelu;
    layer.unpadded = unpadded;
    return keep(builder_.conv_norm(x, layer), out);
  }

  ValueId max_pool(ValueId x, const std::string& name, Size2d kernel, std::int64_t stride,
                   std::int64_t padding, bool ceil_mode) {
    return pool(x, name, {Pool::kMax, {kernel, stride, padding}, ceil_mode});
  }

  ValueId average_pool(ValueId x, const std::string& name) {
    return pool(x, name, {Pool::kAverage, {3, 1, 1}, false});
  }

  ValueId concat(const std::string& name, std::vector<ValueId> branches) {
    std::int64_t sum = 0;
    for (const ValueId branch : branches) sum += channels_[branch];
    return keep(builder_.graph.add(name, ConcatNode{}, std::move(branches)), sum);
  }

  void end_stage(ValueId x, std::int64_t stride) { builder_.end_stage(x, stride); }

  Graph classifier(ValueId x, std::int64_t classes) {
    const std::int64_t channels = channels_[x];
    builder_.linear(builder_.global_pool(x), "fc", channels, classes);
    return std::move(builder_.graph);
  }

 private:
  ValueId pool(ValueId x, const std::string& name, const Pool2dNode& node) {
    return keep(builder_.graph.add(name, node, {x}), channels_[x]);
  }
  ValueId keep(ValueId x, std::int64_t channels) {
    channels_.resize(x + 1, 0);
    channels_[x] = channels;
    return x;
  }

  Builder builder_;
  std::vector<std::int64_t> channels_ = {3};
};

// Szegedy et al., "Going Deeper with Convolutions", 2015, table 1, with batch norm and the names of
// torchvision, whose 5×5 branch is a 3×3. Stages end with a max pool.
struct GoogLeNetModule {
  const char* name;
  std::int64_t one, three_reduce, three, five_reduce, five, pool;
};

constexpr GoogLeNetModule kGoogLeNet[] = {{"inception3a", 64, 96, 128, 16, 32, 32},
                                          {"inception3b", 128, 128, 192, 32, 96, 64},
                                          {"maxpool3", 0, 0, 0, 0, 0, 3},
                                          {"inception4a", 192, 96, 208, 16, 48, 64},
                                          {"inception4b", 160, 112, 224, 24, 64, 64},
                                          {"inception4c", 128, 128, 256, 24, 64, 64},
                                          {"inception4d", 112, 144, 288, 32, 64, 64},
                                          {"inception4e", 256, 160, 320, 32, 128, 128},
                                          {"maxpool4", 0, 0, 0, 0, 0, 2},
                                          {"inception5a", 256, 160, 320, 32, 128, 128},
                                          {"inception5b", 384, 192, 384, 48, 128, 128}};

Graph build_googlenet(Weights& weights) {
  InceptionBuilder b(weights);
  ValueId x = b.conv(0, "conv1", 64, 7, 2);
  std::int64_t stride = 2;
  b.end_stage(x, stride);
  x = b.max_pool(x, "maxpool1", 3, 2, 0, true);
  x = b.conv(x, "conv2", 64);
  x = b.conv(x, "conv3", 192, 3);
  b.end_stage(x, stride *= 2);
  x = b.max_pool(x, "maxpool2", 3, 2, 0, true);
  for (const GoogLeNetModule& m : kGoogLeNet) {
    if (m.one == 0) {
      b.end_stage(x, stride *= 2);
      x = b.max_pool(x, m.name, m.pool, 2, 0, true);
      continue;
    }
    const std::string name = std::string(m.name) + ".branch";
    const ValueId one = b.conv(x, name + "1", m.one);
    ValueId three = b.conv(x, name + "2.0", m.three_reduce);
    three = b.conv(three, name + "2.1", m.three, 3);
    ValueId five = b.conv(x, name + "3.0", m.five_reduce);
    five = b.conv(five, name + "3.1", m.five, 3);
    ValueId pool = b.max_pool(x, name + "4.0", 3, 1, 1, true);
    pool = b.conv(pool, name + "4.1", m.pool);
    x = b.concat(m.name, {one, three, five, pool});
  }
  b.end_stage(x, stride *= 2);
  return b.classifier(x, 1000);
}

// Szegedy et al., "Rethinking the Inception Architecture", 2016, table 1 and figures 5 to 7.
class InceptionV3 {
 public:
  explicit InceptionV3(Weights& weights) : b_(weights) {}

  Graph build() {
    ValueId x = b_.conv(0, "Conv2d_1a_3x3", 32, 3, 2, true);
    x = b_.conv(x, "Conv2d_2a_3x3", 32, 3, 1, true);
    x = b_.conv(x, "Conv2d_2b_3x3", 64, 3);
    b_.end_stage(x, 2);
    x = b_.max_pool(x, "Pool1", 3, 2, 0, false);
    x = b_.conv(x, "Conv2d_3b_1x1", 80);
    x = b_.conv(x, "Conv2d_4a_3x3", 192, 3, 1, true);
    b_.end_stage(x, 4);
    x = b_.max_pool(x, "Pool2", 3, 2, 0, false);
    x = a(x, "Mixed_5b", 32);
    x = a(x, "Mixed_5c", 64);
    x = a(x, "Mixed_5d", 64);
    b_.end_stage(x, 8);
    x = reduce35(x, "Mixed_6a");
    x = c(x, "Mixed_6b", 128);
    x = c(x, "Mixed_6c", 160);
    x = c(x, "Mixed_6d", 160);
    x = c(x, "Mixed_6e", 192);
    b_.end_stage(x, 16);
    x = reduce17(x, "Mixed_7a");
    x = e(x, "Mixed_7b");
    x = e(x, "Mixed_7c");
    b_.end_stage(x, 32);
    return b_.classifier(x, 1000);
  }

 private:
  ValueId pooled(ValueId x, const std::string& m, std::int64_t out) {
    return b_.conv(b_.average_pool(x, m + ".pool"), m + ".branch_pool", out);
  }

  ValueId a(ValueId x, const std::string& m, std::int64_t pool) {
    const ValueId one = b_.conv(x, m + ".branch1x1", 64);
    ValueId five = b_.conv(x, m + ".branch5x5_1", 48);
    five = b_.conv(five, m + ".branch5x5_2", 64, 5);
    ValueId twice = b_.conv(x, m + ".branch3x3dbl_1", 64);
    twice = b_.conv(twice, m + ".branch3x3dbl_2", 96, 3);
    twice = b_.conv(twice, m + ".branch3x3dbl_3", 96, 3);
    const ValueId last = pooled(x, m, pool);
    return b_.concat(m, {one, five, twice, last});
  }

  ValueId reduce35(ValueId x, const std::string& m) {
    const ValueId three = b_.conv(x, m + ".branch3x3", 384, 3, 2, true);
    ValueId twice = b_.conv(x, m + ".branch3x3dbl_1", 64);
    twice = b_.conv(twice, m + ".branch3x3dbl_2", 96, 3);
    twice = b_.conv(twice, m + ".branch3x3dbl_3", 96, 3, 2, true);
    const ValueId pool = b_.max_pool(x, m + ".pool", 3, 2, 0, false);
    return b_.concat(m, {three, twice, pool});
  }

  ValueId c(ValueId x, const std::string& m, std::int64_t narrow) {
    const Size2d row(1, 7), column(7, 1);
    const ValueId one = b_.conv(x, m + ".branch1x1", 192);
    ValueId seven = b_.conv(x, m + ".branch7x7_1", narrow);
    seven = b_.conv(seven, m + ".branch7x7_2", narrow, row);
    seven = b_.conv(seven, m + ".branch7x7_3", 192, column);
    ValueId twice = b_.conv(x, m + ".branch7x7dbl_1", narrow);
    twice = b_.conv(twice, m + ".branch7x7dbl_2", narrow, column);
    twice = b_.conv(twice, m + ".branch7x7dbl_3", narrow, row);
    twice = b_.conv(twice, m + ".branch7x7dbl_4", narrow, column);
    twice = b_.conv(twice, m + ".branch7x7dbl_5", 192, row);
    const ValueId last = pooled(x, m, 192);
    return b_.concat(m, {one, seven, twice, last});
  }

  ValueId reduce17(ValueId x, const std::string& m) {
    ValueId three = b_.conv(x, m + ".branch3x3_1", 192);
    three = b_.conv(three, m + ".branch3x3_2", 320, 3, 2, true);
    ValueId seven = b_.conv(x, m + ".branch7x7x3_1", 192);
    seven = b_.conv(seven, m + ".branch7x7x3_2", 192, Size2d(1, 7));
    seven = b_.conv(seven, m + ".branch7x7x3_3", 192, Size2d(7, 1));
    seven = b_.conv(seven, m + ".branch7x7x3_4", 192, 3, 2, true);
    const ValueId pool = b_.max_pool(x, m + ".pool", 3, 2, 0, false);
    return b_.concat(m, {three, seven, pool});
  }

  ValueId e(ValueId x, const std::string& m) {
    const Size2d row(1, 3), column(3, 1);
    const ValueId one = b_.conv(x, m + ".branch1x1", 320);
    const ValueId three = b_.conv(x, m + ".branch3x3_1", 384);
    const ValueId three_a = b_.conv(three, m + ".branch3x3_2a", 384, row);
    const ValueId three_b = b_.conv(three, m + ".branch3x3_2b", 384, column);
    ValueId twice = b_.conv(x, m + ".branch3x3dbl_1", 448);
    twice = b_.conv(twice, m + ".branch3x3dbl_2", 384, 3);
    const ValueId twice_a = b_.conv(twice, m + ".branch3x3dbl_3a", 384, row);
    const ValueId twice_b = b_.conv(twice, m + ".branch3x3dbl_3b", 384, column);
    const ValueId last = pooled(x, m, 192);
    return b_.concat(m, {one, three_a, three_b, twice_a, twice_b, last});
  }

  InceptionBuilder b_;
};

}  // namespace

std::vector<Model> inception_models() {
  io::Preprocessing p;
  p.mean = p.std = {0.5F, 0.5F, 0.5F};
  Model googlenet;
  io::Preprocessing bilinear = p;
  bilinear.interpolation = io::Interpolation::kBilinear;
  googlenet.info = {"googlenet", "Inception", "torchvision", bilinear};
  googlenet.build = build_googlenet;
  googlenet.unused = {"aux1.", "aux2."};
  Model v3;
  p.size = 299;
  v3.info = {"inception_v3", "Inception", "timm", p};
  v3.build = [](Weights& weights) { return InceptionV3(weights).build(); };
  v3.unused = {"AuxLogits."};
  return {googlenet, v3};
}

}  // namespace sepconv::models
