// Metrics of the external processor. Thread-safe handles.
#pragma once

#include <string>

#include "base/metrics.h"

namespace warmpath::extproc {

struct ExtProcMetrics {
  explicit ExtProcMetrics(Registry& metrics);

  Registry& registry;
  const Counter decision_timeouts;
  const Counter decision_pool_full;
  const Counter body_unseen;  // the body mode lets nothing be read before the headers are due
  const Counter refused_invalid;
  const Counter refused_too_large;
  const Counter refused_memory;
  const Counter refused_model;
  const Counter refused_saturated;
  const Counter refused_no_endpoints;
  const Counter refused_other;
  const Counter aborts;
  const Counter protocol_errors;
};

// llm-d's, for those who ask for them.
struct StreamMetrics {
  explicit StreamMetrics(Registry& metrics);
  // `code`: name of the stream's gRPC status ("OK", "Canceled").
  void CountEnd(const char* code, double seconds) const;

  Registry& registry;
  const Gauge in_flight;
  const Histogram duration_seconds;
};

}  // namespace warmpath::extproc
