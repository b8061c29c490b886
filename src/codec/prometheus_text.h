// Pull reader of the Prometheus text exposition format 0.0.4 (and OpenMetrics as far as samples
// go). Pure functions, thread-safe; nothing is allocated but for label values with escapes.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace warmpath::codec {

struct PromSample {
  using LabelPair = std::pair<std::string_view, std::string_view>;

  std::string_view name;
  std::span<const LabelPair> labels;  // values unescaped
  double value = 0;                   // may be NaN or infinite

  // "" when absent.
  std::string_view Label(std::string_view key) const;
};

inline constexpr size_t kMaxPromLabels = 64;  // per sample

struct PromLimits {
  size_t max_bytes = size_t{32} << 20;
  size_t max_labels = kMaxPromLabels;  // or fewer; a line with more is bad
};

struct PromStats {
  uint64_t samples = 0;    // given to the visitor
  uint64_t bad_lines = 0;  // not understood, passed over; among those the visitor wants
};

class PromVisitor {
 public:
  virtual ~PromVisitor() = default;
  // Asked before the rest of a line is read; once for lines of one name that follow each other.
  virtual bool Wants(std::string_view) { return true; }
  // The views live during the call.
  virtual void OnSample(const PromSample& sample) = 0;
};

// One bad line costs itself only. Fails on size alone.
Result<PromStats> ReadPrometheusText(std::string_view text, PromVisitor& visitor,
                                     PromLimits limits = {});
// Every sample.
Result<PromStats> ReadPrometheusText(std::string_view text,
                                     const std::function<void(const PromSample&)>& fn,
                                     PromLimits limits = {});

}  // namespace warmpath::codec
