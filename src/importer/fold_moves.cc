// Constants whose elements go to other places.

#include <algorithm>
#include <numeric>

#include "base/check.h"
#include "importer/fold.h"

namespace sepconv::importer {

namespace {

OnnxConstant reshaped(const OnnxTensor& t, Dims dims) {
  OnnxTensor y = t;
  if (count_of(dims) != t.size()) throw Unsupported("a reshape to another number of elements");
  y.dims = std::move(dims);
  return made(std::move(y));
}

}  // namespace

OnnxConstant fold_reshape(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  Dims dims = argument(in, 1).integers;
  std::int64_t known = 1;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && i < t.dims.size() && !integer_of(node, "allowzero", 0)) dims[i] = t.dims[i];
    if (dims[i] != -1) known *= dims[i];
  }
  for (std::int64_t& d : dims) {
    if (d == -1) d = known > 0 ? static_cast<std::int64_t>(t.size()) / known : 0;
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_flatten(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const std::int64_t axis = integer_of(node, "axis", 1);
  const auto rank = static_cast<std::int64_t>(t.dims.size());
  const auto split = to_size(std::clamp<std::int64_t>(axis < 0 ? axis + rank : axis, 0, rank));
  Dims dims{1, 1};
  for (std::size_t d = 0; d < t.dims.size(); ++d) dims[d < split ? 0 : 1] *= t.dims[d];
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_squeeze(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  std::vector<bool> gone(t.dims.size(), false);
  for (const std::int64_t a : axes) gone[axis_of(a, t.dims.size())] = true;
  Dims dims;
  for (std::size_t d = 0; d < t.dims.size(); ++d) {
    if (axes.empty() ? t.dims[d] != 1 : !gone[d]) dims.push_back(t.dims[d]);
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_unsqueeze(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims axes = list_of(node, "axes", in, 1);
  const std::size_t rank = t.dims.size() + axes.size();
  Dims dims(rank, 0);
  for (const std::int64_t a : axes) dims[axis_of(a, rank)] = 1;
  auto next = t.dims.begin();
  for (std::int64_t& d : dims) {
    if (d == 0 && next != t.dims.end()) d = *next++;
  }
  return reshaped(t, std::move(dims));
}

OnnxConstant fold_gather(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &index = argument(in, 1);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), t.dims.size());
  Dims dims(t.dims.begin(), t.dims.begin() + static_cast<std::ptrdiff_t>(axis));
  dims.insert(dims.end(), index.dims.begin(), index.dims.end());
  dims.insert(dims.end(), t.dims.begin() + static_cast<std::ptrdiff_t>(axis) + 1, t.dims.end());
  const auto step = strides(t.dims), index_step = strides(index.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0, which = 0;
    for (std::size_t d = 0; d < axis; ++d) from += where[d] * step[d];
    for (std::size_t d = 0; d < index.dims.size(); ++d) which += where[axis + d] * index_step[d];
    from += axis_of(index.integers.at(which), to_size(t.dims[axis])) * step[axis];
    for (std::size_t d = axis + 1; d < t.dims.size(); ++d) {
      from += where[d - 1 + index.dims.size()] * step[d];
    }
    return from;
  });
}

OnnxConstant fold_tile(const OnnxNode&, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &repeats = argument(in, 1);
  if (repeats.integers.size() != t.dims.size()) throw Unsupported("by a list of another length");
  Dims dims = t.dims;
  for (std::size_t d = 0; d < dims.size(); ++d) {
    if (repeats.integers[d] < 0) throw Unsupported("by less than nothing");
    dims[d] = checked_multiply(dims[d], repeats.integers[d], "tile");
  }
  const auto step = strides(t.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0;
    for (std::size_t d = 0; d < where.size(); ++d) from += where[d] % to_size(t.dims[d]) * step[d];
    return from;
  });
}

OnnxConstant fold_scatter_nd(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &index = argument(in, 1), &updates = argument(in, 2);
  if (text_of(node, "reduction", "none") != "none") {
    throw Unsupported("with a reduction");
  }
  OnnxTensor y = argument(in, 0);
  const auto step = strides(y.dims);
  const std::size_t known = index.dims.empty() ? 0 : to_size(index.dims.back());
  if (known < 1 || known > y.dims.size() || !index.integer) {
    throw Unsupported("by what is no list of places");
  }
  const std::size_t run = step[known - 1], lists = index.size() / known;
  if (updates.size() != lists * run) throw Unsupported("of updates of another shape");
  for (std::size_t i = 0; i < lists; ++i) {
    std::size_t to = 0;
    for (std::size_t d = 0; d < known; ++d) {
      to += axis_of(index.integers[i * known + d], to_size(y.dims[d])) * step[d];
    }
    for (std::size_t j = 0; j < run; ++j) put(y, to + j, at(updates, i * run + j));
  }
  return made(std::move(y));
}

OnnxConstant fold_scatter_elements(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &index = argument(in, 1), &updates = argument(in, 2);
  OnnxTensor y = argument(in, 0);
  if (text_of(node, "reduction", "none") != "none" || !index.integer ||
      index.size() != updates.size() || index.dims.size() != y.dims.size()) {
    throw Unsupported("with a reduction, or by what is no list of places");
  }
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), y.dims.size());
  const auto step = strides(y.dims), index_step = strides(index.dims);
  for (std::size_t i = 0; i < index.size(); ++i) {
    std::size_t to = axis_of(index.integers[i], to_size(y.dims[axis])) * step[axis];
    for (std::size_t d = 0; d < y.dims.size(); ++d) {
      if (d == axis) continue;
      const std::size_t at = i / index_step[d] % to_size(index.dims[d]);
      if (at >= to_size(y.dims[d])) throw Unsupported("an index out of range");
      to += at * step[d];
    }
    put(y, to, at(updates, i));
  }
  return made(std::move(y));
}

