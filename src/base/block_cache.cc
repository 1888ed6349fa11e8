#include "base/block_cache.h"

#include <algorithm>
#include <mutex>
#include <new>
#include <utility>

#include "base/pages.h"
#include "sepconv/tensor.h"

namespace sepconv {

namespace {

using Blocks = std::list<Block::Memory>;

struct State {
  std::mutex mutex;
  Blocks kept;  // the last given back first
  std::size_t kept_bytes = 0;
  std::size_t used_bytes = 0;
  std::size_t most_used_bytes = 0;
};

// Never destroyed: blocks may outlive every other object.
State& state() {
  static auto* s = new State();
  return *s;
}

void free_all(const Blocks& blocks) {
  for (const Block::Memory& m : blocks) free_pages(m.data, m.bytes);
}

// The smallest of those kept that fits and wastes no more than a quarter, the last used one of
// several. The lock is held.
Blocks take_kept(State& s, std::size_t bytes) {
  auto best = s.kept.end();
  for (auto it = s.kept.begin(); it != s.kept.end(); ++it) {
    if (it->bytes < bytes || it->bytes > bytes + bytes / 4) continue;
    if (best == s.kept.end() || it->bytes < best->bytes) best = it;
  }
  Blocks found;
  if (best != s.kept.end()) {
    s.kept_bytes -= best->bytes;
    found.splice(found.begin(), s.kept, best);
  }
  return found;
}

// Those longest not used, where with them and `more` too much would be held. The lock is held.
Blocks take_surplus(State& s, std::size_t more) {
  const std::size_t used = s.used_bytes + more;
  const std::size_t limit = std::max(s.most_used_bytes, used) / 4 * 5;
  Blocks surplus;
  while (!s.kept.empty() && used + s.kept_bytes > limit) {
    s.kept_bytes -= s.kept.back().bytes;
    surplus.splice(surplus.begin(), s.kept, std::prev(s.kept.end()));
  }
  return surplus;
}

// The lock is held.
Block in_use(State& s, Blocks block) {
  s.used_bytes += block.front().bytes;
  s.most_used_bytes = std::max(s.most_used_bytes, s.used_bytes);
  return Block(std::move(block));
}

Blocks allocate(std::size_t bytes) {
  Blocks block{{nullptr, bytes}};
  block.front().data = allocate_pages(bytes);
  return block;
}

}  // namespace

Block::~Block() {
  if (memory_.empty()) return;
  State& s = state();
  const std::lock_guard lock(s.mutex);
  s.used_bytes -= bytes();
  s.kept_bytes += bytes();
  s.kept.splice(s.kept.begin(), memory_);
}

Block BlockCache::take(std::size_t bytes) {
  bytes = (bytes + kPage - 1) / kPage * kPage;
  State& s = state();
  Blocks surplus;
  {
    const std::lock_guard lock(s.mutex);
    Blocks kept = take_kept(s, bytes);
    if (!kept.empty()) return in_use(s, std::move(kept));
    surplus = take_surplus(s, bytes);
  }
  free_all(surplus);
  Blocks fresh = allocate(bytes);
  const std::lock_guard lock(s.mutex);
  return in_use(s, std::move(fresh));
}

std::size_t BlockCache::kept_bytes() {
  State& s = state();
  const std::lock_guard lock(s.mutex);
  return s.kept_bytes;
}

void BlockCache::clear() {
  State& s = state();
  Blocks all;
  {
    const std::lock_guard lock(s.mutex);
    all.swap(s.kept);
    s.kept_bytes = 0;
    s.most_used_bytes = s.used_bytes;
  }
  free_all(all);
}

void BlockCache::after_fork() {
  State& s = state();
  const std::size_t used = s.used_bytes, most = s.most_used_bytes;
  new (&s) State();  // what was kept may have been half changed, and is left as it is
  s.used_bytes = used;
  s.most_used_bytes = most;
}

void empty_cache() { BlockCache::clear(); }

}  // namespace sepconv
