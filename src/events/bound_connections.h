// Which life of an endpoint a connection of the bound socket speaks for, so that nothing a pod said
// is taken for its successor's at the same address.
//
// A connection belongs to one process. Whoever it first spoke for, it speaks for no other
// incarnation of that address, unless it proves to be alive long after the other one became known:
// a peer that is gone is found out by heartbeats before that, so this one is the process that has
// the address now. Messages that came before the other one became known are read out by then (the
// worker sees to that). Where nothing tells incarnations apart, every connection counts.
//
// Not thread-safe; owned by the worker of the bound socket. Connections are file descriptors, which
// are used again after they are closed.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "base/clock.h"
#include "events/bound_identity.h"

namespace warmpath::events {

class BoundConnections {
 public:
  // `proof`: longer than a connection to a peer that is gone can stay open.
  explicit BoundConnections(Duration proof) : proof_(proof) {}

  // Whether a message of `connection` counts for `owner`.
  bool Counts(int connection, const BoundIdentity::Candidate& owner);
  // What it sent may still be waiting on the socket.
  void Closed(int connection, TimePoint now);
  // No message is waiting on the socket.
  void Drained(TimePoint now);

  size_t size() const { return speakers_.size(); }

 private:
  struct Speaker {
    fleet::EndpointId endpoint = 0;
    std::string incarnation;
  };
  struct Gone {
    int connection;
    TimePoint at;
  };

  const Duration proof_;
  std::map<int, Speaker> speakers_;
  std::vector<Gone> gone_;  // in order of time
  TimePoint drained_{};
};

}  // namespace warmpath::events
