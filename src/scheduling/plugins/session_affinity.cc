#include "scheduling/plugins/session_affinity.h"

#include <fmt/format.h>

#include "base/units.h"
#include "scheduling/plugins/plugins.h"
#include "scheduling/plugins/request_text.h"

namespace warmpath::scheduling {
namespace {

// Names of the request attribute that session-id-producer publishes.
bool IsSessionIdAttribute(std::string_view attribute) {
  return EqualsIgnoreCase(attribute, "SessionID") || attribute == "session-id";
}

std::string Base64(std::string_view bytes) {
  constexpr std::string_view kDigits =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string text;
  for (size_t i = 0; i < bytes.size(); i += 3) {
    uint32_t group = 0;
    for (size_t j = 0; j < 3; ++j) {
      group = group << 8 | (i + j < bytes.size() ? static_cast<uint8_t>(bytes[i + j]) : 0u);
    }
    for (size_t j = 0; j < 4; ++j) {
      text += i + j <= bytes.size() ? kDigits[group >> (18 - 6 * j) & 63] : '=';
    }
  }
  return text;
}

Duration Seconds(const codec::Json& parameters, const char* path, double fallback) {
  return FromSeconds(std::min(NumberParameter(parameters, path, fallback), 1e8));
}

// What `attribute` sources refer to, by plugin name.
std::vector<std::string> AttributeReferences(const codec::Json& parameters) {
  std::vector<std::string> names;
  if (StringParameter(parameters, "strategy", "") != "session_id") return names;
  const codec::Json* sources = Parameter(parameters, "sessionIdConfig.sources");
  for (size_t i = 0; sources != nullptr && i < sources->get_array().size(); ++i) {
    const std::string attribute = StringParameter(sources->get_array()[i], "attribute", "");
    if (attribute.empty()) continue;
    names.push_back(IsSessionIdAttribute(attribute) ? "session-id-producer" : attribute);
  }
  return names;
}

class SessionAffinityScorer final : public Scorer {
 public:
  explicit SessionAffinityScorer(std::unique_ptr<SessionAffinity> affinity)
      : affinity_(std::move(affinity)) {}
  void Score(const Request& request, std::span<const size_t> candidates, std::span<double> scores,
             std::vector<std::string>&) const override {
    if (const auto pinned = affinity_->PinnedOf(request, candidates)) scores[*pinned] = 1;
  }
  void Picked(const Request& request, const Candidate& picked, PickEffects& effects) override {
    affinity_->Picked(request, picked, effects);
  }

 private:
  const std::unique_ptr<SessionAffinity> affinity_;
};

class SessionAffinityFilter final : public Filter {
 public:
  explicit SessionAffinityFilter(std::unique_ptr<SessionAffinity> affinity)
      : affinity_(std::move(affinity)) {}
  void Narrow(const Request& request, std::vector<size_t>& candidates, uint64_t) const override {
    if (const auto pinned = affinity_->PinnedOf(request, candidates)) {
      candidates = {candidates[*pinned]};
    }
  }
  void Picked(const Request& request, const Candidate& picked, PickEffects& effects) override {
    affinity_->Picked(request, picked, effects);
  }

