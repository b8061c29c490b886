// Objects of the Kubernetes API, and label selectors. An error of one line, or values within their
// bounds that make endpoints; a selector that was understood reads the same when printed.
#include <cstdint>
#include <memory>
#include <string_view>

#include "base/check.h"
#include "fleet/pods.h"
#include "k8s/objects.h"
#include "k8s/pool_watch.h"
#include "k8s/selector.h"

using namespace warmpath;

namespace {

template <typename T>
bool Check(const Result<T>& read) {
  if (!read) WP_CHECK(read.error().message.find('\n') == std::string::npos);
  return read.has_value();
}

void CheckSelector(std::string_view text, const std::map<std::string, std::string>& labels) {
  const auto selector = k8s::LabelSelector::Parse(text);
  if (!Check(selector)) return;
  const auto again = k8s::LabelSelector::Parse(selector->ToString());
  WP_CHECK(again.has_value() && again->ToString() == selector->ToString());
  WP_CHECK(selector->Matches(labels) == again->Matches(labels));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  CheckSelector(text, {{"app", "vllm"}});
  const auto json = codec::ParseJson(text);
  if (!json) return 0;
  const auto pool = k8s::ReadInferencePool(*json);
  if (Check(pool)) WP_CHECK(!pool->target_ports.empty() && pool->target_ports.size() <= 8);
  const auto objective = k8s::ReadInferenceObjective(*json);
  if (Check(objective)) WP_CHECK(!objective->pool.name.empty());
  const auto rewrite = k8s::ReadInferenceModelRewrite(*json);
  if (Check(rewrite)) {
    for (const auto& rule : rewrite->rules) {
      for (const auto& target : rule.targets)
        WP_CHECK(!target.model.empty() && target.weight >= 1 && target.weight <= 1'000'000);
    }
  }
  const auto pod = k8s::ReadPod(*json);
  if (!Check(pod)) return 0;
  WP_CHECK(!pod->meta.name.empty());
  CheckSelector("app in (vllm,sglang)", pod->meta.labels);
  k8s::PoolView view;
  view.pool_exists = true;
  view.target_ports = {8000, 8001};
  view.pods = {std::make_shared<const k8s::Pod>(*pod)};
  for (const auto& spec : fleet::EndpointsOfPods(view, {})) {
    WP_CHECK(pod->serving() && !spec.name.empty() && !spec.url.address.host.empty());
  }
  return 0;
}
