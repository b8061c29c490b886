#include "app/cluster_access.h"

#include <utility>

namespace warmpath::app {
namespace {

admin::AdminAccess ToAdmin(k8s::Access access) {
  switch (access) {
    case k8s::Access::kAllowed:
      return admin::AdminAccess::kAllowed;
    case k8s::Access::kUnauthenticated:
      return admin::AdminAccess::kUnauthenticated;
    case k8s::Access::kForbidden:
      return admin::AdminAccess::kForbidden;
    case k8s::Access::kUnavailable:
      break;
  }
  return admin::AdminAccess::kUnavailable;
}

}  // namespace

admin::AdminAuthorize MakeAuthorize(net::Loop& control,
                                    std::weak_ptr<k8s::AccessReviewer> reviewer) {
  return [&control, reviewer = std::move(reviewer)](
             std::string token, const std::string&, const std::string&,
             std::function<void(admin::AdminAccess)> answer) {
    control.Post([reviewer, token = std::move(token), answer = std::move(answer)]() mutable {
      const auto alive = reviewer.lock();
      if (!alive) return answer(admin::AdminAccess::kUnavailable);
      alive->Check(std::move(token), "get", "/metrics",
                   [answer = std::move(answer)](k8s::Access access) { answer(ToAdmin(access)); });
    });
  };
}

}  // namespace warmpath::app
