// The gateway's own metrics. Thread-safe handles.
#pragma once

#include "base/metrics.h"

namespace warmpath::gateway {

struct GatewayMetrics {
  explicit GatewayMetrics(Registry& registry);

  // By status class of what the client got.
  const Counter answered_2xx;
  const Counter answered_4xx;
  const Counter answered_5xx;
  const Counter client_aborts;
  const Counter retries_connect;
  const Counter retries_reset;
  const Counter retries_status;
  const Counter broken_streams;
  const Counter decision_timeouts;
  const Counter decision_pool_full;
  const Gauge in_flight;

  void CountAnswer(int status) const;
};

}  // namespace warmpath::gateway
