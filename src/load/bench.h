// The load generator: sends one workload to one or several sides at once and reports what came
// back.
//
// A side is what is compared: a router (one target) or engines taken in turn (several targets:
// round robin). All sides get the same requests at the same moments, so a ratio between them is of
// one run. RunBench blocks its caller and owns its loops.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "load/record.h"
#include "load/workload.h"
#include "net/address.h"

namespace warmpath::load {

struct Side {
  std::string name;
  std::vector<net::Url> targets;  // request i goes to targets[i % size]
  // Endpoints behind the target(s), for the imbalance: one that never got a request counts too. 0:
  // those seen (several targets: all).
  size_t endpoints = 0;
};

struct BenchOptions {
  WorkloadOptions workload;  // an empty model is asked of the first target (/v1/models)
  std::vector<Side> sides;
  // Exactly one: open loop, Poisson arrivals at `rate` per second, whatever the answers do; or
  // closed loop, `concurrency` requests in flight per side.
  double rate = 0;
  uint32_t concurrency = 0;
  // Measured requests per side; 0: as many as `duration` admits. With both, whichever ends first.
  uint64_t requests = 0;
  Duration duration{0};
  // Sent first and left out of the report.
  uint64_t warmup_requests = 0;
  Duration request_timeout = std::chrono::minutes(2);
  std::string api_key;  // Authorization: Bearer, when not empty
  size_t loops = 1;
  // Set it from anywhere to end the run early: requests in flight are cancelled, the report covers
  // what was answered.
  const std::atomic<bool>* stop = nullptr;
};

// A moment of one side; hit rate and mean TTFT are of the measured requests so far.
struct SideProgress {
  uint64_t sent = 0, answered = 0, errors = 0, in_flight = 0;
  double hit_rate = 0;
  double ttft_mean = 0;
};
struct Progress {
  double seconds = 0;
  uint64_t total =
      0;  // requests planned per side including warm-up; 0 when only the duration decides
  std::vector<SideProgress> sides;
};
// Called about five times a second on the thread that runs RunBench.
using ProgressFn = std::function<void(const Progress&)>;

struct BenchReport {
  std::string workload;
  std::string model;
  uint64_t seed = 0;
  double rate = 0;
  uint32_t concurrency = 0;
  bool stopped = false;
  std::vector<SideReport> sides;  // in the order of the options
};

// Errors: bad options, or no model could be learned. Failing requests are no error: the report
// counts them.
Result<BenchReport> RunBench(const BenchOptions& options, const ProgressFn& progress = {});

// A table for people: one column per side and, with two sides, the ratio of the second to the first
// where it says something.
std::string FormatTable(const BenchReport& report);
// One JSON object: run parameters and the first side's figures at top level; with more sides also
// "sides": [figures of each].
std::string FormatJson(const BenchReport& report);

}  // namespace warmpath::load
