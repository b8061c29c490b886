#include "k8s/objects.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <string_view>
#include <utility>

#include "base/rfc3339.h"

namespace warmpath::k8s {
namespace {

using codec::Find;
using codec::FindInt;
using codec::FindString;
using codec::Json;

constexpr size_t kMaxName = 253;
constexpr size_t kMaxPorts = 8;
constexpr int64_t kMaxWeight = 1'000'000;
constexpr std::string_view kAnnotationPrefixes[] = {"llm-d.ai/", "inference.networking.k8s.io/"};

tl::unexpected<Error> Bad(std::string_view field, std::string_view what) {
  return Fail(Code::kInvalidArgument, fmt::format("{}: {}", field, what));
}

// As the API server lets names be: they go into logs, headers and metrics as they are.
bool IsName(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && std::ranges::all_of(text, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.' || c == ':';
  });
}

std::string StringOr(const Json& object, std::string_view key, std::string_view fallback) {
  return std::string(FindString(object, key).value_or(fallback));
}

const Json& Member(const Json& object, std::string_view key) {
  static const Json kNone;
  const Json* member = Find(object, key);
  return member == nullptr ? kNone : *member;
}

const codec::JsonArray& ItemsOf(const Json& object, std::string_view key) {
  static const codec::JsonArray kNone;
  const Json* member = Find(object, key);
  return member == nullptr || !member->is_array() ? kNone : member->get_array();
}

// The string members of a map that `wanted` chooses.
template <typename Wanted>
std::map<std::string, std::string> StringsOf(const Json& map, Wanted wanted) {
  std::map<std::string, std::string> out;
  if (!map.is_object()) return out;
  for (const auto& [key, value] : map.get_object()) {
    if (value.is_string() && wanted(std::string_view(key))) {
      out.emplace(std::string_view(key), std::string_view(value.get_string()));
    }
  }
  return out;
}

Result<std::map<std::string, std::string>> ReadLabels(const Json& map, std::string_view field) {
  if (!map.is_object()) return Bad(field, "must be a map");
  std::map<std::string, std::string> out;
  for (const auto& [key, value] : map.get_object()) {
    if (!value.is_string()) return Bad(field, "must be a map of strings");
    out.emplace(std::string_view(key), std::string_view(value.get_string()));
  }
  return out;
}

Result<uint16_t> ReadPort(const Json& object, std::string_view key, std::string_view field) {
  const auto number = FindInt(object, key);
  if (!number || *number < 1 || *number > 65535) return Bad(field, "must be a port, 1..65535");
  return static_cast<uint16_t>(*number);
}

Result<PoolRef> ReadPoolRef(const Json& spec) {
  const Json& ref = Member(spec, "poolRef");
  PoolRef out;
  out.name = StringOr(ref, "name", "");
  if (!IsName(out.name)) return Bad("spec.poolRef.name", "is missing or no name");
  out.group = StringOr(ref, "group", out.group);
  out.kind = StringOr(ref, "kind", out.kind);
  return out;
}

Result<InferenceModelRewrite::Rule> ReadRule(const Json& object) {
  InferenceModelRewrite::Rule rule;
  if (!object.is_object()) return Bad("spec.rules", "must be a list of maps");
  // What cannot be read must not make the rule match everything.
  const Json& matches = Member(object, "matches");
  if (!matches.is_null() && !matches.is_array()) return Bad("spec.rules.matches", "must be a list");
  for (const Json& match : ItemsOf(object, "matches")) {
    const Json& model = Member(match, "model");
    if (StringOr(model, "type", "Exact") != "Exact") {
      return Bad("spec.rules.matches.model.type", "must be Exact");
    }
    std::string value = StringOr(model, "value", "");
    if (value.empty()) return Bad("spec.rules.matches.model.value", "must not be empty");
    rule.models.push_back(std::move(value));
  }
  for (const Json& target : ItemsOf(object, "targets")) {
    std::string model = StringOr(target, "modelRewrite", "");
    if (model.empty()) return Bad("spec.rules.targets.modelRewrite", "must not be empty");
    const Json* given = Find(target, "weight");
    const auto weight = given == nullptr || given->is_null() ? 1 : FindInt(target, "weight");
    if (!weight || *weight < 1 || *weight > kMaxWeight) {
      return Bad("spec.rules.targets.weight", fmt::format("must be 1..{}", kMaxWeight));
    }
    rule.targets.push_back({std::move(model), static_cast<uint32_t>(*weight)});
  }
  return rule;
}

}  // namespace

