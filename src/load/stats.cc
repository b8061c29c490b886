#include "load/stats.h"

#include <algorithm>
#include <numeric>

namespace warmpath::load {

double Quantile(std::span<const float> ascending, double quantile) {
  if (ascending.empty()) return 0;
  const double rank = std::clamp(quantile, 0.0, 1.0) * static_cast<double>(ascending.size() - 1);
  const size_t low = static_cast<size_t>(rank);
  const size_t high = std::min(low + 1, ascending.size() - 1);
  const double part = rank - static_cast<double>(low);
  return ascending[low] + (double{ascending[high]} - ascending[low]) * part;
}

Summary Summarise(std::vector<float>& values) {
  Summary summary;
  if (values.empty()) return summary;
  std::sort(values.begin(), values.end());
  summary.count = values.size();
  summary.mean =
      std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
  summary.p50 = Quantile(values, 0.50);
  summary.p90 = Quantile(values, 0.90);
  summary.p99 = Quantile(values, 0.99);
  summary.max = values.back();
  return summary;
}

double Median(std::vector<double> values) {
  if (values.empty()) return 0;
  std::sort(values.begin(), values.end());
  const size_t middle = values.size() / 2;
  return values.size() % 2 == 1 ? values[middle] : (values[middle - 1] + values[middle]) / 2;
}

}  // namespace warmpath::load
