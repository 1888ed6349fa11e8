#include "models/inverted_residual.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <sstream>

#include "base/check.h"

namespace sepconv::models {

namespace {

// Nearest multiple of 8, but not below a share of the value (Sandler et al., 2018, reference code).
std::int64_t round_channels(double channels, double least_share = 0.9) {
  const std::int64_t rounded =
      std::max<std::int64_t>(8, static_cast<std::int64_t>(channels + 4) / 8 * 8);
  return static_cast<double>(rounded) < least_share * channels ? rounded + 8 : rounded;
}

BlockNames timm_block(const BlockPlace& p) {
  const std::string b = fmt::format("blocks.{}.{}.", p.stage, p.in_stage);
  switch (p.kind) {
    case BlockKind::kConv:
      return {b + "conv", b + "bn1", "", "", "", "", ""};
    case BlockKind::kFused:
      return {b + "conv_exp", b + "bn1", "", "", b + "conv_pwl", b + "bn2", b + "se."};
    case BlockKind::kInvertedResidual:
      return {b + "conv_pw",  b + "bn1", b + "conv_dw", b + "bn2",
              b + "conv_pwl", b + "bn3", b + "se."};
    default:
      return {"", "", b + "conv_dw", b + "bn1", b + "conv_pw", b + "bn2", b + "se."};
  }
}

BlockKind parse_kind(const std::string& text) {
  if (text == "cn") return BlockKind::kConv;
  if (text == "ds") return BlockKind::kSeparable;
  if (text == "dsa") return BlockKind::kSeparableActivated;
  if (text == "ir") return BlockKind::kInvertedResidual;
  check(text == "er", "row: kind is '{}', expected cn, ds, dsa, ir or er", text);
  return BlockKind::kFused;
}

std::vector<std::string> split(const std::string& text, char separator) {
  std::vector<std::string> parts;
  std::istringstream stream(text);
  for (std::string part; std::getline(stream, part, separator);) parts.push_back(part);
  return parts;
}

// A stage's rows with their repeats scaled: the stage as a whole, shared out from its last row to
// its first, so that a row of one block rather stays alone.
std::vector<Row> scaled_rows(const char* stage, double depth, bool rounds) {
  std::vector<Row> rows;
  std::int64_t total = 0;
  for (const std::string& text : split(stage, ' ')) {
    rows.push_back(parse_row(text));
    total += rows.back().repeats;
  }
  const double exact = static_cast<double>(total) * depth;
  auto scaled = static_cast<std::int64_t>(rounds ? std::nearbyint(exact) : std::ceil(exact));
  scaled = std::max<std::int64_t>(scaled, 1);
  for (std::size_t i = rows.size(); i-- > 0;) {
    const std::int64_t own = rows[i].repeats;
    const double share =
        static_cast<double>(own) / static_cast<double>(total) * static_cast<double>(scaled);
    rows[i].repeats = std::max<std::int64_t>(1, static_cast<std::int64_t>(std::nearbyint(share)));
    total -= own;
    scaled -= rows[i].repeats;
  }
  return rows;
}

class NetworkBuilder {
 public:
  NetworkBuilder(const Recipe& recipe, Weights& weights)
      : recipe_(recipe), builder_(weights, recipe.flavour) {}

  Graph build(std::int64_t classes) {
    const Scaling& s = recipe_.scaling;
    const Naming& names = *recipe_.naming;
    channels_ = s.fixed_stem ? recipe_.stem : scaled(recipe_.stem);
    x_ = builder_.conv_norm(
        0, {names.stem, names.stem_norm, 3, channels_, 3, 2, 1, recipe_.activation});
    std::int64_t stride = 2;
    builder_.end_stage(x_, stride);
    std::size_t overall = 0;
    for (std::size_t i = 0; i < recipe_.stages.size(); ++i) {
      const bool end = i == 0 || i + 1 == recipe_.stages.size();
      const double depth = s.fixed_ends && end ? 1.0 : s.depth;
      std::size_t in_stage = 0;
      for (const Row& row : scaled_rows(recipe_.stages[i], depth, s.rounds_depth)) {
        if (in_stage == 0) stride *= row.stride;
        for (std::int64_t j = 0; j < row.repeats; ++j, ++in_stage, ++overall) {
          add_block(row, {i, in_stage, overall, row.kind, row.expansion != 1});
        }
      }
      builder_.end_stage(x_, stride);
    }
    add_head(classes);
    return std::move(builder_.graph);
  }

 private:
  std::int64_t scaled(std::int64_t channels) const {
    return round_channels(static_cast<double>(channels) * recipe_.scaling.width,
                          recipe_.scaling.least_share);
  }

