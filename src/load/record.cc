#include "load/record.h"

#include <algorithm>
#include <cstdlib>
#include <utility>

namespace warmpath::load {
namespace {

double Ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

}  // namespace

SideReport BuildReport(std::string name, const std::vector<RequestRecord>& records,
                       std::vector<float> gaps, size_t endpoints) {
  SideReport report;
  report.name = std::move(name);
  report.requests = records.size();
  std::vector<float> ttft, e2e;
  double first = 0, last = 0, distance = 0;
  for (const RequestRecord& record : records) {
    if (&record == &records.front() || record.start < first) first = record.start;
    last = std::max(last, record.start + record.e2e);
    if (!record.error.empty()) {
      ++report.errors;
      ++report.error_kinds[record.error];
      report.error_examples.try_emplace(record.error, record.detail);
      continue;
    }
    ttft.push_back(record.ttft);
    e2e.push_back(record.e2e);
    report.prompt_tokens += record.prompt_tokens;
    report.cached_tokens += record.cached_tokens;
    report.completion_tokens += record.completion_tokens;
    if (!record.endpoint.empty()) ++report.endpoint_requests[record.endpoint];
    if (record.predicted_cached) {
      ++report.predicted;
      const int64_t off = int64_t{*record.predicted_cached} - int64_t{record.cached_tokens};
      if (off == 0) ++report.predicted_exactly;
      distance += static_cast<double>(std::llabs(off));
    }
  }
  report.ttft = Summarise(ttft);
  report.itl = Summarise(gaps);
  report.e2e = Summarise(e2e);
  report.seconds = last - first;
  const double answered = static_cast<double>(report.requests - report.errors);
  report.request_rate = Ratio(answered, report.seconds);
  report.output_tokens_per_second =
      Ratio(static_cast<double>(report.completion_tokens), report.seconds);
  report.hit_rate =
      Ratio(static_cast<double>(report.cached_tokens), static_cast<double>(report.prompt_tokens));
  report.prediction_exact =
      Ratio(static_cast<double>(report.predicted_exactly), static_cast<double>(report.predicted));
  report.prediction_error = Ratio(distance, static_cast<double>(report.predicted));

  uint64_t busiest = 0, placed = 0;
  for (const auto& [endpoint, count] : report.endpoint_requests) {
    busiest = std::max(busiest, count);
    placed += count;
  }
  const size_t known = std::max(endpoints, report.endpoint_requests.size());
  report.imbalance =
      Ratio(static_cast<double>(busiest) * static_cast<double>(known), static_cast<double>(placed));
  return report;
}

}  // namespace warmpath::load
