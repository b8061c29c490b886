// The two lines operators grep, in llm-d's form: "Got pod scores" and "metrics beat".
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "index/kv_index.h"
#include "routing/director.h"
#include "scheduling/types.h"

namespace warmpath::routing {

// klog's text form or, with --log-format json, the same fields as JSON. Counters since start;
// latencies in seconds.
void LogMetricsBeat(const index::IndexStats& index, const Director::LookupStats& lookups);

// Endpoint address -> usable matched blocks; only endpoints that hold something. The address is the
// IP alone, or IP:port where several endpoints share one.
std::vector<std::pair<std::string, uint32_t>> PodScores(const fleet::Snapshot& snapshot,
                                                        const scheduling::Request& request);

// At debug level (4). `logger` is "<plugin type>/<plugin name>" of the prefix scorer.
void LogPodScores(const std::string& logger, const scheduling::Request& request,
                  const std::string& target_model,
                  const std::vector<std::pair<std::string, uint32_t>>& scores);

}  // namespace warmpath::routing
