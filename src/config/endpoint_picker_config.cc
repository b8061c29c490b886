#include "config/endpoint_picker_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "base/units.h"
#include "codec/yaml.h"
#include "config/schema.h"
#include "scheduling/plugin.h"

namespace warmpath::config {
namespace {

using codec::Json;
using codec::YamlNode;
using scheduling::Parameter;
using scheduling::Role;
using scheduling::StringParameter;

constexpr codec::YamlLimits kLimits{size_t{1} << 20, 32, 50'000};
constexpr std::string_view kOldApiVersion = "inference.networking.x-k8s.io/v1alpha1";

size_t EditDistance(std::string_view a, std::string_view b) {
  std::vector<size_t> row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    size_t diagonal = row[0];
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t up = row[j];
      row[j] = std::min({row[j] + 1, row[j - 1] + 1, diagonal + (a[i - 1] != b[j - 1])});
      diagonal = up;
    }
  }
  return row[b.size()];
}

// " (did you mean 'queue-scorer'?)", or "".
std::string Suggestion(std::string_view wrong) {
  if (wrong.size() > 64) return "";
  std::string best;
  size_t best_distance = 4;
  for (const Role role :
       {Role::kFilter, Role::kScorer, Role::kPicker, Role::kHandler, Role::kPassive}) {
    for (const std::string& name : scheduling::PluginTypeNames(role)) {
      const size_t distance = EditDistance(wrong, name);
      if (distance < best_distance) {
        best = name;
        best_distance = distance;
      }
    }
  }
  return best.empty() ? "" : fmt::format(" (did you mean '{}'?)", best);
}

// Errors quote the document, which may hold anything.
std::string OneLine(std::string message) {
  constexpr size_t kMaxMessage = 1000;
  for (char& c : message) {
    if (static_cast<unsigned char>(c) < ' ' || c == 0x7f) c = '?';
  }
  if (message.size() > kMaxMessage) {
    message.resize(kMaxMessage);
    message += "...";
  }
  return message;
}

// A place in the document.
using Path = std::vector<std::string>;

class Loader {
 public:
  explicit Loader(std::string_view source) : source_(source) {}

  Result<LoadedConfig> Load(std::string_view text) {
    auto root = codec::ParseYaml(text, kLimits);
    if (!root) {
      std::string message = root.error().message;
      // "line 3: what" becomes "file:3: what".
      if (message.starts_with("line ")) {
        return Fail(Code::kInvalidArgument, fmt::format("{}:{}", source_, message.substr(5)));
      }
      return Fail(Code::kInvalidArgument, fmt::format("{}:1: {}", source_, message));
    }
    root_ = std::move(*root);
    if (root_.is_null()) return Wrong({}, "is empty; an EndpointPickerConfig is needed");
    document_ = codec::YamlToJson(root_);
    if (const auto error = CheckParameters(EndpointPickerSchema(), document_))
      return Wrong(error->path, Field(error->message));
    if (StringParameter(document_, "apiVersion", "") == kOldApiVersion) {
      Warn({"apiVersion"}, "deprecated; today's is llm-d.ai/v1alpha1");
    }
    WP_RETURN_IF_ERROR(ReadPlugins());
    WP_RETURN_IF_ERROR(ReadProfiles());
    WP_RETURN_IF_ERROR(CheckOtherReferences());
    WP_RETURN_IF_ERROR(CheckFeatureGates());
    for (const auto& [path, parameters] : plugin_parameters_) {
      WP_RETURN_IF_ERROR(ReadKvOptions(path, parameters));
    }
    auto complete = scheduling::CompleteSpec(std::move(config_.scheduler));
    if (!complete) return Wrong({"plugins"}, complete.error().message);
    config_.scheduler = std::move(*complete);
    // What only a plugin itself can judge.
    if (const auto scheduler = scheduling::Scheduler::Create(config_.scheduler); !scheduler) {
      return Wrong({"schedulingProfiles"}, scheduler.error().message);
    }
    return std::move(config_);
  }

