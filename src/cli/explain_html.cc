#include "cli/explain_html.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "sepconv/error.h"

namespace sepconv::cli {

namespace {

constexpr double kWidth = 1000, kHeight = 420, kMargin = 56;

constexpr const char* kStyle = R"(
body { font: 14px/1.45 system-ui, sans-serif; margin: 2em auto; max-width: 1040px; color: #222; }
h1 { font-size: 1.4em; margin-bottom: 0; } h2 { font-size: 1.1em; margin-top: 2em; }
p { margin: .3em 0; color: #555; } svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: #444; }
table { border-collapse: collapse; width: 100%; font-size: 12px; }
th, td { text-align: left; padding: .25em .5em; border-bottom: 1px solid #ddd; vertical-align: top; }
td.n, th.n { text-align: right; white-space: nowrap; } td.name { word-break: break-word; }
)";

std::string escaped(const std::string& text) {
  std::string result;
  for (const char c : text) {
    switch (c) {
      case '&':
        result += "&amp;";
        break;
      case '<':
        result += "&lt;";
        break;
      case '>':
        result += "&gt;";
        break;
      case '"':
        result += "&quot;";
        break;
      default:
        result += c;
    }
  }
  return result;
}

// From red at none of the peak to green at all of it.
std::string colour(double share) {
  return fmt::format("hsl({:.0f} 65% 50%)", 120 * std::clamp(share, 0.0, 1.0));
}

double gflops(const StepInfo& s) { return s.seconds > 0 ? s.flops / s.seconds / 1e9 : 0; }

std::string tip(const ExplainReport& r, const StepInfo& s) {
  const std::string cut = s.cut.empty() ? "" : "\nends as " + s.cut;
  return escaped(fmt::format("{}\n{}\n{:.0f} us, {:.1f} GFLOP/s, {:.0f} % of peak{}", s.name,
                             s.kernel, s.seconds * 1e6, gflops(s), 100 * gflops(s) / r.peak_gflops,
                             cut));
}

std::string timeline(const ExplainReport& r, double total) {
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} 70\">\n", kWidth);
  double x = 0;
  for (const StepInfo& s : r.steps) {
    const double width = s.seconds / total * kWidth;
    svg += fmt::format(
        "<rect x=\"{:.2f}\" y=\"4\" width=\"{:.2f}\" height=\"40\" fill=\"{}\" stroke=\"#fff\" "
        "stroke-width=\"0.7\"><title>{}</title></rect>\n",
        x, width, colour(gflops(s) / r.peak_gflops), tip(r, s));
    x += width;
  }
  for (int i = 0; i <= 4; ++i) {
    const char* anchor = i == 0 ? "start" : i == 4 ? "end" : "middle";
    svg += fmt::format("<text x=\"{:.1f}\" y=\"60\" text-anchor=\"{}\">{:.2f} ms</text>\n",
                       kWidth * i / 4, anchor, total * 1e3 * i / 4);
  }
  return svg + "</svg>\n";
}

// Both axes are logarithmic.
struct Axes {
  double least_x, most_x, least_y, most_y;

  double x(double v) const {
    return kMargin + (kWidth - 2 * kMargin) * std::log(v / least_x) / std::log(most_x / least_x);
  }
  double y(double v) const {
    return kHeight - kMargin -
           (kHeight - 2 * kMargin) * std::log(v / least_y) / std::log(most_y / least_y);
  }
};

std::string grid(const Axes& a) {
  std::string svg;
  for (double v = a.least_x; v <= a.most_x * 1.01; v *= 10) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"{1:.1f}\" y2=\"{2:.1f}\" stroke=\"#eee\"/>"
        "<text x=\"{0:.1f}\" y=\"{3:.1f}\" text-anchor=\"middle\">{4:g}</text>\n",
        a.x(v), a.y(a.least_y), a.y(a.most_y), a.y(a.least_y) + 16, v);
  }
  for (double v = a.least_y; v <= a.most_y * 1.01; v *= 10) {
    svg += fmt::format(
        "<line x1=\"{0:.1f}\" x2=\"{1:.1f}\" y1=\"{2:.1f}\" y2=\"{2:.1f}\" stroke=\"#eee\"/>"
        "<text x=\"{3:.1f}\" y=\"{4:.1f}\" text-anchor=\"end\">{5:g}</text>\n",
        a.x(a.least_x), a.x(a.most_x), a.y(v), kMargin - 6, a.y(v) + 4, v);
  }
  return svg + fmt::format(
                   "<text x=\"{:.0f}\" y=\"{:.0f}\" text-anchor=\"middle\">FLOP per byte of input, "
                   "output and weights</text><text x=\"{:.0f}\" y=\"20\">GFLOP/s</text>\n",
                   kWidth / 2, kHeight - 12, kMargin - 40);
}

