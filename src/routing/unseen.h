// Requests whose answer passes by unseen: when to take them for finished.
//
// What the engine reports decides: of the requests sent well before a scrape at most as many are
// under way as it runs and keeps waiting, and the oldest are taken to have ended first. Other
// routers' requests count as ours there: the load stays, as the engine's does. Without fresh
// figures a request ends after the time such requests took there lately, or after a guess from its
// limit. Nothing stays longer than kMaxUnseenTime, beyond kMaxUnseen in all, with an engine that
// failed, or with one that left. Thread-safe.
#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "fleet/endpoint.h"
#include "fleet/inflight.h"
#include "index/kv_index.h"

namespace warmpath::routing {

struct RequestMetrics;

inline constexpr Duration kMaxUnseenTime = std::chrono::minutes(10);
inline constexpr size_t kMaxUnseen = 100'000;

struct UnseenAnswer {
  fleet::EndpointId endpoint = 0;
  TimePoint sent{};
  uint64_t uncached_tokens = 0;
  uint64_t prompt_tokens = 0;
  std::optional<uint64_t> max_tokens;
  fleet::InflightTicket ticket;
  std::vector<index::HoldId> holds;
  const RequestMetrics* metrics = nullptr;
};

class UnseenAnswers {
 public:
  // What had to give way at once.
  [[nodiscard]] std::vector<UnseenAnswer> Add(UnseenAnswer answer) EXCLUDES(mutex_);
  // Those taken for finished; marks prefills that must be done. Call every 100 ms or so.
  [[nodiscard]] std::vector<UnseenAnswer> Ended(const fleet::Snapshot& snapshot, TimePoint now)
      EXCLUDES(mutex_);
  size_t size() const EXCLUDES(mutex_);

 private:
  struct Queue {
    std::deque<UnseenAnswer> oldest_first;
    TimePoint scraped{};      // the last scrape looked at
    double mean_seconds = 0;  // of those that ended by scrapes, forgetting
    uint32_t samples = 0;     // of it, up to kEnoughSamples
  };
  void End(Queue& queue, size_t count, std::vector<UnseenAnswer>& ended) REQUIRES(mutex_);
  void FollowScrape(Queue& queue, const fleet::ScrapedLoad& load, std::vector<UnseenAnswer>& ended)
      REQUIRES(mutex_);

  mutable Mutex mutex_;
  std::unordered_map<fleet::EndpointId, Queue> queues_ GUARDED_BY(mutex_);
  size_t size_ GUARDED_BY(mutex_) = 0;
};

}  // namespace warmpath::routing