 private:
  const std::unique_ptr<SessionAffinity> affinity_;
};

template <typename T>
PluginType AffinityType(std::string name, Role role) {
  PluginType type{std::move(name), role, {}, {}, {}};
  type.parameters = {
      String("strategy", {"", "encoded_endpoint_header", "session_id"}), String("profileName"),
      Object("encodedEndpointHeaderConfig", {String("header")}),
      Object("sessionIdConfig",
             {List("sources", Object("", {String("header"), String("attribute")})),
              Number("evictionTtlSeconds", 1e-3), Number("evictionSweepSeconds", 1e-3)})};
  type.references = AttributeReferences;
  type.experimental = true;
  type.note = "profileName has no effect: one profile decides";
  type.create = [](const PluginContext& context) -> Result<std::unique_ptr<Plugin>> {
    WP_TRY(auto affinity, SessionAffinity::Create(context));
    return std::make_unique<T>(std::move(affinity));
  };
  return type;
}

}  // namespace

SessionAffinity::SessionAffinity(const PluginContext& context)
    : clock_(context.clock),
      by_id_(StringParameter(context.parameters, "strategy", "") == "session_id"),
      header_(StringParameter(context.parameters, "encodedEndpointHeaderConfig.header",
                              "x-session-token")),
      ttl_(Seconds(context.parameters, "sessionIdConfig.evictionTtlSeconds", 300)),
      sweep_(Seconds(context.parameters, "sessionIdConfig.evictionSweepSeconds", 10)) {}

Result<SessionAffinity::Source> SessionAffinity::SourceOf(const PluginContext& context,
                                                          const codec::Json& source) const {
  const std::string header = StringParameter(source, "header", "");
  const std::string attribute = StringParameter(source, "attribute", "");
  if (header.empty() == attribute.empty()) {
    return Fail(Code::kInvalidArgument,
                "sessionIdConfig.sources: each needs either a header or an attribute");
  }
  if (!header.empty()) return Source{header, nullptr};
  Plugin* plugin =
      context.find(IsSessionIdAttribute(attribute) ? "session-id-producer" : attribute);
  const auto* identity = dynamic_cast<SessionIdentity*>(plugin);
  if (identity == nullptr) {
    return Fail(Code::kInvalidArgument,
                fmt::format("sessionIdConfig.sources: '{}' publishes no session id", attribute));
  }
  return Source{"", identity};
}

Result<std::unique_ptr<SessionAffinity>> SessionAffinity::Create(const PluginContext& context) {
  std::unique_ptr<SessionAffinity> affinity(new SessionAffinity(context));
  const codec::Json* sources = Parameter(context.parameters, "sessionIdConfig.sources");
  if (affinity->by_id_ && sources != nullptr) {
    for (const auto& source : sources->get_array()) {
      WP_TRY(Source parsed, affinity->SourceOf(context, source));
      affinity->sources_.push_back(std::move(parsed));
    }
  }
  if (affinity->sources_.empty()) affinity->sources_.push_back({"x-session-id", nullptr});
  return affinity;
}

std::string SessionAffinity::SessionOf(const Request& request) const {
  for (const Source& source : sources_) {
    std::string id = source.identity != nullptr ? source.identity->SessionOf(request)
                                                : std::string(HeaderOf(request, source.header));
    if (!id.empty() && id.size() <= kMaxSessionId) return id;
  }
  return "";
}

std::optional<size_t> SessionAffinity::PinnedOf(const Request& request,
                                                std::span<const size_t> candidates) const {
  if (!by_id_) {
    const std::string_view token = HeaderOf(request, header_);
    if (token.empty()) return std::nullopt;
    for (size_t i = 0; i < candidates.size(); ++i) {
      if (Base64(NamespacedNameOf(*request.candidates[candidates[i]].endpoint)) == token) return i;
    }
    return std::nullopt;
  }
  const std::string id = SessionOf(request);
  if (id.empty()) return std::nullopt;
  fleet::EndpointId endpoint = 0;
  {
    const TimePoint now = clock_.Now();
    MutexLock lock(mutex_);
    const auto it = by_id_map_.find(id);
    if (it == by_id_map_.end() || now - it->second->used > ttl_) return std::nullopt;
    endpoint = it->second->endpoint;
  }
  for (size_t i = 0; i < candidates.size(); ++i) {
    if (request.candidates[candidates[i]].endpoint->id == endpoint) return i;
  }
  return std::nullopt;
}

void SessionAffinity::Picked(const Request& request, const Candidate& picked,
                             PickEffects& effects) {
  if (!by_id_) {
    for (const auto& [name, value] : effects.response_headers) {
      if (name == header_) return;  // a filter and a scorer may share the header
    }
    effects.response_headers.emplace_back(header_, Base64(NamespacedNameOf(*picked.endpoint)));
    return;
  }
  const std::string id = SessionOf(request);
  if (id.empty()) return;
  const TimePoint now = clock_.Now();
  MutexLock lock(mutex_);
  if (const auto it = by_id_map_.find(id); it != by_id_map_.end()) {
    by_use_.splice(by_use_.begin(), by_use_, it->second);
  } else {
    by_use_.push_front({id, 0, {}});
    by_id_map_[id] = by_use_.begin();
  }
  by_use_.front().endpoint = picked.endpoint->id;
  by_use_.front().used = now;
  const bool sweep = now - swept_ >= sweep_;
  if (sweep) swept_ = now;
  while (by_use_.size() > kMaxSessions || (sweep && now - by_use_.back().used > ttl_)) {
    by_id_map_.erase(by_use_.back().id);
    by_use_.pop_back();
  }
}

size_t SessionAffinity::sessions() const {
  MutexLock lock(mutex_);
  return by_use_.size();
}

std::vector<PluginType> SessionAffinityTypes() {
  return {AffinityType<SessionAffinityScorer>("session-affinity-scorer", Role::kScorer),
          AffinityType<SessionAffinityFilter>("session-affinity-filter", Role::kFilter)};
}

}  // namespace warmpath::scheduling
