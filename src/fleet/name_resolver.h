// Looks up DNS names on threads of its own, so that a slow name server holds up no loop.
//
// Thread-safe. Threads start with the first question.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/result.h"

namespace warmpath::fleet {

// The addresses of a name (IPv4, or IPv6 without brackets), the preferred first; never an empty
// list. Blocks; called from several threads.
using NameLookup = std::function<Result<std::vector<std::string>>(const std::string& host)>;

// Asks the system (hosts file, DNS), which orders the addresses.
Result<std::vector<std::string>> SystemLookup(const std::string& host);

class NameResolver {
 public:
  using Done = std::function<void(Result<std::vector<std::string>>)>;

  explicit NameResolver(NameLookup lookup);
  ~NameResolver();  // as Stop
  NameResolver(const NameResolver&) = delete;
  NameResolver& operator=(const NameResolver&) = delete;

  // `done` is called on one of the threads, or never once stopped. The caller bounds how many
  // questions are open.
  void Resolve(std::string host, Done done);
  // No `done` begins afterwards. Waits for those under way and for lookups, the latter for a moment
  // only: a name server that does not answer must not delay the end of the process.
  void Stop();

 private:
  struct State;
  const std::shared_ptr<State> state_;
};

}  // namespace warmpath::fleet
