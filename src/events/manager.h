// KV-event ingestion: one subscription per engine rank (dial), or one bound socket that engines
// connect to, or both; sequence tracking, replay, and the pipeline that applies events to the
// index.
//
// Owns its ZMQ context and threads. Thread-safe API. An endpoint's events are applied by one thread
// in order.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "fleet/endpoint.h"
#include "index/kv_index.h"

namespace warmpath::events {

struct EventsOptions {
  std::string bind;                      // "tcp://*:5557"; "" = dial only
  size_t threads = 2;                    // applying threads; each publisher belongs to one
  size_t max_queued_messages = 100'000;  // per thread (ZMQ receive high-water mark)
  size_t max_message_bytes = size_t{64} << 20;
  size_t max_orphan_blocks = 4096;  // children held until their parent arrives, per publisher
  Duration max_orphan_age = std::chrono::seconds(10);
  Duration silent_after = std::chrono::seconds(10);  // traffic but no store for this long: reported
  Duration replay_timeout = std::chrono::seconds(5);  // without a frame
  // Without a connection and without a message: dialled anew, because ZMQ never tries again after
  // bytes it cannot accept.
  Duration redial_after = std::chrono::seconds(5);
  // Longer than a connection to an engine that is gone can stay open (its heartbeats: 20 s); see
  // bound_connections.h.
  Duration connection_proof = std::chrono::seconds(30);
  // Numeric addresses of an engine's host, for bind mode; may block. Empty: the system's resolver.
  std::function<std::vector<std::string>(const std::string& host)> resolve{};
};

// What is known of one publisher (endpoint, rank): the events part of the capability card.
struct PublisherStatus {
  fleet::EndpointId endpoint = 0;
  uint16_t rank = 0;
  std::string address;     // what is dialled, or "bind"
  bool connected = false;  // transport up (dial), or at least one message seen (bind)
  uint64_t received = 0;   // batches applied
  int64_t last_seq = -1;
  uint64_t gaps = 0;      // sequence gaps seen; a gap that replay did not fill cleared the endpoint
  uint64_t replayed = 0;  // batches recovered
  uint64_t restarts = 0;
  uint64_t errors = 0;      // undecodable batches or events, orphans dropped
  uint64_t skipped = 0;     // unknown tags, fields, groups
  uint32_t block_size = 0;  // learned; 0 = none yet
  std::string format;       // "array", "map", "outer-map"
  bool replay_offered = false;
  bool hybrid = false;            // several attention groups: predictions are upper bounds
  bool silent = false;            // gets traffic, sends no store
  Duration last_message_age{-1};  // -1: none yet
};

class EventsManager {
 public:
  static Result<std::unique_ptr<EventsManager>> Create(EventsOptions options, index::KvIndex& index,
                                                       Registry& metrics, const Clock& clock);
  virtual ~EventsManager() = default;
  // Dials new endpoints, drops those that left (their blocks are cleared). What an endpoint that
  // left still sends counts for nobody, also where another one has its address now. Any thread.
  virtual void SetEndpoints(const fleet::Snapshot& snapshot) = 0;
  // A request finished prefill there: starts the watch for silence. Any thread, cheap.
  virtual void NoteTraffic(fleet::EndpointId endpoint, uint64_t prompt_tokens) = 0;
  virtual std::vector<PublisherStatus> status() const = 0;
  // Endpoints whose events arrive, ascending: connected, or something came, and not silent. Cheap.
  virtual std::vector<fleet::EndpointId> flowing() const = 0;
  // Block size learned for an endpoint; 0 = none yet. Lock-free enough for the request path.
  virtual uint32_t block_size(fleet::EndpointId endpoint) const = 0;
  // Port actually bound in bind mode (for tcp://*:0), 0 otherwise.
  virtual uint16_t bound_port() const = 0;
  virtual void Start() = 0;
  // For a router that leaves while others stay: engines that connected to it are let go, so that
  // they connect to its successor now. What is dialled goes on. Any thread.
  virtual void Unbind() = 0;
  virtual void Stop() = 0;
};

}  // namespace warmpath::events
