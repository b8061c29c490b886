// What CompleteSpec and Scheduler::Create share: a specification's plugins with their types and
// parsed parameters, and who refers to whom. Internal to scheduling; pure functions.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "codec/json.h"
#include "scheduling/plugin.h"
#include "scheduling/scheduler.h"

namespace warmpath::scheduling {

struct ParsedPlugin {
  const PluginSpec* spec = nullptr;
  const PluginType* type = nullptr;
  codec::Json parameters;     // checked
  std::string Where() const;  // "plugin 'name' (type: type)"
};

// In the specification's order; refers into `spec`. Refuses unknown and refused types, duplicate
// names and wrong parameters.
Result<std::vector<ParsedPlugin>> ParsePlugins(const SchedulerSpec& spec);

// Indexes into `plugins`, everything after what it refers to. Refuses unknown names and cycles.
Result<std::vector<size_t>> CreationOrder(const std::vector<ParsedPlugin>& plugins);

// Which of `plugins` kDefaultPrefixProducer means; -1: none, the exact index.
int DefaultPrefixProducer(const std::vector<ParsedPlugin>& plugins);

// The plugin `name` stands for; -1: not there.
int FindPlugin(const std::vector<ParsedPlugin>& plugins, std::string_view name);

}  // namespace warmpath::scheduling
