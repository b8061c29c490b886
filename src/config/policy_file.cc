#include "config/policy_file.h"

#include <fmt/format.h>

#include <optional>
#include <set>
#include <utility>

#include "base/rfc3339.h"
#include "config/document.h"
#include "config/schema.h"

namespace warmpath::config {
namespace {

using codec::Json;
using scheduling::Parameter;
using scheduling::StringParameter;

constexpr codec::YamlLimits kLimits{size_t{1} << 20, 32, 1'000'000};
constexpr size_t kMaxObjects = 10'000;

// Reads the objects of one document.
class Reader {
 public:
  Reader(const Document& document, routing::Policies& policies,
         std::set<std::pair<std::string, std::string>>& seen)
      : document_(document), policies_(policies), seen_(seen) {}

  Status ReadDocument() {
    const Json& root = document_.json();
    if (!StringParameter(root, "kind", "").ends_with("List")) return ReadObject({}, root);
    WP_RETURN_IF_ERROR(document_.Check({}, ObjectListSchema(), root));
    const codec::JsonArray& items = Parameter(root, "items")->get_array();
    for (size_t i = 0; i < items.size(); ++i)
      WP_RETURN_IF_ERROR(ReadObject(Below({"items"}, i), items[i]));
    return {};
  }

 private:
  Status ReadObject(const Path& path, const Json& object) {
    if (!object.is_object()) return document_.Wrong(path, "must be a map");
    const std::string kind = StringParameter(object, "kind", "");
    const bool objective = kind == "InferenceObjective";
    if (!objective && kind != "InferenceModelRewrite") {
      return document_.Wrong(Below(path, "kind"),
                             kind.empty()
                                 ? std::string("is missing")
                                 : fmt::format("'{}' is unknown; allowed: InferenceObjective, "
                                               "InferenceModelRewrite, List",
                                               kind));
    }
    WP_RETURN_IF_ERROR(
        document_.Check(path, objective ? ObjectiveSchema() : ModelRewriteSchema(), object));
    const std::string name = StringParameter(object, "metadata.name", "");
    const Path name_path = Below(Below(path, "metadata"), "name");
    if (name.empty() || name.size() > 253)
      return document_.Wrong(name_path, "must have 1 to 253 characters");
    if (!seen_.emplace(kind, name).second)
      return document_.Wrong(name_path, fmt::format("{} '{}' is given twice", kind, name));
    if (seen_.size() > kMaxObjects) {
      return document_.Wrong(path, fmt::format("more than {} objects", kMaxObjects));
    }
    if (!objective) return ReadRewrite(path, object, name);
    policies_.priorities[name] =
        static_cast<int32_t>(scheduling::NumberParameter(object, "spec.priority", 0));
    return {};
  }

  Status ReadRewrite(const Path& path, const Json& object, const std::string& name) {
    routing::ModelRewrite rewrite{name, 0, {}};
    const std::string created = StringParameter(object, "metadata.creationTimestamp", "");
    if (!created.empty()) {
      const auto seconds = ParseRfc3339(created);
      if (!seconds) {
        return document_.Wrong(Below(Below(path, "metadata"), "creationTimestamp"),
                               "must be a time such as 2026-01-31T08:00:00Z");
      }
      rewrite.created_s = *seconds;
    }
    const codec::JsonArray& rules = Parameter(object, "spec.rules")->get_array();
    for (size_t i = 0; i < rules.size(); ++i) {
      WP_TRY(routing::RewriteRule rule,
             ReadRule(Below(Below(Below(path, "spec"), "rules"), i), rules[i]));
      rewrite.rules.push_back(std::move(rule));
    }
    policies_.rewrites.push_back(std::move(rewrite));
    return {};
  }

  Result<routing::RewriteRule> ReadRule(const Path& path, const Json& rule) const {
    routing::RewriteRule out;
    const Json* matches = Parameter(rule, "matches");
    for (size_t i = 0; matches != nullptr && i < matches->get_array().size(); ++i) {
      std::string model = StringParameter(matches->get_array()[i], "model.value", "");
      if (model.empty()) {
        return document_.Wrong(Below(Below(Below(Below(path, "matches"), i), "model"), "value"),
                               "must not be empty");
      }
      out.models.push_back(std::move(model));
    }
    const Json* targets = Parameter(rule, "targets");
    const Path targets_path = Below(path, "targets");
    if (targets == nullptr) return out;
    if (targets->get_array().empty()) return document_.Wrong(targets_path, "must not be empty");
    size_t weighted = 0;
    for (size_t i = 0; i < targets->get_array().size(); ++i) {
      const Json& target = targets->get_array()[i];
      std::string model = StringParameter(target, "modelRewrite", "");
      if (model.empty()) {
        return document_.Wrong(Below(Below(targets_path, i), "modelRewrite"), "must not be empty");
      }
      if (Parameter(target, "weight") != nullptr) ++weighted;
      out.targets.push_back({std::move(model), static_cast<uint32_t>(scheduling::NumberParameter(
                                                   target, "weight", 1))});
    }
    if (weighted != 0 && weighted != out.targets.size())
      return document_.Wrong(targets_path, "weights: all targets of a rule have one, or none has");
    return out;
  }

  const Document& document_;
  routing::Policies& policies_;
  std::set<std::pair<std::string, std::string>>& seen_;  // kind and name
};

}  // namespace

Result<routing::Policies> LoadPolicyText(std::string_view text, std::string_view source_name) {
  auto documents = codec::ParseYamlStream(text, kLimits);
  if (!documents) return ParseFailure(source_name, documents.error());
  routing::Policies policies;
  std::set<std::pair<std::string, std::string>> seen;
  for (codec::YamlNode& root : *documents) {
    if (root.is_null()) continue;
    const Document document(source_name, std::move(root));
    WP_RETURN_IF_ERROR(Reader(document, policies, seen).ReadDocument());
  }
  return policies;
}

Result<routing::Policies> LoadPolicyFile(const std::string& path) {
  WP_TRY(const std::string text, ReadBoundedFile(path, kLimits.max_bytes));
  return LoadPolicyText(text, path);
}

}  // namespace warmpath::config
