// Pull reader of the Prometheus text exposition format 0.0.4 (and OpenMetrics as far as samples
// go). Pure function, thread-safe.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace warmpath::codec {

struct PromSample {
  std::string_view name;
  std::vector<std::pair<std::string_view, std::string_view>> labels;  // values unescaped
  double value = 0;                                                   // may be NaN or infinite

  // "" when absent.
  std::string_view Label(std::string_view key) const;
};

struct PromLimits {
  size_t max_bytes = size_t{32} << 20;
  size_t max_labels = 64;  // per sample; a line with more is bad
};

struct PromStats {
  uint64_t samples = 0;
  uint64_t bad_lines = 0;  // not understood, passed over
};

// Calls `fn` for each sample; the views live during the call. One bad line costs itself only. Fails
// on size alone.
Result<PromStats> ReadPrometheusText(std::string_view text,
                                     const std::function<void(const PromSample&)>& fn,
                                     PromLimits limits = {});

}  // namespace warmpath::codec
