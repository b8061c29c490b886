#include "routing/beat.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <map>

#include "base/log.h"

// The column that both forms have for the place in the source: folder/file:line.
#define WP_STRINGIFY_INNER(x) #x
#define WP_STRINGIFY(x) WP_STRINGIFY_INNER(x)
#define WP_CALLER "routing/beat.cc:" WP_STRINGIFY(__LINE__)

namespace warmpath::routing {

void LogMetricsBeat(const index::IndexStats& index, const Director::LookupStats& lookups) {
  const uint64_t evictions = index.evicted_removed + index.evicted_cleared + index.evicted_budget;
  const double average = lookups.latency_count == 0
                             ? 0
                             : lookups.latency_sum_s / static_cast<double>(lookups.latency_count);
  if (GetLogFormat() == LogFormat::kJson) {
    WP_LOG(kInfo, "metrics", "metrics beat", {"admissions", index.admissions},
           {"evictions", evictions}, {"lookups", lookups.lookups}, {"hits", lookups.hits},
           {"latency_count", lookups.latency_count}, {"latency_sum", lookups.latency_sum_s},
           {"latency_avg", average});
    return;
  }
  const auto now =
      std::chrono::time_point_cast<std::chrono::microseconds>(std::chrono::system_clock::now());
  const auto micros = now.time_since_epoch().count() % 1'000'000;
  LogRaw(LogLevel::kInfo,
         fmt::format(
             "I{:%m%d %H:%M:%S}.{:06d} {:>7} {}] \"metrics beat\" logger=\"metrics\" "
             "admissions={} evictions={} lookups={} hits={} latency_count={} latency_sum={:.9f} "
             "latency_avg={:.9f}",
             fmt::gmtime(std::chrono::system_clock::to_time_t(now)), micros, getpid(), WP_CALLER,
             index.admissions, evictions, lookups.lookups, lookups.hits, lookups.latency_count,
             lookups.latency_sum_s, average));
}

std::vector<std::pair<std::string, uint32_t>> PodScores(const fleet::Snapshot& snapshot,
                                                        const scheduling::Request& request) {
  std::map<std::string, int> endpoints_of_host;
  for (const auto& endpoint : snapshot.endpoints) {
    ++endpoints_of_host[endpoint->spec.url.address.host];
  }
  std::vector<std::pair<std::string, uint32_t>> scores;
  for (const scheduling::Candidate& candidate : request.candidates) {
    if (candidate.usable_blocks == 0) continue;
    const std::string& host = candidate.endpoint->spec.url.address.host;
    scores.emplace_back(endpoints_of_host[host] > 1 ? candidate.endpoint->address() : host,
                        candidate.usable_blocks);
  }
  return scores;
}

void LogPodScores(const std::string& logger, const scheduling::Request& request,
                  const std::string& target_model,
                  const std::vector<std::pair<std::string, uint32_t>>& scores) {
  std::string rendered;
  for (const auto& [address, blocks] : scores) {
    rendered += fmt::format("{}{}:{}", rendered.empty() ? "" : ",", JsonQuote(address), blocks);
  }
  const std::string scores_json = scores.empty() ? "null" : "{" + rendered + "}";
  if (GetLogFormat() == LogFormat::kJson) {
    WP_LOG(kDebug, logger, "Got pod scores", {"x-request-id", request.id}, {"model", request.model},
           {"resolvedTargetModel", target_model}, {"criticality", "Sheddable"},
           {"scores", RawJson{scores_json}});
    return;
  }
  LogRaw(
      LogLevel::kDebug,
      fmt::format("{}\tLEVEL(-4)\t{}\t{}\tGot pod scores\t{{\"x-request-id\": {}, \"model\": {}, "
                  "\"resolvedTargetModel\": {}, \"criticality\": \"Sheddable\", \"scores\": {}}}",
                  Rfc3339Now(), logger, WP_CALLER, JsonQuote(request.id), JsonQuote(request.model),
                  JsonQuote(target_model), scores_json));
}

}  // namespace warmpath::routing
