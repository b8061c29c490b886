// The plugin types of each file under plugins/, for the registry.
#pragma once

#include <vector>

#include "scheduling/plugin.h"

namespace warmpath::scheduling {

std::vector<PluginType> LabelFilterTypes();
std::vector<PluginType> LoadScorerTypes();
std::vector<PluginType> PrefixScorerTypes();
std::vector<PluginType> ExpectedCostScorerTypes();
std::vector<PluginType> PickerTypes();
std::vector<PluginType> HandlerTypes();
std::vector<PluginType> DetectorTypes();
std::vector<PluginType> PrecisePrefixTypes();
std::vector<PluginType> ApproxPrefixTypes();
std::vector<PluginType> PassiveTypes();

}  // namespace warmpath::scheduling