Result<Meta> ReadMeta(const Json& object) {
  const Json& metadata = Member(object, "metadata");
  Meta meta;
  meta.name = StringOr(metadata, "name", "");
  if (!IsName(meta.name)) return Bad("metadata.name", "is missing or no name");
  meta.ns = StringOr(metadata, "namespace", "");
  if (!meta.ns.empty() && !IsName(meta.ns)) return Bad("metadata.namespace", "is no name");
  meta.uid = StringOr(metadata, "uid", "");
  meta.resource_version = StringOr(metadata, "resourceVersion", "");
  meta.created_s = ParseRfc3339(StringOr(metadata, "creationTimestamp", "")).value_or(0);
  const Json& deletion = Member(metadata, "deletionTimestamp");
  meta.deleting = deletion.is_string() && !deletion.get_string().empty();
  meta.labels = StringsOf(Member(metadata, "labels"), [](std::string_view) { return true; });
  meta.annotations = StringsOf(Member(metadata, "annotations"), [](std::string_view key) {
    return std::ranges::any_of(kAnnotationPrefixes,
                               [&](std::string_view prefix) { return key.starts_with(prefix); });
  });
  return meta;
}

Result<Pod> ReadPod(const Json& object) {
  Pod pod;
  WP_TRY(pod.meta, ReadMeta(object));
  const Json& status = Member(object, "status");
  pod.ip = StringOr(status, "podIP", "");
  if (pod.ip.empty()) {
    const codec::JsonArray& ips = ItemsOf(status, "podIPs");
    if (!ips.empty()) pod.ip = StringOr(ips.front(), "ip", "");
  }
  for (const Json& condition : ItemsOf(status, "conditions")) {
    if (FindString(condition, "type") == "Ready") {
      pod.ready = FindString(condition, "status") == "True";
    }
  }
  uint64_t restarts = 0;
  for (const Json& container : ItemsOf(status, "containerStatuses")) {
    const int64_t count = FindInt(container, "restartCount").value_or(0);
    restarts +=
        static_cast<uint64_t>(std::clamp<int64_t>(count, 0, std::numeric_limits<int32_t>::max()));
  }
  pod.restarts =
      static_cast<uint32_t>(std::min<uint64_t>(restarts, std::numeric_limits<uint32_t>::max()));
  return pod;
}

Result<InferencePool> ReadInferencePool(const Json& object) {
  InferencePool pool;
  WP_TRY(pool.meta, ReadMeta(object));
  const Json& spec = Member(object, "spec");
  const Json& selector = Member(spec, "selector");
  if (Find(spec, "targetPortNumber") != nullptr && Find(spec, "targetPorts") == nullptr) {
    WP_TRY(pool.match_labels, ReadLabels(selector, "spec.selector"));
    WP_TRY(const uint16_t port, ReadPort(spec, "targetPortNumber", "spec.targetPortNumber"));
    pool.target_ports.push_back(port);
    return pool;
  }
  WP_TRY(pool.match_labels,
         ReadLabels(Member(selector, "matchLabels"), "spec.selector.matchLabels"));
  for (const Json& item : ItemsOf(spec, "targetPorts")) {
    WP_TRY(const uint16_t port, ReadPort(item, "number", "spec.targetPorts.number"));
    if (std::ranges::find(pool.target_ports, port) != pool.target_ports.end()) {
      return Bad("spec.targetPorts", fmt::format("{} is given twice", port));
    }
    pool.target_ports.push_back(port);
    if (pool.target_ports.size() > kMaxPorts) break;
  }
  if (pool.target_ports.empty() || pool.target_ports.size() > kMaxPorts) {
    return Bad("spec.targetPorts", fmt::format("must be 1 to {} ports", kMaxPorts));
  }
  pool.app_protocol = StringOr(spec, "appProtocol", pool.app_protocol);
  return pool;
}

Result<InferenceObjective> ReadInferenceObjective(const Json& object) {
  InferenceObjective objective;
  WP_TRY(objective.meta, ReadMeta(object));
  const Json& spec = Member(object, "spec");
  WP_TRY(objective.pool, ReadPoolRef(spec));
  const Json* given = Find(spec, "priority");
  if (given == nullptr || given->is_null()) return objective;
  const auto priority = FindInt(spec, "priority");
  if (!priority || !std::in_range<int32_t>(*priority)) {
    return Bad("spec.priority", "must be a whole number of 32 bits");
  }
  objective.priority = static_cast<int32_t>(*priority);
  return objective;
}

Result<InferenceModelRewrite> ReadInferenceModelRewrite(const Json& object) {
  InferenceModelRewrite rewrite;
  WP_TRY(rewrite.meta, ReadMeta(object));
  const Json& spec = Member(object, "spec");
  WP_TRY(rewrite.pool, ReadPoolRef(spec));
  for (const Json& item : ItemsOf(spec, "rules")) {
    WP_TRY(InferenceModelRewrite::Rule rule, ReadRule(item));
    rewrite.rules.push_back(std::move(rule));
  }
  return rewrite;
}

}  // namespace warmpath::k8s