  void add_block(const Row& row, const BlockPlace& place) {
    const BlockNames names = recipe_.naming->block(place);
    const Activation activation = row.other_activation ? row.activation : recipe_.activation;
    const std::int64_t in = channels_, out = scaled(row.channels);
    const std::int64_t stride = place.in_stage == 0 ? row.stride : 1;
    const std::int64_t kernel = row.kernels.front();
    const ValueId input = x_;
    std::int64_t middle = in;
    if (row.kind == BlockKind::kConv) {
      x_ = builder_.conv_norm(
          x_, {names.expand, names.expand_norm, in, out, kernel, stride, 1, activation});
      channels_ = out;
      if (row.skip && stride == 1 && in == out) x_ = builder_.add(x_, input, names.expand + ".add");
      return;
    }
    const bool inverted = row.kind == BlockKind::kInvertedResidual;
    if (inverted || row.kind == BlockKind::kFused) {
      middle = round_channels(static_cast<double>(in) * row.expansion);
    }
    if (row.kind == BlockKind::kFused) {
      x_ = builder_.conv_norm(
          x_, {names.expand, names.expand_norm, in, middle, kernel, stride, 1, activation});
    } else {
      if (inverted && !names.expand.empty()) {
        x_ = builder_.conv_norm(
            x_, {names.expand, names.expand_norm, in, middle, 1, 1, row.expand_groups, activation});
      }
      const ConvNorm depthwise{
          names.depthwise, names.depthwise_norm, middle, middle, kernel, stride, middle,
          activation};
      x_ = row.kernels.size() > 1 ? builder_.mixed_depthwise_norm(x_, depthwise, row.kernels)
                                  : builder_.conv_norm(x_, depthwise);
    }
    if (row.squeeze > 0) add_squeeze(row, names.squeeze, middle, activation);
    const bool activates = row.kind == BlockKind::kSeparableActivated;
    x_ = builder_.conv_norm(x_, {names.project, names.project_norm, middle, out, 1, 1,
                                 row.project_groups, activates ? activation : Activation()});
    if (!activates && stride == 1 && in == out) {
      x_ = builder_.add(x_, input, names.project + ".add");
    }
    channels_ = out;
  }

  void add_squeeze(const Row& row, const std::string& prefix, std::int64_t channels,
                   const Activation& activation) {
    const SqueezeStyle& style = recipe_.squeeze;
    const double share = style.of_expanded ? row.squeeze : row.squeeze / row.expansion;
    const double exact = static_cast<double>(channels) * share;
    const std::int64_t middle =
        style.rounds ? round_channels(exact) : static_cast<std::int64_t>(std::nearbyint(exact));
    x_ = builder_.squeeze_excite(
        x_, {prefix + "conv_reduce", prefix + "conv_expand", channels, middle,
             style.relu ? Activation(ActivationKind::kRelu) : activation, style.gate});
  }

  void add_head(std::int64_t classes) {
    const Scaling& s = recipe_.scaling;
    const Naming& names = *recipe_.naming;
    const std::int64_t head = s.fixed_head ? recipe_.head : scaled(recipe_.head);
    if (recipe_.head_kind == Head::kConv) {
      x_ = builder_.conv_norm(
          x_, {names.head, names.head_norm, channels_, head, 1, 1, 1, recipe_.activation});
    }
    x_ = builder_.global_pool(x_);
    if (recipe_.head_kind == Head::kPooled) {
      x_ = builder_.linear(x_, names.head, channels_, head, recipe_.activation, true);
    }
    const std::int64_t features = recipe_.head_kind == Head::kNone ? channels_ : head;
    builder_.linear(x_, names.classifier, features, classes);
  }

  const Recipe& recipe_;
  Builder builder_;
  ValueId x_ = 0;
  std::int64_t channels_ = 0;
};

}  // namespace

Row parse_row(const std::string& text) {
  const std::vector<std::string> fields = split(text, '_');
  Row row{};
  row.kind = parse_kind(fields.front());
  for (std::size_t i = 1; i < fields.size(); ++i) {
    const std::string& f = fields[i];
    if (f == "skip") {
      row.skip = true;
    } else if (f == "nre" || f == "nsw") {
      row.other_activation = true;
      row.activation = f == "nre" ? ActivationKind::kRelu : ActivationKind::kSilu;
    } else if (f.starts_with("se")) {
      row.squeeze = std::stod(f.substr(2));
    } else if (f.starts_with('k')) {
      row.kernels.clear();
      for (const std::string& k : split(f.substr(1), '.')) row.kernels.push_back(std::stoll(k));
    } else if (f == "a1.1") {
      row.expand_groups = 2;
    } else if (f == "p1.1") {
      row.project_groups = 2;
    } else if (f.starts_with('e')) {
      row.expansion = std::stod(f.substr(1));
    } else {
      const std::int64_t value = std::stoll(f.substr(1));
      check(f[0] == 'r' || f[0] == 's' || f[0] == 'c', "row: field '{}' of '{}' is unknown", f,
            text);
      (f[0] == 'r' ? row.repeats : f[0] == 's' ? row.stride : row.channels) = value;
    }
  }
  return row;
}

const Naming kTimmNaming = {"conv_stem", "bn1", "conv_head", "bn2", "classifier", timm_block};

Graph build_inverted_residual_network(const Recipe& recipe, Weights& weights,
                                      std::int64_t classes) {
  return NetworkBuilder(recipe, weights).build(classes);
}

Model recipe_model(ModelInfo info, const Recipe& recipe) {
  const std::int64_t classes = info.classes;
  Model model;
  model.info = std::move(info);
  model.build = [recipe, classes](Weights& weights) {
    return build_inverted_residual_network(recipe, weights, classes);
  };
  return model;
}

}  // namespace sepconv::models
