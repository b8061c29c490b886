#include "scheduling/prefix_source.h"

#include <fmt/format.h>

namespace warmpath::scheduling {

Result<PrefixSource> PrefixSource::Resolve(const PluginContext& context) {
  const std::string name = StringParameter(context.parameters, "prefixMatchInfoProducerName", "");
  Plugin* plugin = context.find(name);
  PrefixSource source;
  if (plugin == nullptr && name == kDefaultPrefixProducer) return source;
  const auto* producer = dynamic_cast<PrefixProducer*>(plugin);
  if (producer == nullptr) {
    return Fail(Code::kInvalidArgument,
                fmt::format("prefixMatchInfoProducerName: '{}' produces no prefix matches", name));
  }
  source.serves_ = producer->serves();
  source.slot_ = producer->slot();
  return source;
}

PrefixMatch PrefixSource::Of(const Candidate& candidate) const {
  using Serves = PrefixProducer::Serves;
  if (serves_ == Serves::kExact || (serves_ == Serves::kExactElseProduced && candidate.exact)) {
    return {candidate.expected_usable_blocks, candidate.total_blocks, candidate.block_size};
  }
  return slot_ < candidate.produced.size() ? candidate.produced[slot_] : PrefixMatch{};
}

std::vector<std::string> PrefixSourceReferences(const codec::Json& parameters) {
  return {StringParameter(parameters, "prefixMatchInfoProducerName",
                          std::string(kDefaultPrefixProducer))};
}

}  // namespace warmpath::scheduling
