// Which endpoint a client's session is pinned to. Behind session-affinity-scorer and
// session-affinity-filter.
//
//   encoded_endpoint_header  the client carries base64("namespace/name") of its endpoint, as the
//                            last answer gave it; nothing is kept here
//   session_id               the client names its session; the endpoint is kept here, until
//                            evictionTtlSeconds without a request
//
// A pin only ever chooses among the candidates of a request, so that a forged one gains nothing.
// Thread-safe.
#pragma once

#include <list>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/clock.h"
#include "base/mutex.h"
#include "base/result.h"
#include "scheduling/plugin.h"
#include "scheduling/plugins/session.h"

namespace warmpath::scheduling {

class SessionAffinity {
 public:
  // Sessions remembered; beyond it the one unused longest is forgotten.
  static constexpr size_t kMaxSessions = 100'000;

  static Result<std::unique_ptr<SessionAffinity>> Create(const PluginContext& context);

  // Position in `candidates` of the pinned one.
  std::optional<size_t> PinnedOf(const Request& request, std::span<const size_t> candidates) const;
  void Picked(const Request& request, const Candidate& picked, PickEffects& effects);
  size_t sessions() const;

 private:
  struct Source {
    std::string header;                         // or
    const SessionIdentity* identity = nullptr;  // of a plugin that lives as long as this one
  };
  struct Session {
    std::string id;
    fleet::EndpointId endpoint = 0;
    TimePoint used{};
  };

  explicit SessionAffinity(const PluginContext& context);
  Result<Source> SourceOf(const PluginContext& context, const codec::Json& source) const;
  std::string SessionOf(const Request& request) const;

  const Clock& clock_;
  const bool by_id_;
  const std::string header_;  // of encoded_endpoint_header
  const Duration ttl_;
  const Duration sweep_;
  std::vector<Source> sources_;
  mutable Mutex mutex_;
  std::list<Session> by_use_ GUARDED_BY(mutex_);  // newest first
  std::unordered_map<std::string, std::list<Session>::iterator> by_id_map_ GUARDED_BY(mutex_);
  TimePoint swept_ GUARDED_BY(mutex_){};
};

}  // namespace warmpath::scheduling
