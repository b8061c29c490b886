// The metrics llm-d's endpoint picker documents, and what of them this router emits. Constant data
// for the compatibility page and for dashboards that know older names.
#pragma once

#include <span>
#include <string_view>

#include "base/metrics.h"

namespace warmpath::routing {

struct MetricName {
  std::string_view name;    // with the prefix llm_d_epp_
  std::string_view absent;  // why it is not emitted; "" = it is
  bool emitted() const { return absent.empty(); }
};

// Every one, each once.
std::span<const MetricName> MetricNames();

// Deprecated twins of emitted metrics: inference_objective_*, inference_pool_*,
// inference_extension_*, llm_d_inference_scheduler_*, kvcache_*.
struct DeprecatedName {
  std::string_view old_name;
  std::string_view name;
};
std::span<const DeprecatedName> DeprecatedNames();
// Renders them too from now on, with the labels they had.
void AddDeprecatedNames(Registry& registry);

}  // namespace warmpath::routing
