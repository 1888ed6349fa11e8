#include "sepconv/threads.h"

#include <pthreadpool.h>
#include <sched.h>

#include <algorithm>
#include <thread>

#include "base/check.h"

namespace sepconv {

ThreadPool::ThreadPool(int threads) : threads_(threads) {
  check(threads >= 1 && threads <= 1024, "threads: got {}, expected 1 to 1024", threads);
  if (threads > 1) {
    pool_.reset(pthreadpool_create(static_cast<std::size_t>(threads)));
    if (!pool_) throw Error("threads: the operating system refused to start them");
  }
}

ThreadPool::~ThreadPool() = default;

void ThreadPool::Destroy::operator()(pthreadpool* pool) const { pthreadpool_destroy(pool); }

void ThreadPool::run(void (*task)(void*, std::size_t), void* context, std::size_t count) const {
  if (!pool_ || count <= 1) {
    for (std::size_t i = 0; i < count; ++i) task(context, i);
    return;
  }
  pthreadpool_parallelize_1d(pool_.get(), task, context, count, 0);
}

const ThreadPool& ThreadPool::single() {
  static const ThreadPool pool(1);
  return pool;
}

int available_processors() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

}  // namespace sepconv
