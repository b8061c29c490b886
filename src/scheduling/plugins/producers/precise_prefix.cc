// precise-prefix-cache-producer: the exact index, which routing fills into every candidate; here it
// is a name for others to refer to.
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/producers/kv_parameters.h"
#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

class PrecisePrefixProducer final : public PrefixProducer {
 public:
  explicit PrecisePrefixProducer(size_t slot) : PrefixProducer(Serves::kExact, slot) {}
  void Produce(Request&) const override {}
};

}  // namespace

std::vector<PluginType> PrecisePrefixTypes() {
  PluginType type{"precise-prefix-cache-producer", Role::kProducer, {}, {}, {}};
  type.parameters = PreciseProducerParameters(false);
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    return std::make_unique<PrecisePrefixProducer>(context.slot);
  };
  return {type};
}

}  // namespace warmpath::scheduling
