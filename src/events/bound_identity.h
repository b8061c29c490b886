// Who speaks on the bound socket: a topic kv@<ip>[:port]@<model> claims an address, the connection
// proves it, and exactly one endpoint must have it. Not thread-safe; owned by the worker of the
// bound socket.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "base/clock.h"

#include "fleet/endpoint.h"

namespace warmpath::events {

struct BoundTopic {
  std::string host;        // numeric, normalised
  uint16_t port = 0;       // 0 = not given
  std::string_view model;  // for reading only; may contain '@'
};

std::optional<BoundTopic> ParseBoundTopic(std::string_view topic);

// One spelling per address: no brackets, no IPv4 inside IPv6. "" when `text` is no numeric address.
std::string NormalizeAddress(std::string_view text);

class BoundIdentity {
 public:
  struct Candidate {
    fleet::EndpointId endpoint = 0;
    std::vector<std::string> addresses;  // normalised
    uint16_t port = 0;
    std::string incarnation{};  // EndpointSpec's
    TimePoint since{};          // set by Set: when it became known
  };
  struct Answer {
    std::optional<fleet::EndpointId> endpoint;
    const Candidate* owner = nullptr;  // that endpoint; until the next Set
    const char* reason =
        "";  // why none: "topic", "peer_address", "unknown_endpoint", "ambiguous_endpoint"
  };

  void Set(std::vector<Candidate> candidates, TimePoint now);
  Answer Find(std::string_view topic, std::string_view peer_address) const;

 private:
  std::vector<Candidate> candidates_;
  std::unordered_map<std::string, std::vector<size_t>> by_address_;  // places in candidates_
};

// Numeric addresses of a host; a name is resolved (may block).
std::vector<std::string> AddressesOf(const std::string& host);

}  // namespace warmpath::events
