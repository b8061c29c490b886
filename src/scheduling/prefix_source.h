// Which producer's prefix matches a plugin reads: the exact index, or an approximate producer.
// Immutable, thread-safe.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "scheduling/plugin.h"
#include "scheduling/types.h"

namespace warmpath::scheduling {

// The name that stands for the default in PluginType::references and PluginContext::find: the
// configured precise producer, else an approximate one, which CompleteSpec adds where there is
// neither. nullptr: the exact index.
inline constexpr std::string_view kDefaultPrefixProducer;

// A plugin whose matches others can read.
class PrefixProducer : public Producer {
 public:
  enum class Serves {
    kExact,              // Candidate's own counts, from the engines' events
    kProduced,           // Candidate::produced[slot]
    kExactElseProduced,  // the former where Candidate::exact
  };
  PrefixProducer(Serves serves, size_t slot) : serves_(serves), slot_(slot) {}
  Serves serves() const { return serves_; }
  size_t slot() const { return slot_; }

 private:
  const Serves serves_;
  const size_t slot_;
};

class PrefixSource {
 public:
  // From the parameter `prefixMatchInfoProducerName`: a precise producer, an approximate one, or
  // (absent) kDefaultPrefixProducer. Where CompleteSpec made the approximate one, endpoints with
  // events and exact tokens are read from the exact index.
  static Result<PrefixSource> Resolve(const PluginContext& context);
  PrefixSource() = default;  // the exact index

  // Blocks the engine can be expected to reuse, speculative ones included.
  PrefixMatch Of(const Candidate& candidate) const;

 private:
  PrefixProducer::Serves serves_ = PrefixProducer::Serves::kExact;
  size_t slot_ = 0;
};

// For PluginType::references of plugins that read prefix matches.
std::vector<std::string> PrefixSourceReferences(const codec::Json& parameters);

}  // namespace warmpath::scheduling
