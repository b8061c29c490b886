#include "events/endpoint_watch.h"

namespace warmpath::events {

void EndpointWatch::NoteTraffic(uint64_t prompt_tokens, TimePoint now) {
  if (store_seen_.load(std::memory_order_relaxed)) return;
  uint32_t size = block_size();
  if (size == 0) size = hinted_block_size_.load(std::memory_order_relaxed);
  if (size == 0) size = kLargestCommonBlock;
  if (prompt_tokens < size) return;
  Duration::rep none = 0;
  first_traffic_.compare_exchange_strong(none, now.time_since_epoch().count(),
                                         std::memory_order_relaxed);
}

void EndpointWatch::NoteStore(uint32_t block_size) {
  if (block_size != 0) block_size_.store(block_size, std::memory_order_relaxed);
  store_seen_.store(true, std::memory_order_relaxed);
}

bool EndpointWatch::silent(TimePoint now, Duration after) const {
  if (store_seen_.load(std::memory_order_relaxed)) return false;
  const auto first = first_traffic_.load(std::memory_order_relaxed);
  return first != 0 && now - TimePoint(Duration(first)) >= after;
}

bool EndpointWatch::SilenceBegins(TimePoint now, Duration after) {
  return silent(now, after) && !reported_.exchange(true, std::memory_order_relaxed);
}

}  // namespace warmpath::events
