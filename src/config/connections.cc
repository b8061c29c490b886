// How an EndpointPickerConfig connects the plugins that take no part in a profile.
#include <fmt/format.h>

#include <set>

#include "config/loading.h"

namespace warmpath::config {
namespace {

using codec::Json;
using scheduling::Parameter;
using scheduling::StringParameter;

bool IsSource(std::string_view type) {
  return type.ends_with("-data-source") || type.ends_with("-notification-source");
}

bool IsExtractor(std::string_view type) {
  return type.ends_with("-extractor") || type.ends_with("-prefix-cache-producer") ||
         type == "precise-prefix-cache-scorer";
}

// The plugin that `field` of `holder` names; nullptr when it names none.
Result<const DeclaredPlugin*> Referenced(const Loading& loading, const Path& path,
                                         const Json& holder, std::string_view undefined) {
  const std::string name = StringParameter(holder, "pluginRef", "");
  const Path where = Below(path, "pluginRef");
  if (name.empty()) return loading.document.Wrong(where, "is missing");
  const DeclaredPlugin* plugin = loading.Find(name);
  if (plugin == nullptr)
    return loading.document.Wrong(where, fmt::format(fmt::runtime(undefined), name));
  return plugin;
}

Status ReadSources(Loading& loading, const Json& sources) {
  constexpr std::string_view kUndefined =
      "references undefined plugin '{}'; declare it under plugins";
  for (size_t i = 0; i < sources.get_array().size(); ++i) {
    const Json& entry = sources.get_array()[i];
    const Path path = Below({"dataLayer", "sources"}, i);
    WP_TRY(const DeclaredPlugin* source, Referenced(loading, path, entry, kUndefined));
    if (!IsSource(source->type->name)) {
      return loading.document.Wrong(
          Below(path, "pluginRef"),
          fmt::format("the plugin {} is not a fwkdl.DataSource", source->name));
    }
    const Json* extractors = Parameter(entry, "extractors");
    for (size_t j = 0; extractors != nullptr && j < extractors->get_array().size(); ++j) {
      const Path where = Below(Below(path, "extractors"), j);
      WP_TRY(const DeclaredPlugin* extractor,
             Referenced(loading, where, extractors->get_array()[j], kUndefined));
      if (!IsExtractor(extractor->type->name)) {
        loading.Warn(Below(where, "pluginRef"),
                     fmt::format("has no effect: {} extracts nothing", extractor->name));
      }
    }
  }
  return {};
}

Status ReadDiscovery(Loading& loading, const Json& discovery) {
  const Path path = {"dataLayer", "discovery"};
  WP_TRY(const DeclaredPlugin* plugin,
         Referenced(loading, path, discovery,
                    "references undefined plugin '{}'; declare it under plugins"));
  if (plugin->type->name != "file-discovery") {
    return loading.document.Wrong(
        Below(path, "pluginRef"),
        fmt::format("'{}' (type: {}) discovers no endpoints; possible here: file-discovery",
                    plugin->name, plugin->type->name));
  }
  loading.config.discovery_file = StringParameter(plugin->parameters, "path", "");
  if (loading.config.discovery_file.empty())
    return loading.document.Wrong(Below(plugin->path, "parameters"), "path is missing");
  loading.config.watch_discovery_file =
      scheduling::BoolParameter(plugin->parameters, "watchFile", false);
  return {};
}

Status ReadDataLayer(Loading& loading) {
  const Json* layer = Parameter(loading.document.json(), "dataLayer");
  if (layer == nullptr) return {};
  if (const Json* sources = Parameter(*layer, "sources"))
    WP_RETURN_IF_ERROR(ReadSources(loading, *sources));
  if (const Json* discovery = Parameter(*layer, "discovery"))
    WP_RETURN_IF_ERROR(ReadDiscovery(loading, *discovery));
  if (!scheduling::BoolParameter(*layer, "injectDefaults", true)) {
    loading.Warn({"dataLayer", "injectDefaults"},
                 "has no effect: engines are always scraped, their load corrects the router's own "
                 "count");
  }
  constexpr std::string_view kAlone =
      "is not supported: each replica counts the requests that it routes and shares no state";
  for (const char* field : {"peerDiscovery", "crossReplicaSyncerPluginRef"}) {
    if (Parameter(*layer, field) != nullptr)
      return loading.document.Wrong({"dataLayer", field}, kAlone);
  }
  if (Parameter(*layer, "crossReplicaSyncInterval") != nullptr)
    loading.Warn({"dataLayer", "crossReplicaSyncInterval"}, "has no effect: no state is shared");
  return {};
}

constexpr std::string_view kUndefinedParser = "parser references undefined plugin '{}'";

Status AddParser(Loading& loading, const Path& path, const Json& entry) {
  WP_TRY(const DeclaredPlugin* parser, Referenced(loading, path, entry, kUndefinedParser));
  LoadedConfig& config = loading.config;
  const std::string& type = parser->type->name;
  if (type == "openai-parser") {
    config.parse_openai = true;
  } else if (type == "vllmhttp-parser") {
    config.parse_vllmhttp = true;
  } else if (type == "passthrough-parser") {
    config.parse_passthrough = true;
  } else if (type == "anthropic-parser") {
    loading.Warn(Below(path, "pluginRef"), "requests to /v1/messages are routed by load");
  } else {
    return loading.document.Wrong(
        Below(path, "pluginRef"),
        fmt::format("'{}' (type: {}) is no parser; possible here: openai-parser, anthropic-parser, "
                    "vllmhttp-parser, passthrough-parser",
                    parser->name, type));
  }
  return {};
}

Status ReadParsers(Loading& loading) {
  const Json& document = loading.document.json();
  const Json* parsers = Parameter(document, "requestHandler.parsers");
  const Json* old = Parameter(document, "parser");
  if (old != nullptr) loading.Warn({"parser"}, "deprecated: list it under requestHandler.parsers");
  const bool listed = parsers != nullptr && !parsers->get_array().empty();
  if (!listed && old == nullptr) return {};
  loading.config.parse_openai = false;
  loading.config.parse_vllmhttp = false;
  loading.config.parse_passthrough = false;
  if (!listed) return AddParser(loading, {"parser"}, *old);
  for (size_t i = 0; i < parsers->get_array().size(); ++i) {
    WP_RETURN_IF_ERROR(
        AddParser(loading, Below({"requestHandler", "parsers"}, i), parsers->get_array()[i]));
  }
  return {};
}

Status SetDetector(Loading& loading, const Path& path, const Json& entry) {
  // Made by default.
  constexpr std::string_view kUtilization = "utilization-detector";
  if (StringParameter(entry, "pluginRef", "") == kUtilization &&
      loading.Find(kUtilization) == nullptr) {
    loading.config.scheduler.saturation_detector = kUtilization;
    return {};
  }
  WP_TRY(const DeclaredPlugin* detector,
         Referenced(loading, path, entry, "saturation detector references undefined plugin '{}'"));
  if (detector->type->role != scheduling::Role::kDetector) {
    return loading.document.Wrong(
        Below(path, "pluginRef"),
        fmt::format("'{}' (type: {}) is no saturation detector; possible here: "
                    "utilization-detector, concurrency-detector",
                    detector->name, detector->type->name));
  }
  loading.config.scheduler.saturation_detector = detector->name;
  return {};
}

// References to policies: of a plugin declared, or by type to one that llm-d makes by itself.
Status CheckPolicy(const Loading& loading, const Path& path, const Json& holder,
                   std::string_view field) {
  const std::string name = StringParameter(holder, field, "");
  if (name.empty() || loading.Find(name) != nullptr) return {};
  for (const std::string_view made :
       {"global-strict-fairness-policy", "round-robin-fairness-policy", "fcfs-ordering-policy",
        "edf-ordering-policy", "slo-deadline-ordering-policy", "static-usage-limit-policy"}) {
    if (name == made) return {};
  }
  return loading.document.Wrong(
      Below(path, field),
      fmt::format("a plugin has a dependency on the unregistered plugin {}", name));
}

Status CheckBand(const Loading& loading, const Path& path, const Json& band) {
  WP_RETURN_IF_ERROR(CheckPolicy(loading, path, band, "fairnessPolicyRef"));
  return CheckPolicy(loading, path, band, "orderingPolicyRef");
}

Status ReadFlowControl(Loading& loading, bool gate) {
  constexpr std::string_view kNoQueue =
      "requests are not queued; shedding of negative priorities works";
  const Json& document = loading.document.json();
  const Json* flow = Parameter(document, "flowControl");
  const Json* detector = flow == nullptr ? nullptr : Parameter(*flow, "saturationDetector");
  if (const Json* old = Parameter(document, "saturationDetector")) {
    loading.Warn({"saturationDetector"}, "deprecated: give it under flowControl");
    if (detector == nullptr) WP_RETURN_IF_ERROR(SetDetector(loading, {"saturationDetector"}, *old));
  }
  if (detector != nullptr)
    WP_RETURN_IF_ERROR(SetDetector(loading, {"flowControl", "saturationDetector"}, *detector));
  if (gate) loading.Warn({"featureGates"}, fmt::format("flowControl has no effect: {}", kNoQueue));
  if (flow == nullptr) return {};
  const Path path = {"flowControl"};
  WP_RETURN_IF_ERROR(CheckPolicy(loading, path, *flow, "usageLimitPolicyPluginRef"));
  for (const char* field : {"defaultPriorityBand", "defaultNegativePriorityBand"}) {
    if (const Json* band = Parameter(*flow, field))
      WP_RETURN_IF_ERROR(CheckBand(loading, Below(path, field), *band));
  }
  std::set<double> priorities;
  const Json* bands = Parameter(*flow, "priorityBands");
  for (size_t i = 0; bands != nullptr && i < bands->get_array().size(); ++i) {
    const Json& band = bands->get_array()[i];
    const Path here = Below(Below(path, "priorityBands"), i);
    WP_RETURN_IF_ERROR(CheckBand(loading, here, band));
    const double priority = scheduling::NumberParameter(band, "priority", 0);
    if (!priorities.insert(priority).second) {
      return loading.document.Wrong(Below(here, "priority"),
                                    fmt::format("duplicate priority level {}", priority));
    }
  }
  const size_t without_effect = flow->get_object().size() - (detector == nullptr ? 0 : 1);
  if (without_effect > 0 && !gate)
    loading.Warn(path, fmt::format("only saturationDetector has an effect: {}", kNoQueue));
  return {};
}

}  // namespace

Status ReadConnections(Loading& loading, bool flow_control) {
  WP_RETURN_IF_ERROR(ReadDataLayer(loading));
  WP_RETURN_IF_ERROR(ReadParsers(loading));
  return ReadFlowControl(loading, flow_control);
}

}  // namespace warmpath::config
