// Which producer's prefix matches a plugin reads: the exact index, or an approximate producer.
// Immutable, thread-safe.
#pragma once

#include <string>

#include "base/result.h"
#include "scheduling/plugin.h"
#include "scheduling/types.h"

namespace warmpath::scheduling {

class PrefixSource {
 public:
  // From the parameter `prefixMatchInfoProducerName`: a precise producer, an approximate one, or
  // (absent) the default: where an endpoint has events and exact tokens the exact index, elsewhere
  // the approximate producer that configuration made by default, if any.
  static Result<PrefixSource> Resolve(const PluginContext& context);
  PrefixSource() = default;  // the exact index

  // Blocks the engine can be expected to reuse, speculative ones included.
  PrefixMatch Of(const Candidate& candidate) const;

 private:
  enum class Kind { kExact, kProduced, kExactElseProduced };
  Kind kind_ = Kind::kExact;
  size_t slot_ = 0;
};

// Names for PluginType::references of plugins that read prefix matches.
std::vector<std::string> PrefixSourceReferences(const codec::Json& parameters);

}  // namespace warmpath::scheduling
