#include "base/pool.h"

#include <algorithm>
#include <utility>

#include "base/thread.h"

namespace warmpath {

CpuPool::CpuPool(std::string name, size_t threads, size_t max_queued) : max_queued_(max_queued) {
  for (size_t i = 0; i < threads; ++i) threads_.emplace_back([this, name] { Work(name); });
}

CpuPool::~CpuPool() {
  Stop();
}

bool CpuPool::TryRun(std::function<void()> work) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || queue_.size() >= max_queued_) return false;
    queue_.push_back(std::move(work));
  }
  changed_.NotifyOne();
  return true;
}

bool CpuPool::TryRunNow(std::function<void()> work) {
  {
    MutexLock lock(mutex_);
    if (stopping_ || queue_.size() >= std::min(free_, max_queued_)) return false;
    queue_.push_back(std::move(work));
  }
  changed_.NotifyOne();
  return true;
}

void CpuPool::Stop() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.NotifyAll();
  for (std::thread& thread : threads_) {
    if (thread.joinable()) thread.join();
  }
}

void CpuPool::Work(const std::string& name) {
  NameThread(name);
  for (;;) {
    std::function<void()> work;
    {
      MutexLock lock(mutex_);
      ++free_;
      while (queue_.empty() && !stopping_) changed_.Wait(mutex_);
      --free_;
      if (queue_.empty()) return;
      work = std::move(queue_.front());
      queue_.pop_front();
    }
    work();
  }
}

}  // namespace warmpath