 private:
  // Of the field itself where it exists, else of the deepest parent that does.
  int LineOf(const Path& path) const {
    const YamlNode* node = &root_;
    int line = std::max(1, root_.line);
    for (const std::string& part : path) {
      if (part.starts_with("[")) {
        const auto index =
            static_cast<size_t>(ParseInt(part.substr(1, part.size() - 2)).value_or(0));
        if (!node->is_sequence() || index >= node->items.size()) break;
        node = &node->items[index];
        line = node->line;
        continue;
      }
      const auto member = std::find_if(node->members.begin(), node->members.end(),
                                       [&](const auto& m) { return m.key == part; });
      if (member == node->members.end()) break;
      line = member->value.key_line;
      node = &member->value;
    }
    return line;
  }

  static std::string Text(const Path& path) {
    return scheduling::ParameterError{path, ""}.PathText();
  }
  static std::string Field(std::string message) {
    constexpr std::string_view kParameter = "unknown parameter";
    if (message.starts_with(kParameter)) message.replace(0, kParameter.size(), "unknown field");
    return message;
  }

  tl::unexpected<Error> Wrong(const Path& path, std::string_view what) const {
    const std::string text = Text(path);
    return Fail(Code::kInvalidArgument, fmt::format("{}:{}: {}{}{}", source_, LineOf(path), text,
                                                    text.empty() ? "" : ": ", what));
  }
  void Warn(const Path& path, std::string_view what) {
    config_.warnings.push_back(fmt::format("line {}: {}: {}", LineOf(path), Text(path), what));
  }

  Status ReadPlugins() {
    const Json* plugins = Parameter(document_, "plugins");
    if (plugins == nullptr) return {};
    for (size_t i = 0; i < plugins->get_array().size(); ++i) {
      const Json& plugin = plugins->get_array()[i];
      const Path here = {"plugins", fmt::format("[{}]", i)};
      scheduling::PluginSpec spec;
      spec.type = StringParameter(plugin, "type", "");
      spec.name = StringParameter(plugin, "name", "");
      if (spec.type.empty())
        return Wrong(Below(here, "type"), "is missing: every plugin needs a type");
      if (spec.name.empty()) spec.name = spec.type;
      const scheduling::PluginType* type = scheduling::FindPluginType(spec.type);
      if (type == nullptr) {
        return Wrong(Below(here, "type"), fmt::format("plugin type '{}' is not registered{}",
                                                      spec.type, Suggestion(spec.type)));
      }
      if (!type_of_.emplace(spec.name, type).second) {
        return Wrong(Below(here, codec::Find(plugin, "name") != nullptr ? "name" : "type"),
                     fmt::format("duplicate plugin name '{}'; names must be unique", spec.name));
      }
      Json parameters = codec::JsonObject();
      if (const Json* given = Parameter(plugin, "parameters")) parameters = *given;
      if (const auto error = CheckParameters(type->parameters, parameters)) {
        Path path = Below(here, "parameters");
        path.insert(path.end(), error->path.begin(), error->path.end());
        return Wrong(path, Field(error->message));
      }
      if (!type->note.empty())
        Warn(Below(here, "type"), fmt::format("{}: {}", spec.type, type->note));
      spec.parameters_json = codec::DumpJson(parameters);
      plugin_parameters_.emplace_back(Below(here, "parameters"), std::move(parameters));
      config_.scheduler.plugins.push_back(std::move(spec));
    }
    return {};
  }

  Status ReadProfiles() {
    const Json* profiles = Parameter(document_, "schedulingProfiles");
    if (profiles == nullptr) return {};
    std::set<std::string> names;
    for (size_t i = 0; i < profiles->get_array().size(); ++i) {
      const Json& profile = profiles->get_array()[i];
      const Path here = {"schedulingProfiles", fmt::format("[{}]", i)};
      scheduling::ProfileSpec spec;
      spec.name = StringParameter(profile, "name", "");
      if (spec.name.empty())
        return Wrong(Below(here, "name"), "is missing: every profile needs a name");
      if (!names.insert(spec.name).second) {
        return Wrong(Below(here, "name"),
                     fmt::format("duplicate name '{}'; names must be unique", spec.name));
      }
      const Json* plugins = Parameter(profile, "plugins");
      for (size_t j = 0; plugins != nullptr && j < plugins->get_array().size(); ++j) {
        const Json& entry = plugins->get_array()[j];
        const Path path = Below(Below(here, "plugins"), fmt::format("[{}]", j));
        const std::string name = StringParameter(entry, "pluginRef", "");
        const auto type = type_of_.find(name);
        if (type == type_of_.end()) {
          return Wrong(
              Below(path, "pluginRef"),
              fmt::format("references undefined plugin '{}'; declare it under plugins", name));
        }
        const Role role = type->second->role;
        if (role == Role::kPassive || role == Role::kHandler) {
          return Wrong(
              Below(path, "pluginRef"),
              fmt::format("'{}' is no filter, scorer or picker; only those belong in a profile",
                          name));
        }
        if (role != Role::kScorer && Parameter(entry, "weight") != nullptr) {
          Warn(Below(path, "weight"), fmt::format("has no effect: '{}' is no scorer", name));
        }
        spec.plugins.push_back({name, scheduling::NumberParameter(entry, "weight", 1.0)});
      }
      config_.scheduler.profiles.push_back(std::move(spec));
    }
    return {};
  }