std::string roofline(const ExplainReport& r, double total) {
  const double top = std::pow(10, std::ceil(std::log10(r.peak_gflops)));
  const Axes a{0.1, 1000, top / 1000, top};
  std::string svg = fmt::format("<svg viewBox=\"0 0 {} {}\">\n{}", kWidth, kHeight, grid(a));
  for (const ExplainReport::Roof& roof : r.roofs) {
    const double ridge = std::clamp(r.peak_gflops / roof.gbps, a.least_x, a.most_x);
    const double left = std::max(a.least_x, a.least_y / roof.gbps);
    svg += fmt::format(
        "<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#999\"/>"
        "<text x=\"{:.1f}\" y=\"{:.1f}\">{} {:.0f} GB/s</text>\n",
        a.x(left), a.y(left * roof.gbps), a.x(ridge), a.y(ridge * roof.gbps), a.x(left) + 4,
        a.y(left * roof.gbps) + (&roof == &r.roofs.back() ? 14 : -8), escaped(roof.name),
        roof.gbps);
  }
  svg += fmt::format(
      "<line x1=\"{:.1f}\" x2=\"{:.1f}\" y1=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"#333\"/>"
      "<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"end\">FMA peak {:.0f} GFLOP/s</text>\n",
      a.x(a.least_x), a.x(a.most_x), a.y(r.peak_gflops), a.y(r.peak_gflops), a.x(a.most_x),
      a.y(r.peak_gflops) - 6, r.peak_gflops);
  for (const StepInfo& s : r.steps) {
    if (s.flops <= 0 || s.bytes <= 0 || s.seconds <= 0) continue;
    svg += fmt::format(
        "<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{:.1f}\" fill=\"{}\" fill-opacity=\"0.65\" "
        "stroke=\"#333\" stroke-width=\"0.5\"><title>{}</title></circle>\n",
        a.x(std::clamp(s.flops / s.bytes, a.least_x, a.most_x)),
        a.y(std::clamp(gflops(s), a.least_y, a.most_y)),
        2.5 + 40 * std::sqrt(s.seconds / total) / 2, colour(gflops(s) / r.peak_gflops), tip(r, s));
  }
  return svg + "</svg>\n";
}

std::string table(const ExplainReport& r, double total) {
  std::string html =
      "<table>\n<tr><th>step</th><th>fused</th><th>kernel</th><th>output</th><th "
      "class=\"n\">MFLOP</th><th class=\"n\">MB</th><th class=\"n\">us</th><th class=\"n\">of "
      "time</th><th class=\"n\">of peak</th></tr>\n";
  for (const StepInfo& s : r.steps) {
    const double share = gflops(s) / r.peak_gflops;
    html += fmt::format(
        "<tr><td class=\"name\">{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{:.1f}</td>"
        "<td class=\"n\">{:.2f}</td><td class=\"n\">{:.1f}</td><td class=\"n\">{:.1f} %</td>"
        "<td class=\"n\" style=\"border-right: 6px solid {}\">{:.0f} %</td></tr>\n",
        escaped(s.name), escaped(s.fused), escaped(s.kernel), to_string(s.output), s.flops / 1e6,
        s.bytes / 1e6, s.seconds * 1e6, 100 * s.seconds / total, colour(share), 100 * share);
  }
  return html + "</table>\n";
}

}  // namespace

std::string to_html(const ExplainReport& r) {
  double total = 0;
  for (const StepInfo& s : r.steps) total += s.seconds;
  return fmt::format(
      "<!doctype html>\n<html lang=\"en\">\n<head><meta charset=\"utf-8\"><title>{0}</title><style>"
      "{1}</style></head>\n<body>\n<h1>{0}</h1>\n<p>{2}</p>\n<h2>Timeline</h2>\n<p>Steps in their "
      "order, as wide as their time, from red (none of the FMA peak) to green (all of it).</p>\n{3}"
      "<h2>Roofline</h2>\n<p>A circle is a step, its area its share of the time. Above a slanted "
      "line, data came from a nearer cache.</p>\n{4}<h2>Steps</h2>\n{5}</body>\n</html>\n",
      escaped(r.title), kStyle, escaped(r.subtitle), timeline(r, total), roofline(r, total),
      table(r, total));
}

void write_page(const std::string& path, const std::string& html) {
  const std::string part = path + ".part";
  std::ofstream stream(part, std::ios::binary);
  stream << html;
  stream.close();
  std::error_code error;
  if (stream) std::filesystem::rename(part, path, error);
  if (!stream || error) {
    std::error_code ignored;
    std::filesystem::remove(part, ignored);
    throw FileError(path + ": cannot be written");
  }
}

}  // namespace sepconv::cli
