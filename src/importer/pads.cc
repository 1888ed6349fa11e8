// Borders, which a convolution or pool behind them may take.

#include <algorithm>
#include <numeric>

#include "importer/handlers.h"

namespace sepconv::importer {

namespace {

// Before and behind each dimension.
using Amounts = std::vector<std::pair<std::int64_t, std::int64_t>>;

bool is_none(const Amounts::value_type& a) { return a.first == 0 && a.second == 0; }

Amounts amounts_of(const Values& in, std::size_t rank) {
  const OnnxConstant given = constant(in, 1), axes = constant(in, 3);
  if (!given || !given->integer) throw Unsupported("by amounts that are no constant");
  const Dims& p = given->integers;
  std::vector<std::size_t> dims(rank);
  std::iota(dims.begin(), dims.end(), 0);
  if (axes) {
    dims.clear();
    for (const std::int64_t a : axes->integers) dims.push_back(axis_of(a, rank));
  }
  if (p.size() != 2 * dims.size()) throw Unsupported("by a list of another length");
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  for (const std::int64_t each : p) {
    if (each < -kMost || each > kMost) throw Unsupported("by more than 2^31");
  }
  Amounts amounts(rank);
  for (std::size_t i = 0; i < dims.size(); ++i) amounts[dims[i]] = {p[i], p[dims.size() + i]};
  return amounts;
}

PadMode pad_mode(const OnnxNode& node) {
  const std::string text = text_of(node, "mode", "constant");
  if (text == "reflect") return PadMode::kReflect;
  if (text == "edge") return PadMode::kEdge;
  if (text != "constant") throw Unsupported("by mode " + text);
  return PadMode::kConstant;
}

// Negative amounts take off.
View cropped(GraphBuilder& net, View x, Amounts& amounts) {
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    auto& [before, after] = amounts[i];
    const std::int64_t first = std::max<std::int64_t>(-before, 0);
    const std::int64_t off = first + std::max<std::int64_t>(-after, 0);
    const std::int64_t size = x.sizes()[i];
    if (off >= size) throw Unsupported("of nothing");
    if (off > 0) x = net.real(net.cropped(x, i, first, size - off));
    before = std::max<std::int64_t>(before, 0);
    after = std::max<std::int64_t>(after, 0);
  }
  return x;
}

// One dimension after the other, as channels.
View pad_channels(GraphBuilder& net, const std::string& name, View x, PadNode n,
                  const Amounts& amounts) {
  for (std::size_t i = 0; i < amounts.size(); ++i) {
    if (is_none(amounts[i])) continue;
    const bool images = i == 0 && net.shape(x)[0] > 1;
    if (images || n.mode != PadMode::kConstant) throw Unsupported("of other than an image");
    if (net.shape(x).rank() != 4 || !is_axis(x, i, 1, net.shape(x))) x = net.matrices(x, i);
    n.channels_before = amounts[i].first;
    n.channels_after = amounts[i].second;
    x.id = net.add(name, n, {x.id});
    x.dims[i] = single_axis(1, net.channels(x));
  }
  return x;
}

}  // namespace

Values import_pad(GraphBuilder& net, const OnnxNode& node, const Values& in) {
  const auto* part = expression<SomeChannels>(in[0]);
  const std::size_t rank = part ? part->of.dims.size() : view(in[0]).dims.size();
  Amounts amounts = amounts_of(in, rank);
  if (std::all_of(amounts.begin(), amounts.end(), is_none)) return {in[0]};
  PadNode n;
  n.mode = pad_mode(node);
  n.value = static_cast<float>(scalar(in[2]).value_or(0));
  const View x = part ? part->of : cropped(net, net.real(in[0]), amounts);
  const bool plane = rank == 4 && is_none(amounts[0]) && is_none(amounts[1]);
  if (!plane && !part) return {pad_channels(net, node.name, x, n, amounts)};
  n.amount = {amounts[rank - 2].first, amounts[rank - 2].second, amounts[rank - 1].first,
              amounts[rank - 1].second};
  const Padding& p = n.amount;
  const bool waits = n.mode == PadMode::kConstant && is_image(x, net.shape(x));
  if (part) {
    const bool fits =
        plane && waits && n.value == 0 && std::min({p.top, p.bottom, p.left, p.right}) >= 0;
    if (!fits) throw Unsupported("of a part of the channels by other than zeros");
    SomeChannels padded = *part;
    padded.of.padding = n.amount;
    return {waiting(std::move(padded))};
  }
  if (!waits) return {net.add_view(node.name, n, {net.image(x).id})};
  View padded = x;
  padded.padding = n.amount;
  padded.padded_with = n.value;
  return {padded};
}

}  // namespace sepconv::importer