  Status CheckReference(const Path& path, const Json& holder,
                        std::string_view field = "pluginRef") const {
    const std::string name = StringParameter(holder, field, "");
    if (name.empty() || type_of_.contains(name)) return {};
    return Wrong(Below(path, std::string(field)),
                 fmt::format("references undefined plugin '{}'; declare it under plugins", name));
  }

  // References outside of profiles: they need not do anything here, but must not dangle.
  Status CheckOtherReferences() {
    if (const Json* sources = Parameter(document_, "dataLayer.sources")) {
      for (size_t i = 0; i < sources->get_array().size(); ++i) {
        const Json& source = sources->get_array()[i];
        const Path path = {"dataLayer", "sources", fmt::format("[{}]", i)};
        WP_RETURN_IF_ERROR(CheckReference(path, source));
        const Json* extractors = Parameter(source, "extractors");
        for (size_t j = 0; extractors != nullptr && j < extractors->get_array().size(); ++j) {
          WP_RETURN_IF_ERROR(
              CheckReference(Below(Below(path, "extractors"), fmt::format("[{}]", j)),
                             extractors->get_array()[j]));
        }
      }
    }
    for (const char* field : {"discovery", "peerDiscovery"}) {
      if (const Json* holder = Parameter(document_, fmt::format("dataLayer.{}", field))) {
        WP_RETURN_IF_ERROR(CheckReference({"dataLayer", field}, *holder));
        Warn({"dataLayer", field}, "has no effect: endpoints come from the command line");
      }
    }
    if (const Json* parsers = Parameter(document_, "requestHandler.parsers")) {
      for (size_t i = 0; i < parsers->get_array().size(); ++i) {
        WP_RETURN_IF_ERROR(CheckReference({"requestHandler", "parsers", fmt::format("[{}]", i)},
                                          parsers->get_array()[i]));
      }
    }
    for (const char* field : {"saturationDetector", "parser"}) {
      if (const Json* holder = Parameter(document_, field)) {
        WP_RETURN_IF_ERROR(CheckReference({field}, *holder));
        Warn({field}, "deprecated at this place, and has no effect");
      }
    }
    if (const Json* flow = Parameter(document_, "flowControl")) {
      if (const Json* detector = Parameter(*flow, "saturationDetector")) {
        WP_RETURN_IF_ERROR(CheckReference({"flowControl", "saturationDetector"}, *detector));
      }
      Warn({"flowControl"}, "has no effect: requests are not queued");
    }
    return {};
  }

  Status CheckFeatureGates() {
    const Json* gates = Parameter(document_, "featureGates");
    if (gates == nullptr) return {};
    for (size_t i = 0; i < gates->get_array().size(); ++i) {
      const Path path = {"featureGates", fmt::format("[{}]", i)};
      const auto& entry = gates->get_array()[i].get_string();
      const std::string_view text(entry.data(), entry.size());
      const auto equals = text.find('=');
      const std::string_view name = text.substr(0, equals);
      const std::string_view value =
          equals == std::string_view::npos ? "true" : text.substr(equals + 1);
      if (name != "flowControl" && name != "haPopulateNonLeaderDatastore") {
        return Wrong(
            path, fmt::format("feature gate '{}' is unknown or unregistered; known: flowControl, "
                              "haPopulateNonLeaderDatastore",
                              name));
      }
      if (value != "true" && value != "false") {
        return Wrong(path, fmt::format("'{}' must be true or false", value));
      }
      if (value == "true") Warn(path, "has no effect");
    }
    return {};
  }

