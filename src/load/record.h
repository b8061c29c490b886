// What one request showed, and what a side's records add up to.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "load/stats.h"

namespace warmpath::load {

struct RequestRecord {
  uint64_t index = 0;  // place in the workload
  double start = 0;    // seconds since the run began; open loop: when it was due, so a client that
                       // lags hides nothing
  float ttft = 0;      // seconds to the first text; 0 when none came
  float e2e = 0;       // seconds to the end of the answer
  uint32_t prompt_tokens = 0;
  uint32_t cached_tokens = 0;  // usage.prompt_tokens_details.cached_tokens; absent counts as 0
  uint32_t completion_tokens = 0;
  std::optional<uint32_t> predicted_cached;  // x-warmpath-cached-tokens
  std::string endpoint;  // x-warmpath-endpoint, else the target when it is the engine itself
  std::string error;     // empty: answered in full. Otherwise connect, reset, broken, timeout,
                         // protocol, http_NNN, engine, empty, cancelled
  std::string detail;    // of the error: what the server or the network said, shortened
};

// Everything is over measured requests, that is without warm-up; times in seconds, over answers
// without error.
struct SideReport {
  std::string name;
  uint64_t requests = 0;
  uint64_t errors = 0;
  std::map<std::string, uint64_t> error_kinds;
  std::map<std::string, std::string> error_examples;  // by kind: one detail
  Summary ttft, itl, e2e;
  double seconds = 0;       // from the first request's start to the last answer's end
  double request_rate = 0;  // answered per second
  double output_tokens_per_second = 0;
  uint64_t prompt_tokens = 0, cached_tokens = 0, completion_tokens = 0;
  double hit_rate = 0;  // cached_tokens / prompt_tokens
  std::map<std::string, uint64_t>
      endpoint_requests;  // answered requests; empty when the target does not tell
  double imbalance = 0;   // busiest / mean over max(seen, expected) endpoints; 0 when unknown
  uint64_t predicted = 0, predicted_exactly = 0;
  double prediction_exact = 0;  // predicted_exactly / predicted; 0 when the target predicts nothing
  double prediction_error = 0;  // mean |predicted - delivered| in tokens
};

// `gaps`: seconds between successive pieces of text. `endpoints`: how many are behind the target, 0
// when unknown. Sorts its inputs' copies; the order of `records` does not matter.
SideReport BuildReport(std::string name, const std::vector<RequestRecord>& records,
                       std::vector<float> gaps, size_t endpoints);

}  // namespace warmpath::load
