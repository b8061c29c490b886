#include "app/cluster.h"

#include <fmt/format.h>

#include <utility>

#include <unistd.h>

#include "app/cluster_access.h"
#include "base/log.h"
#include "k8s/access_review.h"
#include "k8s/api.h"
#include "k8s/cluster.h"
#include "k8s/lease.h"
#include "routing/cluster_policies.h"

namespace warmpath::app {
namespace {

std::string PodName(const std::string& given) {
  if (!given.empty()) return given;
  char host[256] = {};
  return gethostname(host, sizeof(host) - 1) == 0 ? host : "epp";
}

class ClusterImpl final : public Cluster {
 public:
  ClusterImpl(const ClusterOptions& options, Deps deps) : options_(options), deps_(deps) {}

  Status Open() {
    WP_TRY(const k8s::ClusterConfig config,
           k8s::FindCluster(options_.kubeconfig, k8s::ProcessSurroundings()));
    WP_LOG(kInfo, "kubernetes", "endpoints come from the Kubernetes API",
           {"server", config.server.ToString()}, {"credentials", config.source},
           {"namespace", options_.pool.ns},
           {"pool",
            options_.pool.pool_name.empty() ? options_.pool.selector : options_.pool.pool_name});
    WP_TRY(api_, k8s::MakeApi(deps_.control, config, deps_.metrics, deps_.clock));
    timers_ = k8s::MakeTimers(deps_.control);
    WP_TRY(watch_, k8s::PoolWatch::Create(
                       *api_, *timers_, deps_.clock, deps_.metrics, options_.pool,
                       [this](std::shared_ptr<const k8s::PoolView> view) { Apply(*view); }));
    if (options_.elect_leader) {
      elector_ = k8s::LeaderElector::Create(
          *api_, *timers_, deps_.clock, deps_.metrics,
          {options_.pool.ns, k8s::LeaseName(options_.pool.ns, options_.lease_pool),
           k8s::LeaderIdentity(PodName(options_.pod_name))},
          [](bool) {});
    }
    if (options_.review_metrics_access) {
      reviewer_ = k8s::AccessReviewer::Create(*api_, deps_.clock, deps_.metrics);
    }
    return {};
  }

  void Start() override {
    watch_->Start();
    if (elector_ != nullptr) elector_->Start();
  }

  void Stop(std::function<void()> done) override {
    watch_->Stop();
    if (elector_ == nullptr) return done();
    elector_->Release(std::move(done));
  }

  bool synced(std::string* why_not) const override {
    const auto view = watch_->view();
    if (view->synced && view->pool_exists) return true;
    if (why_not != nullptr) *why_not = WhyNot(*view);
    return false;
  }
  bool elects() const override { return elector_ != nullptr; }
  bool leading() const override { return elector_ != nullptr && elector_->leading(); }

  admin::AdminAuthorize authorize() override {
    return reviewer_ == nullptr ? nullptr : MakeAuthorize(deps_.control, reviewer_);
  }

 private:
  void Apply(const k8s::PoolView& view) {
    if (!view.synced) return;
    deps_.fleet.SetEndpoints(fleet::EndpointsOfPods(view, options_.pods));
    if (options_.policies) {
      deps_.director.SetPolicies(
          std::make_shared<const routing::Policies>(routing::PoliciesOfCluster(view)));
    }
  }

  std::string WhyNot(const k8s::PoolView& view) const {
    if (view.synced) {
      return fmt::format("InferencePool {}/{} does not exist", options_.pool.ns,
                         options_.pool.pool_name);
    }
    for (const k8s::KindStatus& kind : view.kinds) {
      if (!kind.status.listed && !kind.status.error.empty()) {
        return fmt::format("{} not known yet: {}", kind.kind, kind.status.error);
      }
    }
    return "the pool is not known yet";
  }

  const ClusterOptions options_;
  const Deps deps_;
  std::unique_ptr<k8s::Api> api_;
  std::unique_ptr<k8s::Timers> timers_;
  std::unique_ptr<k8s::PoolWatch> watch_;
  std::unique_ptr<k8s::LeaderElector> elector_;    // null: no election
  std::shared_ptr<k8s::AccessReviewer> reviewer_;  // null: everybody may read
};

}  // namespace

Result<std::unique_ptr<Cluster>> Cluster::Create(const ClusterOptions& options, Deps deps) {
  auto cluster = std::make_unique<ClusterImpl>(options, deps);
  WP_RETURN_IF_ERROR(cluster->Open());
  return cluster;
}

}  // namespace warmpath::app