  // What plugin parameters say about events and the index. All generations keep the same names, at
  // two depths.
  Status ReadKvOptions(const Path& path, const Json& parameters) {
    const std::string mode = StringParameter(parameters, "mode", "");
    if (mode == "cache_tracking") config_.legacy_cache_tracking = true;
    if (mode == "estimate")
      Warn(Below(path, "mode"),
           "matches are exact, from the engines' events; nothing is estimated");
    if (const std::string producer = StringParameter(parameters, "prefixMatchInfoProducerName", "");
        !producer.empty() && !type_of_.contains(producer)) {
      const auto* type = scheduling::FindPluginType(producer);
      if (type == nullptr || type->role != Role::kPassive) {
        return Wrong(
            Below(path, "prefixMatchInfoProducerName"),
            fmt::format("references undefined plugin '{}'; declare it under plugins", producer));
      }
    }
    if (const auto interval = scheduling::DurationParameter(
            parameters, "indexerConfig.kvBlockIndexConfig.metricsLoggingInterval")) {
      config_.metrics_logging_interval = *interval;
    }
    for (const char* backend : {"redisConfig", "valkeyConfig"}) {
      if (Parameter(parameters, fmt::format("indexerConfig.kvBlockIndexConfig.{}", backend)) !=
          nullptr) {
        Path where = path;
        for (const char* part : {"indexerConfig", "kvBlockIndexConfig", backend})
          where.emplace_back(part);
        Warn(where, "has no effect: the index is in process (--index-memory)");
      }
    }
    const Json* events = Parameter(parameters, "kvEventsConfig");
    if (events == nullptr) return {};
    const Path events_path = Below(path, "kvEventsConfig");
    if (const std::string bind = StringParameter(*events, "zmqEndpoint", ""); !bind.empty()) {
      if (!bind.starts_with("tcp://")) {
        return Wrong(Below(events_path, "zmqEndpoint"),
                     fmt::format("'{}' must read tcp://HOST:PORT or tcp://*:PORT", bind));
      }
      if (!config_.kv_events_bind.empty() && config_.kv_events_bind != bind) {
        return Wrong(Below(events_path, "zmqEndpoint"),
                     fmt::format("'{}' differs from '{}' given before; one socket is bound", bind,
                                 config_.kv_events_bind));
      }
      config_.kv_events_bind = bind;
    }
    if (const std::string topic = StringParameter(*events, "topicFilter", ""); !topic.empty()) {
      config_.topic_filter = topic;
    }
    WP_TRY(config_.kv_events_port,
           ReadPort(events_path, *events, "socketPort", config_.kv_events_port));
    WP_TRY(config_.kv_replay_port,
           ReadPort(events_path, *events, "replaySocketPort", config_.kv_replay_port));
    return {};
  }

  Result<uint16_t> ReadPort(const Path& path, const Json& events, const char* name,
                            uint16_t fallback) const {
    const Json* value = Parameter(events, fmt::format("podDiscoveryConfig.{}", name));
    if (value == nullptr) return fallback;
    const double port =
        scheduling::NumberParameter(events, fmt::format("podDiscoveryConfig.{}", name), 0);
    if (port <= 0) return uint16_t{0};
    if (port > 65535)
      return Wrong(Below(Below(path, "podDiscoveryConfig"), name), "must be a port, at most 65535");
    return static_cast<uint16_t>(port);
  }

  static Path Below(Path path, std::string field) {
    path.push_back(std::move(field));
    return path;
  }

  const std::string source_;
  YamlNode root_;
  Json document_;
  std::map<std::string, const scheduling::PluginType*> type_of_;  // declared plugins by name
  std::vector<std::pair<Path, Json>> plugin_parameters_;
  LoadedConfig config_;
};

}  // namespace

Result<LoadedConfig> LoadConfigText(std::string_view text, std::string_view source_name,
                                    const LoadOptions&) {
  auto config = Loader(source_name).Load(text);
  if (!config) config.error().message = OneLine(std::move(config.error().message));
  return config;
}

Result<LoadedConfig> LoadConfigFile(const std::string& path, const LoadOptions& options) {
  std::error_code error;
  std::ifstream in(path, std::ios::binary);
  if (!in || std::filesystem::is_directory(path, error)) {
    return Fail(Code::kNotFound, fmt::format("{}: cannot be read", path));
  }
  std::string text(kLimits.max_bytes + 1, '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<size_t>(in.gcount()));
  return LoadConfigText(text, path, options);
}

}  // namespace warmpath::config
