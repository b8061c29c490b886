#include "scheduling/specification.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <set>

#include "scheduling/prefix_source.h"

namespace warmpath::scheduling {
namespace {

constexpr std::string_view kApproximate = "approx-prefix-cache-producer";
constexpr std::string_view kPrecise = "precise-prefix-cache-producer";
constexpr std::string_view kPreciseScorer = "precise-prefix-cache-scorer";
// Types that are made under their own name when another plugin refers to them by it.
constexpr std::string_view kMadeOnDemand[] = {kApproximate, "inflight-load-producer",
                                              "session-id-producer"};

tl::unexpected<Error> Invalid(std::string message) {
  return Fail(Code::kInvalidArgument, std::move(message));
}

const PluginSpec* FindSpec(const SchedulerSpec& spec, std::string_view name) {
  for (const PluginSpec& plugin : spec.plugins) {
    if (plugin.name == name) return &plugin;
  }
  return nullptr;
}

Role RoleOf(const SchedulerSpec& spec, const std::string& name) {
  return FindPluginType(FindSpec(spec, name)->type)->role;
}

// A name for a plugin that was not configured: its type, unless that is taken.
std::string AddPlugin(SchedulerSpec& spec, std::string_view type, std::string parameters = "{}") {
  std::string name(type);
  for (int i = 2; FindSpec(spec, name) != nullptr; ++i) name = fmt::format("{}-{}", type, i);
  spec.plugins.push_back({std::string(type), name, std::move(parameters), true});
  return name;
}

// `mode: cache_tracking` of the first generation: exact, whatever else is configured.
bool TracksCache(const ParsedPlugin& plugin) {
  return plugin.type->name == "prefix-cache-scorer" &&
         StringParameter(plugin.parameters, "mode", "") == "cache_tracking";
}

std::vector<std::string> References(const ParsedPlugin& plugin) {
  return plugin.type->references ? plugin.type->references(plugin.parameters)
                                 : std::vector<std::string>{};
}

Status CheckProfile(const SchedulerSpec& spec, const ProfileSpec& profile) {
  std::string picker;
  for (size_t i = 0; i < profile.plugins.size(); ++i) {
    const ProfilePlugin& entry = profile.plugins[i];
    if (entry.plugin.empty()) {
      return Invalid(fmt::format("schedulingProfiles[{}].plugins[{}] is missing a 'pluginRef'",
                                 profile.name, i));
    }
    const PluginSpec* plugin = FindSpec(spec, entry.plugin);
    if (plugin == nullptr) {
      return Invalid(fmt::format("schedulingProfiles[{}] references undefined plugin '{}'",
                                 profile.name, entry.plugin));
    }
    const Role role = FindPluginType(plugin->type)->role;
    if (role == Role::kHandler || role == Role::kPassive || role == Role::kProducer) {
      return Invalid(fmt::format(
          "schedulingProfiles[{}] references '{}' (type: {}), which is no filter, scorer or picker",
          profile.name, entry.plugin, plugin->type));
    }
    if (role == Role::kScorer && !std::isfinite(entry.weight)) {
      return Invalid(fmt::format("schedulingProfiles[{}]: the weight of '{}' must be a number",
                                 profile.name, entry.plugin));
    }
    if (role != Role::kPicker) continue;
    if (!picker.empty()) {
      return Invalid(fmt::format(
          "schedulingProfiles[{}]: failed to set '{}' as picker, already have a registered "
          "picker plugin '{}'",
          profile.name, entry.plugin, picker));
    }
    picker = entry.plugin;
  }
  return {};
}

Status CheckDetector(const SchedulerSpec& spec) {
  if (spec.saturation_detector.empty()) return {};
  const PluginSpec* plugin = FindSpec(spec, spec.saturation_detector);
  if (plugin == nullptr) {
    if (spec.saturation_detector == "utilization-detector") return {};
    return Invalid(fmt::format("saturation detector references undefined plugin '{}'",
                               spec.saturation_detector));
  }
  if (FindPluginType(plugin->type)->role == Role::kDetector) return {};
  return Invalid(
      fmt::format("saturation detector references '{}' (type: {}), which is no saturation detector",
                  plugin->name, plugin->type));
}

Status CheckHandler(SchedulerSpec& spec) {
  std::string handler;
  for (const PluginSpec& plugin : spec.plugins) {
    if (FindPluginType(plugin.type)->role != Role::kHandler) continue;
    if (!handler.empty()) {
      return Invalid(
          fmt::format("multiple profile handlers found ('{}', '{}'); only one is allowed", handler,
                      plugin.name));
    }
    handler = plugin.name;
  }
  if (!handler.empty()) return {};
  if (spec.profiles.size() > 1) return Invalid("no profile handler configured");
  AddPlugin(spec, "single-profile-handler");
  return {};
}

void AddPickers(SchedulerSpec& spec) {
  std::string shared_picker;
  for (ProfileSpec& profile : spec.profiles) {
    const bool has_picker = std::any_of(
        profile.plugins.begin(), profile.plugins.end(),
        [&](const ProfilePlugin& p) { return RoleOf(spec, p.plugin) == Role::kPicker; });
    if (has_picker) continue;
    if (shared_picker.empty()) {
      for (const PluginSpec& plugin : spec.plugins) {
        if (plugin.type == "max-score-picker") shared_picker = plugin.name;
      }
      if (shared_picker.empty()) shared_picker = AddPlugin(spec, "max-score-picker");
    }
    profile.plugins.push_back({shared_picker, 1.0});
  }
}

// The approximate producer's parameters for `mode: estimate` of the first generation, which counted
// in bytes: four of them make a pseudo token.
std::string ParametersOfEstimateMode(const codec::Json& scorer) {
  const auto count = [&](const char* name, double fallback) {
    return static_cast<int64_t>(NumberParameter(scorer, name, fallback));
  };
  return fmt::format(R"({{"autoTune":false,"blockSizeTokens":{},"maxPrefixBlocksToMatch":{},)"
                     R"("maxPrefixTokensToMatch":0,"lruCapacityPerServer":{}}})",
                     std::max<int64_t>(1, count("hashBlockSize", 64) / 4),
                     count("maxPrefixBlocksToMatch", 256), count("lruCapacityPerServer", 31250));
}

// Adds what is consumed and not produced, and notes what llm-d would have read differently.
Status AddProducers(SchedulerSpec& spec) {
  WP_TRY(const std::vector<ParsedPlugin> plugins, ParsePlugins(spec));
  std::set<std::string> by_name;
  std::string parameters;  // of the approximate producer to add; "": none is needed
  std::vector<std::string> notes;
  const int source = DefaultPrefixProducer(plugins);
  for (const ParsedPlugin& plugin : plugins) {
    for (const std::string& name : References(plugin)) {
      if (name != kDefaultPrefixProducer) {
        if (FindPlugin(plugins, name) < 0) by_name.insert(name);
        continue;
      }
      if (TracksCache(plugin)) continue;
      if (source < 0) {
        if (StringParameter(plugin.parameters, "mode", "") == "estimate") {
          parameters = ParametersOfEstimateMode(plugin.parameters);
        } else if (parameters.empty()) {
          parameters = "{}";
        }
      } else if (plugins[static_cast<size_t>(source)].type->name != kApproximate &&
                 plugin.type->name != kPreciseScorer) {
        notes.push_back(fmt::format(
            "plugin '{}' names no prefixMatchInfoProducerName: it reads '{}' here (llm-d reads an "
            "approximate producer in this case)",
            plugin.spec->name, plugins[static_cast<size_t>(source)].spec->name));
      }
    }
  }
  spec.notes = std::move(notes);
  for (const std::string_view type : kMadeOnDemand) {
    if (!by_name.contains(std::string(type))) continue;
    AddPlugin(spec, type);
    if (type == kApproximate) parameters.clear();
  }
  if (!parameters.empty()) AddPlugin(spec, kApproximate, parameters);
  return {};
}

}  // namespace

std::string ParsedPlugin::Where() const {
  return fmt::format("plugin '{}' (type: {})", spec->name, spec->type);
}

Result<std::vector<ParsedPlugin>> ParsePlugins(const SchedulerSpec& spec) {
  std::set<std::string_view> names;
  std::vector<ParsedPlugin> plugins;
  for (const PluginSpec& plugin : spec.plugins) {
    if (plugin.type.empty())
      return Invalid(fmt::format("plugin '{}' is missing a type", plugin.name));
    if (!names.insert(plugin.name).second) {
      return Invalid(fmt::format("duplicate plugin name '{}'", plugin.name));
    }
    ParsedPlugin& parsed = plugins.emplace_back();
    parsed.spec = &plugin;
    parsed.type = FindPluginType(plugin.type);
    if (parsed.type == nullptr) {
      return Invalid(
          fmt::format("plugin '{}': plugin type '{}' is not registered", plugin.name, plugin.type));
    }
    if (!parsed.type->refused.empty()) {
      return Fail(Code::kUnsupported, fmt::format("plugin type '{}' is not available: {}",
                                                  plugin.type, parsed.type->refused));
    }
    auto parameters = codec::ParseJson(
        plugin.parameters_json.empty() ? "{}" : std::string_view(plugin.parameters_json));
    if (!parameters) return Fail(parameters.error(), parsed.Where() + ": parameters");
    if (parameters->is_null()) *parameters = codec::JsonObject();
    if (const auto error = CheckParameters(parsed.type->parameters, *parameters)) {
      const std::string path = error->PathText();
      return Invalid(fmt::format("{}: parameters{}{}: {}", parsed.Where(), path.empty() ? "" : ".",
                                 path, error->message));
    }
    parsed.parameters = std::move(*parameters);
  }
  return plugins;
}

int FindPlugin(const std::vector<ParsedPlugin>& plugins, std::string_view name) {
  if (name == kDefaultPrefixProducer) return DefaultPrefixProducer(plugins);
  for (size_t i = 0; i < plugins.size(); ++i) {
    if (plugins[i].spec->name == name) return static_cast<int>(i);
  }
  return -1;
}

int DefaultPrefixProducer(const std::vector<ParsedPlugin>& plugins) {
  for (const std::string_view type : {kPrecise, kPreciseScorer, kApproximate}) {
    for (size_t i = 0; i < plugins.size(); ++i) {
      if (plugins[i].type->name == type) return static_cast<int>(i);
    }
  }
  return -1;
}

Result<std::vector<size_t>> CreationOrder(const std::vector<ParsedPlugin>& plugins) {
  enum class State { kNew, kOpen, kDone };
  std::vector<State> states(plugins.size(), State::kNew);
  std::vector<size_t> order, open;
  const std::function<Status(size_t)> visit = [&](size_t i) -> Status {
    if (states[i] == State::kDone) return {};
    if (states[i] == State::kOpen) {
      std::vector<std::string> cycle;
      for (auto it = std::find(open.begin(), open.end(), i); it != open.end(); ++it)
        cycle.push_back(plugins[*it].spec->name);
      cycle.push_back(plugins[i].spec->name);
      return Invalid(
          fmt::format("plugins refer to each other in a cycle: {}", fmt::join(cycle, " -> ")));
    }
    states[i] = State::kOpen;
    open.push_back(i);
    for (const std::string& name : References(plugins[i])) {
      const int found = FindPlugin(plugins, name);
      if (found >= 0) {
        // What reads the default and is the default (precise-prefix-cache-scorer) reads itself.
        if (name == kDefaultPrefixProducer && static_cast<size_t>(found) == i) continue;
        WP_RETURN_IF_ERROR(visit(static_cast<size_t>(found)));
      } else if (name != kDefaultPrefixProducer) {
        return Invalid(fmt::format("{}: a plugin has a dependency on the unregistered plugin {}",
                                   plugins[i].Where(), name));
      }
    }
    open.pop_back();
    states[i] = State::kDone;
    order.push_back(i);
    return {};
  };
  for (size_t i = 0; i < plugins.size(); ++i) WP_RETURN_IF_ERROR(visit(i));
  return order;
}

Result<SchedulerSpec> CompleteSpec(SchedulerSpec spec) {
  for (PluginSpec& plugin : spec.plugins) {
    if (plugin.name.empty()) plugin.name = plugin.type;
  }
  WP_RETURN_IF_ERROR(AddProducers(spec));
  if (spec.profiles.empty()) {
    ProfileSpec profile{"default", {}};
    for (const PluginSpec& plugin : spec.plugins) {
      const Role role = FindPluginType(plugin.type)->role;
      if (role == Role::kFilter || role == Role::kScorer || role == Role::kPicker) {
        profile.plugins.push_back({plugin.name, 1.0});
      }
    }
    spec.profiles.push_back(std::move(profile));
  }
  std::set<std::string> profiles;
  for (size_t i = 0; i < spec.profiles.size(); ++i) {
    const ProfileSpec& profile = spec.profiles[i];
    if (profile.name.empty())
      return Invalid(fmt::format("schedulingProfiles[{}] is missing a name", i));
    if (!profiles.insert(profile.name).second) {
      return Invalid(
          fmt::format("schedulingProfiles[{}] has duplicate name '{}'", i, profile.name));
    }
    WP_RETURN_IF_ERROR(CheckProfile(spec, profile));
  }
  WP_RETURN_IF_ERROR(CheckDetector(spec));
  WP_RETURN_IF_ERROR(CheckHandler(spec));
  AddPickers(spec);
  return spec;
}

}  // namespace warmpath::scheduling
