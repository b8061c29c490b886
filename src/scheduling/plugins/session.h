// Plugins that know to which session a request belongs: session-id-producer, agent-identity.
#pragma once

#include <string>

#include "scheduling/plugin.h"

namespace warmpath::scheduling {

class SessionIdentity : public virtual Plugin {
 public:
  // At most kMaxSessionId bytes; "" = none given.
  virtual std::string SessionOf(const Request& request) const = 0;
};

// Longer identifiers are taken for none: they would be kept.
inline constexpr size_t kMaxSessionId = 256;

}  // namespace warmpath::scheduling
