// Internal to k8s: what is counted about the Kubernetes API.
#pragma once

#include <memory>
#include <string>

#include "base/clock.h"
#include "base/metrics.h"

namespace warmpath::k8s {

// Of the client: answers by class of their status ("2xx", ..., "error": none came).
class RequestMetrics {
 public:
  explicit RequestMetrics(Registry& registry);
  void Count(int status) const;  // 0: no answer

 private:
  Counter classes_[6];
};

// Of one reflector. The age of the newest contact is computed when it is rendered. Loop-confined
// but for the rendering.
class KindMetrics {
 public:
  KindMetrics(Registry& registry, const Clock& clock, const std::string& kind);
  ~KindMetrics();
  KindMetrics(const KindMetrics&) = delete;
  KindMetrics& operator=(const KindMetrics&) = delete;
  void Contact(TimePoint now) const;

  const Counter lists, restarts, events, failures;

 private:
  struct Age;
  const std::shared_ptr<Age> age_;
};

}  // namespace warmpath::k8s
