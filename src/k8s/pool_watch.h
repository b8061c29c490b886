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
  // Or inference.networking.x-k8s.io. Where the API server lacks the first, denies it or has no
  // such pool in it, the second is looked into as well.
  std::string pool_group = "inference.networking.k8s.io";
  // ... or pods chosen by flags; then no custom resource is asked for.
  std::string selector;
  std::vector<uint16_t> target_ports;
};

struct KindStatus {
  std::string kind;
  ReflectorStatus status;
};

// One consistent view; immutable. An object that did not change is the same one in every view.
struct PoolView {
  bool synced = false;  // the pool (if one is named) and its pods have been listed
  // The pool exists and is not being deleted; always true with a selector. False: no endpoints.
  bool pool_exists = false;
  std::string app_protocol = "http";
  std::vector<uint16_t> target_ports;
  std::string pool_version;  // group/version of the pool that is used; "" without one
  // That match the selector, by name; unready and terminating ones included.
  std::vector<std::shared_ptr<const Pod>> pods;
  // Of this pool, by name; where both API groups have a name, llm-d.ai's.
  std::vector<std::shared_ptr<const InferenceObjective>> objectives;
  std::vector<std::shared_ptr<const InferenceModelRewrite>> rewrites;
  std::vector<KindStatus> kinds;  // as of this view
};

class PoolWatch {
 public:
  // `changed`: after every change, on the loop; bursts are gathered for at most 20 ms, but the
  // going of a pod or of the pool is told at once, or within 5 ms of the one before. All outlive
  // it. Errors name the option.
  static Result<std::unique_ptr<PoolWatch>> Create(
      Api& api, Timers& timers, const Clock& clock, Registry& metrics, PoolWatchOptions options,
      std::function<void(std::shared_ptr<const PoolView>)> changed);
  virtual ~PoolWatch() = default;
  virtual void Start() = 0;
  virtual void Stop() = 0;
  virtual std::shared_ptr<const PoolView> view() const = 0;  // any thread; never null
};

}  // namespace warmpath::k8s
