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
             std::string token, std::string verb, std::string path,
             std::function<void(admin::AdminAccess)> answer) {
    control.Post([reviewer, token = std::move(token), verb = std::move(verb),
                  path = std::move(path), answer = std::move(answer)]() mutable {
      const auto alive = reviewer.lock();
      if (!alive) return answer(admin::AdminAccess::kUnavailable);
      alive->Check(std::move(token), std::move(verb), std::move(path),
                   [answer = std::move(answer)](k8s::Access access) { answer(ToAdmin(access)); });
    });
  };
}

}  // namespace warmpath::app
