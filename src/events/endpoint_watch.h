// What all publishers of one endpoint have in common: the block size learned, and the watch for an
// engine that gets traffic but never sends a store. Thread-safe: request threads note traffic, the
// endpoint's worker notes stores and looks.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

#include "base/clock.h"
#include "fleet/endpoint.h"

namespace warmpath::events {

class EndpointWatch {
 public:
  EndpointWatch(fleet::EndpointId endpoint, std::string name)
      : endpoint_(endpoint), name_(std::move(name)) {}

  fleet::EndpointId endpoint() const { return endpoint_; }
  const std::string& name() const { return name_; }

  // A prompt finished prefill. Only prompts that must fill a block count: the learned or scraped
  // size, else a large one.
  void NoteTraffic(uint64_t prompt_tokens, TimePoint now);
  void NoteStore(uint32_t block_size);
  // From the engine's metrics; 0 = unknown.
  void HintBlockSize(uint32_t block_size) {
    hinted_block_size_.store(block_size, std::memory_order_relaxed);
  }

  // By its API: whether the engine failed its last health checks.
  void NoteHealth(bool down) { down_.store(down, std::memory_order_relaxed); }
  bool down() const { return down_.load(std::memory_order_relaxed); }

  // 0 = none yet.
  uint32_t block_size() const { return block_size_.load(std::memory_order_relaxed); }
  bool silent(TimePoint now, Duration after) const;
  // True once, when the silence begins: the caller reports it.
  bool SilenceBegins(TimePoint now, Duration after);

 private:
  static constexpr uint32_t kLargestCommonBlock = 256;

  const fleet::EndpointId endpoint_;
  const std::string name_;
  std::atomic<uint32_t> block_size_{0};
  std::atomic<uint32_t> hinted_block_size_{0};
  std::atomic<bool> down_{false};
  std::atomic<bool> store_seen_{false};
  std::atomic<bool> reported_{false};
  std::atomic<Duration::rep> first_traffic_{0};  // since the clock's epoch; 0 = none
};

}  // namespace warmpath::events
