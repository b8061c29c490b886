// Keeps one kind of object in step with the API server: LIST, then WATCH from there, for ever.
// Rules: spec of list/watch in the Kubernetes API concepts (resourceVersion, bookmarks, 410 Gone).
//
// A transport-free state machine: everything it does goes through Api and Timers. Loop-confined.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "codec/json.h"
#include "k8s/api.h"

namespace warmpath::k8s {

struct Resource {
  std::string kind;  // "pods": for logs, errors and the label of metrics
  std::string path;  // "/api/v1/namespaces/ns/pods"
  std::string label_selector, field_selector;
};

enum class KindState {
  kListing,       // nothing known yet
  kSynced,        // listed, and the watch runs
  kDisconnected,  // listed once; the server is not to be had, what is known stays
  kForbidden,     // 403: asked again slowly
  kAbsent,        // 404: the server does not have this kind; asked again slowly
};
std::string_view KindStateName(KindState state);

struct ReflectorStatus {
  KindState state = KindState::kListing;
  bool listed = false;       // the sink holds a whole list
  TimePoint last_contact{};  // a list, a watch's start, an event or a bookmark; zero = never
  std::string error;         // the newest, for people; "" = none since the last success
  uint64_t lists = 0, events = 0, failures = 0;
};

// Where objects go. Every list is bracketed: what is not upserted between ListBegin and ListEnd is
// gone. A list that fails half-way is not ended; the next ListBegin starts afresh, and what the
// sink knew stays until a list ends.
class ObjectSink {
 public:
  virtual ~ObjectSink() = default;
  virtual void ListBegin() = 0;
  virtual void Upsert(const codec::Json& object) = 0;
  virtual void Delete(const codec::Json& object) = 0;  // its last state
  virtual void ListEnd() = 0;
  // When the state or the reason for it (`error`) changes.
  virtual void StatusChanged(const ReflectorStatus& status) = 0;
};

class Reflector {
 public:
  // All outlive it. `seed`: of the jitter. The sink may call Stop; it does not destroy the
  // reflector.
  static std::unique_ptr<Reflector> Create(Api& api, Timers& timers, const Clock& clock,
                                           Registry& metrics, Resource resource, ObjectSink& sink,
                                           uint64_t seed);
  virtual ~Reflector() = default;  // stops
  virtual void Start() = 0;
  virtual void Stop() = 0;  // the sink keeps what it has
  virtual const ReflectorStatus& status() const = 0;
};

}  // namespace warmpath::k8s
