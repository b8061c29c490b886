// The pool as the Kubernetes API describes it: its InferencePool (or a selector given by flags),
// its pods, its objectives and model rewrites, kept in step by one reflector a kind. What is known
// stays while the API is away; a kind that is absent or forbidden is left out, and said so, while
// the others go on.
//
// Loop-confined but for view().
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "base/metrics.h"
#include "k8s/api.h"
#include "k8s/objects.h"
#include "k8s/reflector.h"
#include "k8s/selector.h"

namespace warmpath::k8s {

struct PoolWatchOptions {
  std::string ns = "default";
  // Either a pool ...
  std::string pool_name;
  std::string pool_group = "inference.networking.k8s.io";  // or inference.networking.x-k8s.io
  // ... or pods chosen by flags; then no custom resource is asked for.
  std::string selector;
  std::vector<uint16_t> target_ports;
};

struct KindStatus {
  std::string kind;
  ReflectorStatus status;
};

// One consistent view; immutable.
struct PoolView {
  bool synced = false;  // the pool (if one is named) and its pods have been listed
  // The pool exists and is not being deleted; always true with a selector. False: no endpoints.
  bool pool_exists = false;
  std::string app_protocol = "http";
  std::vector<uint16_t> target_ports;
  std::vector<Pod> pods;  // that match the selector, by name; unready and terminating ones included
  std::vector<InferenceObjective> objectives;   // of this pool
  std::vector<InferenceModelRewrite> rewrites;  // of this pool
  std::vector<KindStatus> kinds;
};

class PoolWatch {
 public:
  // `changed`: after every change, on the loop; bursts are gathered for at most 20 ms, but a pod's
  // going is told at once. All outlive it.
  static Result<std::unique_ptr<PoolWatch>> Create(
      Api& api, Timers& timers, const Clock& clock, Registry& metrics, PoolWatchOptions options,
      std::function<void(std::shared_ptr<const PoolView>)> changed);
  virtual ~PoolWatch() = default;
  virtual void Start() = 0;
  virtual void Stop() = 0;
  virtual std::shared_ptr<const PoolView> view() const = 0;  // any thread; never null
};

}  // namespace warmpath::k8s
