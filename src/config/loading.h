// An EndpointPickerConfig half read: what the steps of endpoint_picker_config.cc share. Lives for
// one load.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "config/document.h"
#include "config/endpoint_picker_config.h"
#include "scheduling/plugin.h"

namespace warmpath::config {

struct DeclaredPlugin {
  std::string name;
  const scheduling::PluginType* type = nullptr;
  Path path;               // plugins[i]
  codec::Json parameters;  // checked
};

struct Loading {
  const Document& document;
  std::vector<DeclaredPlugin> plugins;
  LoadedConfig config;
  std::map<std::string, size_t, std::less<>> by_name{};  // index into plugins

  // nullptr: no plugin of that name is declared.
  const DeclaredPlugin* Find(std::string_view name) const;
  void Warn(const Path& path, std::string_view what) {
    config.warnings.push_back(document.Note(path, what));
  }
};

// What plugins' parameters say to other parts of the program (events, index, scraping, load).
Status ReadPluginOptions(Loading& loading);
// dataLayer, requestHandler, flowControl (`flow_control`: its feature gate) and the deprecated
// members in their stead.
Status ReadConnections(Loading& loading, bool flow_control);

}  // namespace warmpath::config
