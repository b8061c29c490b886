// Coarse deadlines for connections: setting, moving and clearing one costs a few stores, whatever
// their number. Loop-confined.
//
// A deadline fires up to one tick late, never early. The wheel knows no clock: its owner calls
// Advance.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>

#include "base/clock.h"

namespace warmpath::net {

class DeadlineWheel;

// Must not outlive its wheel while set.
class Deadline {
 public:
  Deadline(DeadlineWheel& wheel, std::function<void()> expired);
  ~Deadline();
  Deadline(const Deadline&) = delete;
  Deadline& operator=(const Deadline&) = delete;

  void Set(Duration from_now);  // replaces what was set
  void Clear();
  bool set() const { return due_tick_ != kNone; }

 private:
  friend class DeadlineWheel;
  static constexpr uint64_t kNone = UINT64_MAX;

  DeadlineWheel* wheel_;
  std::function<void()> expired_;
  uint64_t due_tick_ = kNone;
  uint64_t slot_tick_ = 0;  // when the wheel looks at it next; never later than due_tick_
  Deadline* next_ = nullptr;
  Deadline* previous_ = nullptr;
};

class DeadlineWheel {
 public:
  static constexpr Duration kTick = std::chrono::milliseconds(50);

  explicit DeadlineWheel(TimePoint start);
  ~DeadlineWheel();
  DeadlineWheel(const DeadlineWheel&) = delete;
  DeadlineWheel& operator=(const DeadlineWheel&) = delete;

  // Fires what is due. Callbacks may set, clear and destroy any deadline.
  void Advance(TimePoint now);
  bool empty() const { return linked_ == 0; }
  // When Advance has something to look at; setting a deadline may make it earlier.
  std::optional<TimePoint> next() const {
    if (empty()) return std::nullopt;
    return start_ + next_tick_ * kTick;
  }
  // The time deadlines count from; the steady clock unless a test says otherwise.
  void UseNow(std::function<TimePoint()> now) { now_ = std::move(now); }

 private:
  friend class Deadline;
  static constexpr size_t kSlots = 512;

  uint64_t TickOf(TimePoint t) const;
  void Link(Deadline& deadline, uint64_t tick);
  void Unlink(Deadline& deadline);

  const TimePoint start_;
  std::function<TimePoint()> now_;
  uint64_t current_tick_ = 0;  // every slot up to here has been looked at
  uint64_t next_tick_ = 0;     // no slot before this one has deadlines
  size_t linked_ = 0;
  std::array<Deadline*, kSlots> slots_{};
};

}  // namespace warmpath::net
