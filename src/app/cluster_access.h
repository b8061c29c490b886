// Who may read the metrics port, asked of the cluster: joins the admin server's loop with the
// control loop, where the access reviewer lives.
#pragma once

#include <memory>

#include "admin/admin_server.h"
#include "k8s/access_review.h"
#include "net/loop.h"

namespace warmpath::app {

// One permission opens the whole port: get of /metrics, what a scraper has anyway. The paths
// themselves cannot be asked about: Kubernetes lets every account get /api/*, its own API.
//
// May be called on any thread while `control` exists. `reviewer` is used on `control` only; once it
// is gone the answer is kUnavailable. Where `control` has stopped there is no answer: the admin
// server's own deadline gives it.
admin::AdminAuthorize MakeAuthorize(net::Loop& control,
                                    std::weak_ptr<k8s::AccessReviewer> reviewer);

}  // namespace warmpath::app
