// May the bearer of this token read this path? TokenReview, then SubjectAccessReview for the
// non-resource URL, as the Kubernetes API server decides it.
//
// Loop-confined. Decisions are kept for a minute (refusals for ten seconds), at most 1,000 of each
// kind, by the token's digest (tokens themselves are not kept), so that a scraper does not cost two
// API calls a scrape. At most 64 calls are under way at once, and 100 begin in a second; what comes
// on top is unavailable.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"
#include "k8s/api.h"

namespace warmpath::k8s {

enum class Access {
  kAllowed,
  kUnauthenticated,  // no token, or one the server does not know: 401
  kForbidden,        // known, and not allowed: 403
  kUnavailable,      // the server did not say: 503
};

class AccessReviewer {
 public:
  // All outlive it.
  static std::unique_ptr<AccessReviewer> Create(Api& api, const Clock& clock, Registry& metrics);
  // Whoever still waits is not called any more.
  virtual ~AccessReviewer() = default;
  // `verb`: "get", "post". `done` exactly once, on the loop; maybe from inside Check.
  virtual void Check(std::string token, std::string verb, std::string path,
                     std::function<void(Access)> done) = 0;
};

}  // namespace warmpath::k8s
