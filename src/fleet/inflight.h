// In-flight load: what this process sent to each (endpoint, rank) and has not seen finished. Booked
// when a decision is made, so a burst inside one scrape interval does not herd onto one engine.
// Thread-safe, lock-free reads.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include "base/mutex.h"
#include "fleet/endpoint.h"

namespace warmpath::fleet {

struct InflightLoad {
  int64_t requests = 0;          // routed and not finished
  int64_t prefill_requests = 0;  // of these, no first token seen yet
  int64_t prefill_tokens = 0;    // uncached prompt tokens of those
  int64_t decode_tokens = 0;     // prompt + expected output of those that decode
  // As llm-d counts in-flight tokens: uncached prompt tokens, with the estimated output where that
  // is configured, of all requests not finished.
  int64_t tokens = 0;
};

class InflightLedger;

// One request's booking; released when destroyed. Not thread-safe itself (owned by the request).
class InflightTicket {
 public:
  InflightTicket() = default;
  InflightTicket(InflightTicket&& other) noexcept;
  InflightTicket& operator=(InflightTicket&& other) noexcept;
  ~InflightTicket();
  // The first token came: its prefill is done.
  void PrefillDone();
  // Another endpoint serves it (a fallback): the booking goes along, in the state it is in.
  void MoveTo(EndpointId endpoint, uint16_t rank);
  void Release();

 private:
  friend class InflightLedger;
  InflightLoad Share() const;

  std::weak_ptr<struct InflightCells> ledger_;
  std::shared_ptr<struct InflightCell> cell_;
  int64_t prefill_tokens_ = 0;
  int64_t decode_tokens_ = 0;
  int64_t tokens_ = 0;
  bool prefilling_ = false;
};

// Reads the load of one endpoint, over all ranks, without looking it up. Thread-safe. Of an
// endpoint that is forgotten it goes on reading what was booked before.
class InflightGauge {
 public:
  InflightGauge() = default;
  InflightLoad Read() const;

 private:
  friend class InflightLedger;
  std::shared_ptr<const struct InflightCell> cell_;
};

class InflightLedger {
 public:
  InflightLedger();
  ~InflightLedger();
  // Decode tokens are prompt_tokens + estimated_output_tokens.
  [[nodiscard]] InflightTicket Book(EndpointId endpoint, uint16_t rank, int64_t uncached_tokens,
                                    int64_t prompt_tokens, int64_t estimated_output_tokens = 0);
  InflightLoad Load(EndpointId endpoint) const;  // over all ranks
  InflightLoad Load(EndpointId endpoint, uint16_t rank) const;
  // One for each, in order.
  std::vector<InflightGauge> Gauges(const std::vector<EndpointId>& endpoints);
  void Forget(EndpointId endpoint);
  // Forgets every endpoint but these.
  void Retain(const std::vector<EndpointId>& endpoints);

 private:
  const std::shared_ptr<InflightCells> cells_;
};

}  // namespace warmpath::fleet
