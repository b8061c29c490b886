// The few fields this router needs of the objects it watches, read from their JSON. Plain data,
// pure functions.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "codec/json.h"

namespace warmpath::k8s {

struct Meta {
  std::string name, ns, uid, resource_version;
  int64_t created_s = 0;  // creationTimestamp, seconds since 1970
  bool deleting = false;  // deletionTimestamp is set
  std::map<std::string, std::string> labels;
  // Those of llm-d.ai and inference.networking.k8s.io only: others may be large.
  std::map<std::string, std::string> annotations;
  friend bool operator==(const Meta&, const Meta&) = default;
};
// Errors: no object, or no usable name.
Result<Meta> ReadMeta(const codec::Json& object);

struct Pod {
  Meta meta;
  std::string ip;         // "" while it has none
  bool ready = false;     // condition Ready is True
  uint32_t restarts = 0;  // of its containers, sidecars (init containers) not counted
  // Takes part in serving: Ready, with an address, not being deleted.
  bool serving() const { return ready && !ip.empty() && !meta.deleting; }
  friend bool operator==(const Pod&, const Pod&) = default;
};
// What a pod's status lacks (it is new, or its node never spoke) is left empty.
Result<Pod> ReadPod(const codec::Json& object);

struct InferencePool {
  Meta meta;
  std::map<std::string, std::string> match_labels;
  std::vector<uint16_t> target_ports;  // 1 to 8, as listed
  std::string app_protocol = "http";   // or "kubernetes.io/h2c"
  friend bool operator==(const InferencePool&, const InferencePool&) = default;
};
// Errors name the field. Of inference.networking.k8s.io/v1 and of
// inference.networking.x-k8s.io/v1alpha2, told apart by their fields.
Result<InferencePool> ReadInferencePool(const codec::Json& object);

// spec.poolRef, with the API's defaults filled in.
struct PoolRef {
  std::string name;
  std::string group = "inference.networking.k8s.io";
  std::string kind = "InferencePool";
  friend bool operator==(const PoolRef&, const PoolRef&) = default;
};

struct InferenceObjective {
  Meta meta;
  PoolRef pool;
  int32_t priority = 0;
  friend bool operator==(const InferenceObjective&, const InferenceObjective&) = default;
};
Result<InferenceObjective> ReadInferenceObjective(const codec::Json& object);

struct InferenceModelRewrite {
  struct Target {
    std::string model;
    uint32_t weight = 1;
    friend bool operator==(const Target&, const Target&) = default;
  };
  struct Rule {
    std::vector<std::string> models;  // exact; empty: every model
    std::vector<Target> targets;      // empty: the model stays
    friend bool operator==(const Rule&, const Rule&) = default;
  };
  Meta meta;
  PoolRef pool;
  std::vector<Rule> rules;
  friend bool operator==(const InferenceModelRewrite&, const InferenceModelRewrite&) = default;
};
Result<InferenceModelRewrite> ReadInferenceModelRewrite(const codec::Json& object);

}  // namespace warmpath::k8s
