// What a router does with a Kubernetes API: its endpoints and policies come from the pool's
// objects, its turn from a Lease, and who may read its metrics port from access reviews.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "admin/admin_server.h"
#include "base/clock.h"
#include "base/metrics.h"
#include "base/result.h"
#include "fleet/fleet.h"
#include "fleet/pods.h"
#include "k8s/pool_watch.h"
#include "net/loop.h"
#include "routing/director.h"

namespace warmpath::app {

struct ClusterOptions {
  std::string kubeconfig;      // "" = KUBECONFIG, the pod's service account, ~/.kube/config
  k8s::PoolWatchOptions pool;  // what to watch
  fleet::PodDefaults pods;
  bool policies = true;  // objectives and rewrites from the API as well
  bool elect_leader = false;
  std::string lease_pool;  // the pool's part of the Lease's name
  std::string pod_name;    // of this process, for the Lease's holder; "" = the host's name
  bool review_metrics_access = false;
};

// Made before `control` starts. Start, Stop and Release on its thread; the rest on any.
class Cluster {
 public:
  struct Deps {
    net::Loop& control;
    fleet::Fleet& fleet;
    routing::Director& director;
    Registry& metrics;
    const Clock& clock;
  };
  // Reads kubeconfig and credentials, asks nothing. Errors name the file or the flag.
  static Result<std::unique_ptr<Cluster>> Create(const ClusterOptions& options, Deps deps);
  virtual ~Cluster() = default;

  virtual void Start() = 0;
  // The watches end and the endpoints stay; the lease is given back within two seconds.
  virtual void Stop(std::function<void()> done) = 0;

  // The pool (if one is named) exists and its pods are known, however few. `why_not` is for people.
  virtual bool synced(std::string* why_not) const = 0;
  virtual bool elects() const = 0;
  virtual bool leading() const = 0;
  // Null unless asked for; valid while the cluster lives and the control loop runs.
  virtual admin::AdminAuthorize authorize() = 0;
};

}  // namespace warmpath::app
