// Exact order statistics of what was measured. Pure functions.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace warmpath::load {

struct Summary {
  uint64_t count = 0;
  double mean = 0, p50 = 0, p90 = 0, p99 = 0, max = 0;  // 0 when nothing was measured
};

// Value at `quantile` in [0, 1] of ascending values, linear between the two nearest ranks (0 is the
// least, 1 the greatest). 0 if empty.
double Quantile(std::span<const float> ascending, double quantile);
// Sorts `values` in place.
Summary Summarise(std::vector<float>& values);
// Middle value, or the mean of the two middle ones. 0 if empty.
double Median(std::vector<double> values);

}  // namespace warmpath::load
