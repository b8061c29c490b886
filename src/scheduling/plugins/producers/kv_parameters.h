// Parameters of the KV-cache dialects that several plugin types share.
#pragma once

#include "scheduling/parameters.h"

namespace warmpath::scheduling {

// tokenProcessorConfig of any generation.
ParameterSchema TokenProcessorParameters();
// indexerConfig; `old_dialect` also has what moved elsewhere later (prefixStoreConfig,
// tokenProcessorConfig, tokenizersPoolConfig).
ParameterSchema IndexerParameters(bool old_dialect);
ParameterSchema KvEventsParameters();
// All parameters of precise-prefix-cache-producer.
ParameterList PreciseProducerParameters(bool old_dialect);

}  // namespace warmpath::scheduling
