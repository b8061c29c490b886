#include <map>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

const std::map<std::string, PluginType, std::less<>>& Types() {
  static const auto* types = [] {
    auto* all = new std::map<std::string, PluginType, std::less<>>();
    const std::vector<PluginType> lists[] = {
        LabelFilterTypes(),
        LoadScorerTypes(),
        PrefixScorerTypes(),
        AttributeScorerTypes(),
        LoadFilterTypes(),
        PrefixAffinityFilterTypes(),
        ExpectedCostScorerTypes(),
        PickerTypes(),
        HandlerTypes(),
        DetectorTypes(),
        PrecisePrefixTypes(),
        ApproxPrefixTypes(),
        SessionIdTypes(),
        SessionAffinityTypes(),
        NoHitLruTypes(),
        LoraAffinityTypes(),
        DecisionTreeTypes(),
        HeaderTestingTypes(),
        PassiveTypes(),
        RefusedTypes(),
    };
    for (const auto& list : lists) {
      for (const PluginType& type : list) all->emplace(type.name, type);
    }
    return all;
  }();
  return *types;
}

}  // namespace

const PluginType* FindPluginType(std::string_view name) {
  const auto it = Types().find(name);
  return it == Types().end() ? nullptr : &it->second;
}

std::vector<std::string> PluginTypeNames(Role role) {
  std::vector<std::string> names;
  for (const auto& [name, type] : Types()) {
    if (type.role == role && type.refused.empty()) names.push_back(name);
  }
  return names;
}

std::vector<const PluginType*> AllPluginTypes() {
  std::vector<const PluginType*> types;
  for (const auto& [name, type] : Types()) types.push_back(&type);
  return types;
}

std::function<std::vector<std::string>(const codec::Json&)> ReferencesIn(
    std::vector<std::string> parameters) {
  return [names = std::move(parameters)](const codec::Json& values) {
    std::vector<std::string> found;
    for (const std::string& name : names) {
      std::string value = StringParameter(values, name, "");
      if (!value.empty()) found.push_back(std::move(value));
    }
    return found;
  };
}

}  // namespace warmpath::scheduling
