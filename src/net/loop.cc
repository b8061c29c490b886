#include "net/loop.h"

#include <sched.h>

#include <algorithm>
#include <future>
#include <utility>

#include "base/check.h"
#include "base/thread.h"
#include "net/loop_impl.h"

namespace warmpath::net {

// ---- TimerQueue

std::shared_ptr<TimerState> TimerQueue::Add(Duration delay, Duration period,
                                            std::function<void()> fire) {
  auto state = std::make_shared<TimerState>();
  state->queue = weak_from_this();
  state->period = period;
  state->fire = std::move(fire);
  state->at = entries_.emplace(SystemClock().Now() + delay, state);
  state->queued = true;
  return state;
}

void TimerQueue::Remove(TimerState& state) {
  if (!state.queued) return;
  state.queued = false;
  entries_.erase(state.at);
}

void TimerQueue::Shutdown() {
  // What a timer holds may cancel others on its way out.
  const Entries dropped = std::exchange(entries_, {});
  for (const auto& [due, state] : dropped) state->queued = false;
}

std::optional<TimePoint> TimerQueue::due() const {
  if (entries_.empty()) return std::nullopt;
  return entries_.begin()->first;
}

void TimerQueue::FireDue() {
  const TimePoint now = SystemClock().Now();
  while (!entries_.empty() && entries_.begin()->first <= now) {
    const std::shared_ptr<TimerState> state = entries_.begin()->second;
    const TimePoint due = entries_.begin()->first;
    Remove(*state);
    // The callback may cancel or destroy its own timer: it runs from here, not from the state.
    auto fire = std::move(state->fire);
    fire();
    if (state->period > Duration::zero() && !state->cancelled) {
      state->fire = std::move(fire);
      // A late loop skips the periods it missed.
      const TimePoint next = std::max(due + state->period, SystemClock().Now());
      state->at = entries_.emplace(next, state);
      state->queued = true;
      if (next <= now) break;
    }
  }
}

// ---- Timer

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    Cancel();
    state_ = std::move(other.state_);
  }
  return *this;
}

Timer::~Timer() {
  Cancel();
}

void Timer::Cancel() {
  if (!state_) return;
  const auto state = std::static_pointer_cast<TimerState>(std::exchange(state_, nullptr));
  state->cancelled = true;
  if (const auto queue = state->queue.lock()) queue->Remove(*state);
  state->fire = nullptr;
}

// ---- Loop

Loop::Impl::Impl(std::string loop_name)
    : name(std::move(loop_name)),
      wheel(SystemClock().Now()),
      timers(std::make_shared<TimerQueue>()) {}

Loop::Impl::~Impl() {
  timers->Shutdown();
}

std::optional<TimePoint> Loop::Impl::NextDue() const {
  const std::optional<TimePoint> due = timers->due();
  const std::optional<TimePoint> wheel_due = wheel.next();
  if (!due || !wheel_due) return due ? due : wheel_due;
  return std::min(*due, *wheel_due);
}

void Loop::Impl::Run() {
  while (state.load(std::memory_order_relaxed) != State::kStopped) {
    if (reactor.Turn(NextDue())) RunPosted();
    const std::optional<TimePoint> due = NextDue();
    if (!due || *due > SystemClock().Now()) continue;
    timers->FireDue();
    TurnWheel();
  }
}

void Loop::Impl::TurnWheel() {
  const TimePoint now = SystemClock().Now();
  const std::optional<TimePoint> due = wheel.next();
  if (due && *due <= now) wheel.Advance(now);
}

void Loop::Impl::RunPosted() {
  std::vector<std::function<void()>> work_items;
  {
    MutexLock lock(mutex);
    wake_pending = false;
    work_items.swap(posted);
  }
  for (auto& item : work_items) {
    item();
    item = nullptr;
  }
}

Loop::Loop(std::string name) : impl_(std::make_unique<Impl>(std::move(name))) {}

Loop::~Loop() {
  Stop();
}

void Loop::Start() {
  WP_CHECK(impl_->state.load() == Impl::State::kNew);
  impl_->state = Impl::State::kRunning;
  std::promise<void> running;
  impl_->thread = std::thread([this, &running] {
    impl_->thread_id = std::this_thread::get_id();
    NameThread(impl_->name);
    running.set_value();
    impl_->Run();
  });
  running.get_future().wait();
}

void Loop::Stop() {
  if (impl_->state.exchange(Impl::State::kStopped) == Impl::State::kRunning) {
    WP_CHECK(!InLoop());
    impl_->reactor.Wake();
    impl_->thread.join();
  }
  std::vector<std::function<void()>> dropped;
  {
    MutexLock lock(impl_->mutex);
    impl_->closed = true;
    dropped.swap(impl_->posted);
  }
}

void Loop::Post(std::function<void()> work) {
  if (InLoop()) {
    impl_->reactor.Defer(std::move(work));
    return;
  }
  {
    MutexLock lock(impl_->mutex);
    if (impl_->closed) return;
    impl_->posted.push_back(std::move(work));
    if (std::exchange(impl_->wake_pending, true)) return;
  }
  impl_->reactor.Wake();
}

void Loop::Run(std::function<void()> work) {
  WP_CHECK(!InLoop());
  if (impl_->state.load() != Impl::State::kRunning) {
    work();  // nobody else is on this loop
    return;
  }
  // Work dropped by a concurrent Stop breaks the promise, which ends the wait too.
  auto done = std::make_shared<std::promise<void>>();
  std::future<void> future = done->get_future();
  Post([work = std::move(work), done = std::move(done)] {
    work();
    done->set_value();
  });
  future.wait();
}

Timer Loop::After(Duration delay, std::function<void()> fire) {
  Timer timer;
  timer.state_ = impl_->timers->Add(delay, Duration::zero(), std::move(fire));
  return timer;
}

Timer Loop::Every(Duration period, std::function<void()> fire) {
  WP_CHECK(period > Duration::zero());
  Timer timer;
  timer.state_ = impl_->timers->Add(period, period, std::move(fire));
  return timer;
}

bool Loop::InLoop() const {
  return impl_->thread_id.load() == std::this_thread::get_id();
}

size_t UsableCores() {
  cpu_set_t cores;
  CPU_ZERO(&cores);
  if (sched_getaffinity(0, sizeof cores, &cores) == 0) {
    return static_cast<size_t>(std::max(1, CPU_COUNT(&cores)));
  }
  return std::max(1u, std::thread::hardware_concurrency());  // more than the set has room for
}

// ---- LoopGroup

LoopGroup::LoopGroup(std::string name, size_t count) {
  for (size_t i = 0; i < count; ++i) {
    loops_.push_back(std::make_unique<Loop>(name + "-" + std::to_string(i)));
  }
}

LoopGroup::~LoopGroup() {
  Stop();
}

void LoopGroup::Start() {
  for (auto& loop : loops_) loop->Start();
}

void LoopGroup::Stop() {
  for (auto& loop : loops_) loop->Stop();
}

}  // namespace warmpath::net