OnnxConstant fold_gather_nd(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor &t = argument(in, 0), &index = argument(in, 1);
  if (integer_of(node, "batch_dims", 0) != 0 || index.dims.empty() || !index.integer) {
    throw Unsupported("with batch_dims, or by what is no list of places");
  }
  const std::int64_t given = index.dims.back();
  if (given < 1 || given > static_cast<std::int64_t>(t.dims.size())) {
    throw Unsupported("by places of another rank");
  }
  const auto known = static_cast<std::ptrdiff_t>(given);
  Dims dims(index.dims.begin(), index.dims.end() - 1);
  const std::size_t lists = dims.size();
  dims.insert(dims.end(), t.dims.begin() + known, t.dims.end());
  const auto step = strides(t.dims), index_step = strides(index.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0, list = 0;
    for (std::size_t d = 0; d < lists; ++d) list += where[d] * index_step[d];
    for (std::size_t d = 0; d < to_size(given); ++d) {
      from += axis_of(index.integers.at(list + d), to_size(t.dims[d])) * step[d];
    }
    for (std::size_t d = lists; d < where.size(); ++d) {
      from += where[d] * step[d - lists + to_size(given)];
    }
    return from;
  });
}

OnnxConstant fold_concat(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& first = argument(in, 0);
  const std::size_t axis = axis_of(integer_of(node, "axis", 0), first.dims.size());
  Dims dims = first.dims;
  dims[axis] = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (argument(in, i).dims.size() != dims.size()) throw Unsupported("inputs of unequal rank");
    dims[axis] += argument(in, i).dims[axis];
  }
  OnnxTensor y = like(dims, first.integer);
  const std::size_t outer =
      count_of({dims.begin(), dims.begin() + static_cast<std::ptrdiff_t>(axis)});
  std::size_t to = 0;
  for (std::size_t o = 0; o < outer; ++o) {
    for (const OnnxConstant& part : in) {
      const std::size_t run = outer == 0 ? 0 : part->size() / outer;
      if (to + run > y.size()) throw Unsupported("inputs of unequal shapes");
      for (std::size_t i = 0; i < run; ++i) put(y, to++, at(*part, o * run + i));
    }
  }
  return made(std::move(y));
}

OnnxConstant fold_slice(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  const Dims starts = list_of(node, "starts", in, 1), ends = list_of(node, "ends", in, 2);
  Dims axes = list_of(node, "axes", in, 3), steps = list_of(node, "steps", in, 4);
  if (axes.empty()) {
    axes.resize(starts.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (steps.empty()) steps.assign(starts.size(), 1);
  if (ends.size() != starts.size() || axes.size() != starts.size() ||
      steps.size() != starts.size()) {
    throw Unsupported("a slice of unequal lists");
  }
  Dims dims = t.dims, first(t.dims.size(), 0), step(t.dims.size(), 1);
  for (std::size_t i = 0; i < starts.size(); ++i) {
    const std::size_t a = axis_of(axes[i], t.dims.size());
    const std::int64_t size = t.dims[a], by = steps[i];
    if (by == 0) throw Unsupported("a slice by steps of 0");
    const auto position = [&](std::int64_t p, std::int64_t least, std::int64_t most) {
      return std::clamp(p < 0 ? p + size : p, least, most);
    };
    first[a] = by > 0 ? position(starts[i], 0, size) : position(starts[i], 0, size - 1);
    const std::int64_t last = by > 0 ? position(ends[i], 0, size) : position(ends[i], -1, size - 1);
    step[a] = by;
    dims[a] = std::max<std::int64_t>(
        0, by > 0 ? (last - first[a] + by - 1) / by : (first[a] - last - by - 1) / -by);
  }
  const auto stride = strides(t.dims);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::int64_t from = 0;
    for (std::size_t d = 0; d < dims.size(); ++d) {
      from += (first[d] + static_cast<std::int64_t>(where[d]) * step[d]) *
              static_cast<std::int64_t>(stride[d]);
    }
    return to_size(from);
  });
}

OnnxConstant transposed(const OnnxTensor& t, const Dims& order) {
  if (order.size() != t.dims.size()) throw Unsupported("an order of other length than the shape");
  const auto step = strides(t.dims);
  Dims dims;
  for (const std::int64_t a : order) dims.push_back(t.dims[axis_of(a, t.dims.size())]);
  return pick(t, dims, [&](const std::vector<std::size_t>& where) {
    std::size_t from = 0;
    for (std::size_t d = 0; d < where.size(); ++d) from += where[d] * step[to_size(order[d])];
    return from;
  });
}

OnnxConstant fold_transpose(const OnnxNode& node, const Arguments& in) {
  const OnnxTensor& t = argument(in, 0);
  Dims order = list_of(node, "perm");
  if (order.empty()) {
    order.resize(t.dims.size());
    std::iota(order.rbegin(), order.rend(), 0);
  }
  return transposed(t, order);
}

}  // namespace sepconv::importer
