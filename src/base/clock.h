// Time as a dependency: everything that waits, expires or measures takes a Clock, so that tests own
// the time. Thread-safe.
#pragma once

#include <atomic>
#include <chrono>

namespace warmpath {

using Duration = std::chrono::nanoseconds;
// Monotonic; only differences mean anything.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
using WallTime = std::chrono::time_point<std::chrono::system_clock, Duration>;

class Clock {
 public:
  virtual ~Clock() = default;
  virtual TimePoint Now() const = 0;
  virtual WallTime WallNow() const = 0;
};

// The machine's clocks.
const Clock& SystemClock();

// Stands still until Advance; starts at a fixed, arbitrary date.
class ManualClock final : public Clock {
 public:
  TimePoint Now() const override { return TimePoint(Duration(elapsed_.load())); }
  WallTime WallNow() const override {
    return WallTime(std::chrono::seconds(1'750'000'000)) + Duration(elapsed_.load());
  }
  void Advance(Duration by) { elapsed_ += by.count(); }

 private:
  std::atomic<Duration::rep> elapsed_{1'000'000'000};
};

inline double ToSeconds(Duration d) {
  return std::chrono::duration<double>(d).count();
}
inline Duration FromSeconds(double s) {
  return std::chrono::duration_cast<Duration>(std::chrono::duration<double>(s));
}

}  // namespace warmpath
