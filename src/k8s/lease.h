// Leader election by a coordination.k8s.io/v1 Lease: at most one holder at a time, judged by our
// own clock (a holder is gone when its lease has not changed for its duration as we saw it).
//
// Loop-confined but for leading().
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "k8s/api.h"

namespace warmpath::k8s {

struct LeaderOptions {
  std::string ns, lease_name;
  std::string identity;  // "<pod>_<uuid>"
  Duration lease_duration = std::chrono::seconds(15);
  Duration renew_deadline = std::chrono::seconds(10);  // without a renewal: no longer leading
  Duration retry_period = std::chrono::seconds(2);
};

// "epp-<ns>-<pool>.llm-d.ai"
std::string LeaseName(const std::string& ns, const std::string& pool);
// "<pod>_<uuid>", another one at every call.
std::string LeaderIdentity(const std::string& pod);

class LeaderElector {
 public:
  // `changed`: on the loop, whenever leading() changes. All outlive it.
  static std::unique_ptr<LeaderElector> Create(Api& api, Timers& timers, const Clock& clock,
                                               Registry& metrics, LeaderOptions options,
                                               std::function<void(bool leading)> changed);
  virtual ~LeaderElector() = default;
  virtual void Start() = 0;
  // No longer leading at once; gives the lease back if it is ours (holderIdentity "", duration 1),
  // then calls `done`: maybe from inside, at the latest after two seconds. The elector takes no
  // further part.
  virtual void Release(std::function<void()> done) = 0;
  // Any thread. False from the deadline on, even when the loop is late to notice.
  virtual bool leading() const = 0;
  virtual std::string holder() const = 0;  // as last seen; "" = nobody
};

}  // namespace warmpath::k8s
