// The plugin types of each file under plugins/, for the registry.
#pragma once

#include <vector>

#include "scheduling/plugin.h"

namespace warmpath::scheduling {

std::vector<PluginType> LabelFilterTypes();
std::vector<PluginType> LoadFilterTypes();
std::vector<PluginType> PrefixAffinityFilterTypes();
std::vector<PluginType> LoadScorerTypes();
std::vector<PluginType> AttributeScorerTypes();
std::vector<PluginType> PrefixScorerTypes();
std::vector<PluginType> ExpectedCostScorerTypes();
std::vector<PluginType> PickerTypes();
std::vector<PluginType> HandlerTypes();
std::vector<PluginType> DetectorTypes();
std::vector<PluginType> PrecisePrefixTypes();
std::vector<PluginType> ApproxPrefixTypes();
std::vector<PluginType> SessionIdTypes();
std::vector<PluginType> SessionAffinityTypes();
std::vector<PluginType> NoHitLruTypes();
std::vector<PluginType> LoraAffinityTypes();
std::vector<PluginType> DecisionTreeTypes();
std::vector<PluginType> HeaderTestingTypes();
std::vector<PluginType> RefusedTypes();
std::vector<PluginType> PassiveTypes();

}  // namespace warmpath::scheduling
