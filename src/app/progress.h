// A line that says how far something is: redrawn in place on a terminal, a new line now and then
// elsewhere. One thread.
#pragma once

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <string_view>

#include "base/clock.h"

namespace warmpath::app {

class ProgressLine {
 public:
  explicit ProgressLine(std::FILE* out) : out_(out), terminal_(isatty(fileno(out)) != 0) {}
  ~ProgressLine() { End(); }
  ProgressLine(const ProgressLine&) = delete;
  ProgressLine& operator=(const ProgressLine&) = delete;

  // Without a terminal at most one line per five seconds is printed.
  void Show(std::string_view text) {
    if (terminal_) {
      fmt::print(out_, "\r\x1b[2K{}", text);
      drawn_ = true;
    } else {
      const TimePoint now = SystemClock().Now();
      if (now < quiet_until_) return;
      quiet_until_ = now + std::chrono::seconds(5);
      fmt::print(out_, "{}\n", text);
    }
    std::fflush(out_);
  }
  // Leaves the last text as a finished line.
  void End() {
    if (drawn_) fmt::print(out_, "\n");
    drawn_ = false;
    std::fflush(out_);
  }
  bool terminal() const { return terminal_; }

 private:
  std::FILE* const out_;
  const bool terminal_;
  bool drawn_ = false;
  TimePoint quiet_until_{};
};

}  // namespace warmpath::app
