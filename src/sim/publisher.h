// Publishes event batches over ZMQ as vLLM does: a PUB socket per engine core with frames [topic,
// sequence, payload], and a ROUTER that replays the newest batches. One thread and one ZMQ context
// serve every core of the process; idle it sleeps.
//
// AddStream before Start; Publish from any thread; Stop ends the thread and closes the sockets.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "kv/replay.h"
#include "sim/options.h"

namespace warmpath::sim {

class Publisher {
 public:
  struct StreamOptions {
    std::string endpoint;
    std::string replay_endpoint;  // "" = none
    std::string topic;
    uint32_t buffer_steps = 10'000;
    uint32_t hwm = 100'000;
    uint32_t max_queue_size = 100'000;  // batches not yet sent; beyond it a batch is lost, and its
                                        // sequence number with it
    uint64_t first_sequence = 0;
    kv::ReplayFraming framing = kv::ReplayFraming::kWithTopic;
  };
  // Where peers find a stream, as ZMQ tells: `tcp://0.0.0.0:PORT` for a wildcard; the endpoint
  // itself where it connects.
  struct StreamAddress {
    std::string events;
    std::string replay;  // "" = none
  };

  Publisher();
  ~Publisher();  // stops
  Publisher(const Publisher&) = delete;
  Publisher& operator=(const Publisher&) = delete;

  // Opens the sockets; the streams are numbered 0, 1, ... in this order.
  Result<StreamAddress> AddStream(const StreamOptions& options);
  void Start();
  void Publish(size_t stream, std::string payload);
  // Sends what is queued and ends. Idempotent.
  void Stop();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace warmpath::sim
