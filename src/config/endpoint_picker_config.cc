#include "config/endpoint_picker_config.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <optional>
#include <set>

#include "base/check.h"
#include "codec/yaml.h"
#include "config/loading.h"
#include "config/schema.h"
#include "scheduling/plugin.h"

namespace warmpath::config {
namespace {

using codec::Json;
using scheduling::Parameter;
using scheduling::PluginType;
using scheduling::Role;
using scheduling::StringParameter;

constexpr codec::YamlLimits kLimits{size_t{1} << 20, 32, 50'000};
constexpr std::string_view kOldApiVersion = "inference.networking.x-k8s.io/v1alpha1";
// Producers that CompleteSpec makes where a plugin names them.
constexpr std::array<std::string_view, 3> kMadeByDefault = {
    "approx-prefix-cache-producer", "inflight-load-producer", "session-id-producer"};

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
  for (const Role role : {Role::kFilter, Role::kScorer, Role::kPicker, Role::kHandler,
                          Role::kProducer, Role::kDetector, Role::kPassive}) {
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

// Whether a plugin speaks as configurations of the first generation did, which nobody decoded
// strictly.
bool SpeaksOldDialect(const Json& plugin) {
  constexpr std::string_view kOldFilters[] = {"low-queue-filter", "least-queue-filter",
                                              "least-kv-cache-filter", "lora-affinity-filter",
                                              "decision-tree-filter"};
  const std::string type = StringParameter(plugin, "type", "");
  return std::find(std::begin(kOldFilters), std::end(kOldFilters), type) != std::end(kOldFilters) ||
         Parameter(plugin, "parameters.mode") != nullptr ||
         Parameter(plugin, "parameters.hashBlockSize") != nullptr;
}

bool IsOldDialect(const Json& document) {
  const Json* plugins = Parameter(document, "plugins");
  return StringParameter(document, "apiVersion", "") == kOldApiVersion && plugins != nullptr &&
         plugins->is_array() &&
         std::any_of(plugins->get_array().begin(), plugins->get_array().end(), SpeaksOldDialect);
}

// Where `value` holds the string `text`; nullopt: nowhere.
std::optional<Path> PathOf(const Json& value, std::string_view text, const Path& here) {
  if (value.is_string() && value.get_string() == text) return here;
  if (value.is_array()) {
    for (size_t i = 0; i < value.get_array().size(); ++i) {
      if (auto path = PathOf(value.get_array()[i], text, Below(here, i))) return path;
    }
  }
  if (value.is_object()) {
    for (const auto& [key, member] : value.get_object()) {
      if (auto path = PathOf(member, text, Below(here, std::string_view(key)))) return path;
    }
  }
  return std::nullopt;
}

class Loader {
 public:
  Loader(Document& document, const LoadOptions& options)
      : document_(document), options_(options), loading_{document, {}, {}} {}

  Result<LoadedConfig> Load() {
    if (document_.json().is_null())
      return document_.Wrong({}, "is empty; an EndpointPickerConfig is needed");
    lenient_ = IsOldDialect(document_.json());
    if (lenient_) {
      WP_RETURN_IF_ERROR(
          document_.CheckLeniently(EndpointPickerSchema(), loading_.config.warnings));
    } else {
      WP_RETURN_IF_ERROR(document_.Check({}, EndpointPickerSchema(), document_.json()));
    }
    if (StringParameter(document_.json(), "apiVersion", "") == kOldApiVersion)
      loading_.Warn({"apiVersion"}, "deprecated; today's is llm-d.ai/v1alpha1");
    WP_RETURN_IF_ERROR(ReadPlugins());
    WP_RETURN_IF_ERROR(CheckReferences());
    WP_RETURN_IF_ERROR(ReadProfiles());
    WP_TRY(const bool flow_control, ReadFeatureGates());
    WP_RETURN_IF_ERROR(ReadConnections(loading_, flow_control));
    WP_RETURN_IF_ERROR(ReadPluginOptions(loading_));
    WP_RETURN_IF_ERROR(Complete());
    return std::move(loading_.config);
  }

 private:
  Status ReadPlugins() {
    const Json* plugins = Parameter(document_.json(), "plugins");
    for (size_t i = 0; plugins != nullptr && i < plugins->get_array().size(); ++i) {
      WP_TRY(DeclaredPlugin plugin, ReadPlugin(plugins->get_array()[i], Below({"plugins"}, i)));
      loading_.config.scheduler.plugins.push_back(
          {plugin.type->name, plugin.name, codec::DumpJson(plugin.parameters)});
      loading_.by_name.emplace(plugin.name, loading_.plugins.size());
      loading_.plugins.push_back(std::move(plugin));
    }
    return {};
  }

  Result<DeclaredPlugin> ReadPlugin(const Json& plugin, const Path& here) {
    const std::string type_name = StringParameter(plugin, "type", "");
    DeclaredPlugin declared{StringParameter(plugin, "name", ""), nullptr, here,
                            codec::JsonObject()};
    if (type_name.empty()) {
      return document_.Wrong(Below(here, "type"),
                             fmt::format("plugin '{}' is missing a type", declared.name));
    }
    if (declared.name.empty()) declared.name = type_name;
    const PluginType* type = scheduling::FindPluginType(type_name);
    const Path type_path = Below(here, "type");
    if (type == nullptr) {
      return document_.Wrong(type_path, fmt::format("plugin type '{}' is not registered{}",
                                                    type_name, Suggestion(type_name)));
    }
    if (!type->refused.empty()) {
      return document_.Wrong(type_path, fmt::format("plugin type '{}' is not supported: {}",
                                                    type_name, type->refused));
    }
    declared.type = type;
    if (type->experimental && !options_.allow_experimental) {
      return document_.Wrong(
          type_path, fmt::format("plugin '{}' (type: '{}') has Alpha stability level, but command "
                                 "line flag --allow-experimental-plugins is not set",
                                 declared.name, type_name));
    }
    if (loading_.Find(declared.name) != nullptr) {
      return document_.Wrong(
          Below(here, Parameter(plugin, "name") != nullptr ? "name" : "type"),
          fmt::format("duplicate plugin name '{}'; names must be unique", declared.name));
    }
    if (const Json* given = Parameter(plugin, "parameters")) declared.parameters = *given;
    const Path parameters = Below(here, "parameters");
    if (lenient_) {
      WP_RETURN_IF_ERROR(document_.CheckLeniently(parameters, type->parameters, declared.parameters,
                                                  loading_.config.warnings));
    } else {
      WP_RETURN_IF_ERROR(document_.Check(parameters, type->parameters, declared.parameters));
    }
    if (!type->note.empty()) loading_.Warn(type_path, fmt::format("{}: {}", type_name, type->note));
    return declared;
  }

  // References inside of parameters. Producers that are made by default need no declaration.
  Status CheckReferences() const {
    for (const DeclaredPlugin& plugin : loading_.plugins) {
      std::vector<std::string> names;
      if (plugin.type->references) names = plugin.type->references(plugin.parameters);
      for (const char* field : {"prefixMatchInfoProducerName", "inFlightLoadProducerName"})
        names.push_back(StringParameter(plugin.parameters, field, ""));
      for (const std::string& name : names) {
        if (name.empty() || loading_.Find(name) != nullptr ||
            std::find(kMadeByDefault.begin(), kMadeByDefault.end(), name) != kMadeByDefault.end()) {
          continue;
        }
        // A reference made by default may lead nowhere.
        const auto path = PathOf(plugin.parameters, name, Below(plugin.path, "parameters"));
        if (!path) continue;
        return document_.Wrong(
            *path, fmt::format("a plugin has a dependency on the unregistered plugin {}; declare "
                               "it under plugins",
                               name));
      }
    }
    return {};
  }

  Status ReadProfiles() {
    const Json* profiles = Parameter(document_.json(), "schedulingProfiles");
    std::set<std::string> names;
    for (size_t i = 0; profiles != nullptr && i < profiles->get_array().size(); ++i) {
      const Json& profile = profiles->get_array()[i];
      const Path here = Below({"schedulingProfiles"}, i);
      scheduling::ProfileSpec spec;
      spec.name = StringParameter(profile, "name", "");
      if (spec.name.empty()) {
        return document_.WrongLine(Below(here, "name"),
                                   fmt::format("schedulingProfiles[{}] is missing a name", i));
      }
      if (!names.insert(spec.name).second) {
        return document_.WrongLine(
            Below(here, "name"),
            fmt::format("schedulingProfiles[{}] has duplicate name '{}'", i, spec.name));
      }
      const Json* plugins = Parameter(profile, "plugins");
      for (size_t j = 0; plugins != nullptr && j < plugins->get_array().size(); ++j) {
        WP_TRY(scheduling::ProfilePlugin entry,
               ReadProfilePlugin(spec.name, j, plugins->get_array()[j],
                                 Below(Below(here, "plugins"), j)));
        spec.plugins.push_back(std::move(entry));
      }
      loading_.config.scheduler.profiles.push_back(std::move(spec));
    }
    return {};
  }

  Result<scheduling::ProfilePlugin> ReadProfilePlugin(const std::string& profile, size_t index,
                                                      const Json& entry, const Path& path) {
    const std::string name = StringParameter(entry, "pluginRef", "");
    const Path ref = Below(path, "pluginRef");
    if (name.empty()) {
      return document_.WrongLine(
          ref, fmt::format("schedulingProfiles[{}].plugins[{}] is missing a 'pluginRef'", profile,
                           index));
    }
    const DeclaredPlugin* plugin = loading_.Find(name);
    if (plugin == nullptr) {
      return document_.Wrong(
          ref, fmt::format("schedulingProfiles[{}] references undefined plugin '{}'; declare it "
                           "under plugins",
                           profile, name));
    }
    const Role role = plugin->type->role;
    if (role == Role::kPassive || role == Role::kHandler || role == Role::kProducer) {
      return document_.Wrong(
          ref,
          fmt::format("'{}' is no filter, scorer or picker; only those belong in a profile", name));
    }
    if (role != Role::kScorer && Parameter(entry, "weight") != nullptr) {
      loading_.Warn(Below(path, "weight"), fmt::format("has no effect: '{}' is no scorer", name));
    }
    return scheduling::ProfilePlugin{name, scheduling::NumberParameter(entry, "weight", 1.0)};
  }

  // Whether requests are to be queued.
  Result<bool> ReadFeatureGates() {
    const Json* gates = Parameter(document_.json(), "featureGates");
    bool flow_control = false;
    for (size_t i = 0; gates != nullptr && i < gates->get_array().size(); ++i) {
      const Path path = Below({"featureGates"}, i);
      const auto& entry = gates->get_array()[i].get_string();
      const std::string_view text(entry.data(), entry.size());
      const auto equals = text.find('=');
      const std::string_view name = text.substr(0, equals);
      const std::string_view value =
          equals == std::string_view::npos ? "true" : text.substr(equals + 1);
      if (name != "flowControl" && name != "haPopulateNonLeaderDatastore") {
        return document_.Wrong(
            path, fmt::format("feature gate '{}' is unknown or unregistered; known: flowControl, "
                              "haPopulateNonLeaderDatastore",
                              name));
      }
      if (value != "true" && value != "false")
        return document_.Wrong(path, fmt::format("'{}' must be true or false", value));
      if (name == "flowControl") flow_control = value == "true";
    }
    return flow_control;
  }

  Status Complete() {
    for (const DeclaredPlugin& plugin : loading_.plugins) {
      if (plugin.type->name == "single-profile-handler" &&
          loading_.config.scheduler.profiles.size() > 1) {
        return document_.Wrong({"schedulingProfiles"},
                               "SingleProfileHandler cannot support multiple scheduling profiles");
      }
    }
    auto complete = scheduling::CompleteSpec(std::move(loading_.config.scheduler));
    if (!complete) return SchedulerError(complete.error().message);
    loading_.config.scheduler = std::move(*complete);
    for (const std::string& note : loading_.config.scheduler.notes)
      loading_.Warn({"plugins"}, note);
    // What only a plugin itself can judge.
    scheduling::SchedulerOptions options;
    options.allow_experimental = options_.allow_experimental;
    const auto scheduler = scheduling::Scheduler::Create(loading_.config.scheduler, options);
    if (!scheduler) return SchedulerError(scheduler.error().message);
    return {};
  }

  // At the plugin that the message names, else at the profiles.
  tl::unexpected<Error> SchedulerError(std::string_view message) const {
    constexpr std::string_view kPlugin = "plugin '";
    if (message.starts_with("schedulingProfiles["))
      return document_.WrongLine({"schedulingProfiles"}, message);
    const size_t start = message.find(kPlugin);
    if (start != std::string_view::npos) {
      const std::string_view name = message.substr(start + kPlugin.size());
      if (const DeclaredPlugin* plugin = loading_.Find(name.substr(0, name.find('\''))))
        return document_.Wrong(Below(plugin->path, "parameters"), message);
    }
    return document_.Wrong({"schedulingProfiles"}, message);
  }

  Document& document_;
  const LoadOptions& options_;
  Loading loading_;
  bool lenient_ = false;
};

}  // namespace

const DeclaredPlugin* Loading::Find(std::string_view name) const {
  const auto it = by_name.find(name);
  return it == by_name.end() ? nullptr : &plugins[it->second];
}

Result<LoadedConfig> LoadConfigText(std::string_view text, std::string_view source_name,
                                    const LoadOptions& options) {
  auto root = codec::ParseYaml(text, kLimits);
  if (!root) return ParseFailure(source_name, root.error());
  Document document(source_name, std::move(*root));
  return Loader(document, options).Load();
}

Result<LoadedConfig> LoadConfigFile(const std::string& path, const LoadOptions& options) {
  WP_TRY(const std::string text, ReadBoundedFile(path, kLimits.max_bytes));
  return LoadConfigText(text, path, options);
}

LoadedConfig DefaultEppConfig() {
  constexpr std::string_view kText = R"(apiVersion: llm-d.ai/v1alpha1
kind: EndpointPickerConfig
plugins:
- type: queue-scorer
- type: kv-cache-utilization-scorer
- type: prefix-cache-scorer
- type: metrics-data-source
- type: core-metrics-extractor
- type: max-score-picker
- type: single-profile-handler
schedulingProfiles:
- name: default
  plugins:
  - {pluginRef: queue-scorer, weight: 2}
  - {pluginRef: kv-cache-utilization-scorer, weight: 2}
  - {pluginRef: prefix-cache-scorer, weight: 3}
  - {pluginRef: max-score-picker}
)";
  auto config = LoadConfigText(kText, "default");
  WP_CHECK(config.has_value());
  config->warnings.clear();
  return std::move(*config);
}

}  // namespace warmpath::config
