#include "net/reactor.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "base/check.h"

namespace warmpath::net {
namespace {

constexpr int kEventsPerTurn = 128;
// Deferred work that defers more is run on, so far, before sockets are looked at again.
constexpr int kDeferredRounds = 8;

timespec Remaining(TimePoint until) {
  const Duration left = std::max<Duration>(Duration::zero(), until - SystemClock().Now());
  const auto ns = std::chrono::duration_cast<std::chrono::nanoseconds>(left).count();
  return {ns / 1'000'000'000, ns % 1'000'000'000};
}

}  // namespace

Reactor::Reactor()
    : epoll_(epoll_create1(EPOLL_CLOEXEC)), wake_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  WP_CHECK(epoll_ >= 0 && wake_ >= 0);
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  WP_CHECK(epoll_ctl(epoll_, EPOLL_CTL_ADD, wake_, &event) == 0);
}

Reactor::~Reactor() {
  // What waits may own the sockets waited for, and remove them on its way out.
  while (!watches_.empty() || !work_.empty() || !dropped_.empty()) {
    const std::vector<Work> work = std::exchange(work_, {});
    for (const auto& watch : watches_) Cancel(*watch);
    if (dropped_.empty() && work.empty()) break;
    Bury();
  }
  close(wake_);
  close(epoll_);
}

Reactor::Watch* Reactor::Add(int fd) {
  auto watch = std::make_unique<Watch>();
  watch->fd = fd;
  watch->index = static_cast<uint32_t>(watches_.size());
  epoll_event event{};
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
  event.data.ptr = watch.get();
  // Out of memory or of watches (fs.epoll.max_user_watches): the socket then fails as it is used.
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
    for (bool& ready : watch->ready) ready = true;
  }
  watches_.push_back(std::move(watch));
  return watches_.back().get();
}

void Reactor::Remove(Watch* watch) {
  Cancel(*watch);
  if (watch->queued) std::erase(ready_, watch);
  watch->removed = true;
  auto& place = watches_[watch->index];
  removed_.push_back(std::move(place));
  place = std::move(watches_.back());
  watches_.pop_back();
  if (watch->index < watches_.size()) place->index = watch->index;
}

void Reactor::Wait(Watch& watch, Kind kind, Waiter waiter) {
  watch.waiters[kind] = std::move(waiter);
  if (!watch.ready[kind] || watch.queued) return;
  watch.queued = true;
  ready_.push_back(&watch);
}

void Reactor::Cancel(Watch& watch) {
  for (Waiter& waiter : watch.waiters) {
    if (waiter) dropped_.push_back(std::move(waiter));
  }
}

void Reactor::Fire(Watch& watch) {
  for (const Kind kind : {kRead, kWrite, kError}) {
    if (watch.removed) return;
    if (!watch.ready[kind] || !watch.waiters[kind]) continue;
    Waiter waiter = std::move(watch.waiters[kind]);
    waiter({});
  }
}

void Reactor::RunDeferred() {
  for (int round = 0; round < kDeferredRounds && (!work_.empty() || !ready_.empty()); ++round) {
    work_now_.swap(work_);
    ready_now_.swap(ready_);
    for (Work& item : work_now_) {
      item();
      item.Reset();
    }
    for (Watch* const watch : ready_now_) {
      watch->queued = false;
      Fire(*watch);
    }
    work_now_.clear();
    ready_now_.clear();
  }
}

void Reactor::Bury() {
  while (!dropped_.empty()) {
    dropped_now_.swap(dropped_);
    dropped_now_.clear();
  }
  removed_.clear();
}

int Reactor::WaitForEvents(std::optional<TimePoint> until, void* events, int capacity) {
  auto* const list = static_cast<epoll_event*>(events);
  if (!work_.empty() || !ready_.empty()) return epoll_wait(epoll_, list, capacity, 0);
  if (!until) return epoll_wait(epoll_, list, capacity, -1);
  const timespec left = Remaining(*until);
  static thread_local bool has_pwait2 = true;
  if (has_pwait2) {
    const int count = epoll_pwait2(epoll_, list, capacity, &left, nullptr);
    if (count >= 0 || errno != ENOSYS) return count;
    has_pwait2 = false;  // an old kernel, or a sandbox: to the millisecond then, never early
  }
  const int64_t ms = left.tv_sec * 1000 + (left.tv_nsec + 999'999) / 1'000'000;
  return epoll_wait(epoll_, list, capacity, static_cast<int>(std::min<int64_t>(ms, 1 << 30)));
}

bool Reactor::Turn(std::optional<TimePoint> until) {
  std::array<epoll_event, kEventsPerTurn> events;
  const int count = WaitForEvents(until, events.data(), kEventsPerTurn);
  WP_CHECK(count >= 0 || errno == EINTR);
  for (int i = 0; i < count; ++i) {
    const uint32_t what = events[static_cast<size_t>(i)].events;
    auto* const watch = static_cast<Watch*>(events[static_cast<size_t>(i)].data.ptr);
    if (watch == nullptr) {
      uint64_t counter = 0;
      wake_seen_ = read(wake_, &counter, sizeof counter) > 0 || wake_seen_;
      continue;
    }
    if (watch->removed) continue;
    const bool broken = (what & (EPOLLERR | EPOLLHUP)) != 0;
    watch->ended |= broken || (what & EPOLLRDHUP) != 0;
    watch->ready[kRead] |= watch->ended || (what & EPOLLIN) != 0;
    watch->ready[kWrite] |= broken || (what & EPOLLOUT) != 0;
    watch->ready[kError] |= broken;
    Fire(*watch);
  }
  RunDeferred();
  Bury();
  return std::exchange(wake_seen_, false);
}

void Reactor::Wake() {
  const uint64_t one = 1;
  // A full counter wakes as well.
  [[maybe_unused]] const ssize_t size = write(wake_, &one, sizeof one);
}

}  // namespace warmpath::net
