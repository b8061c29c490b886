#include <map>

#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

const std::map<std::string, PluginType, std::less<>>& Types() {
  static const auto* types = [] {
    auto* all = new std::map<std::string, PluginType, std::less<>>();
    for (const auto& list :
         {LabelFilterTypes(), LoadScorerTypes(), PrefixScorerTypes(), ExpectedCostScorerTypes(),
          PickerTypes(), HandlerTypes(), PassiveTypes()}) {
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
    if (type.role == role) names.push_back(name);
  }
  return names;
}

}  // namespace warmpath::scheduling
