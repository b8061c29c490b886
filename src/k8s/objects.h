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
  std::map<std::string, std::string> labels, annotations;
};
Result<Meta> ReadMeta(const codec::Json& object);

struct Pod {
  Meta meta;
  std::string ip;  // "" while it has none
  std::string host_ip;
  bool ready = false;     // condition Ready is True
  uint32_t restarts = 0;  // of its containers, sidecars (init containers) not counted
};
Result<Pod> ReadPod(const codec::Json& object);

struct InferencePool {
  Meta meta;
  std::map<std::string, std::string> match_labels;
  std::vector<uint16_t> target_ports;  // 1 to 8, as listed
  std::string app_protocol = "http";   // or "kubernetes.io/h2c"
};
// Of inference.networking.k8s.io/v1 and of inference.networking.x-k8s.io/v1alpha2, told apart by
// their fields.
Result<InferencePool> ReadInferencePool(const codec::Json& object);

struct InferenceObjective {
  Meta meta;
  std::string pool;  // poolRef.name
  int32_t priority = 0;
};
Result<InferenceObjective> ReadInferenceObjective(const codec::Json& object);

struct InferenceModelRewrite {
  struct Target {
    std::string model;
    uint32_t weight = 1;
  };
  struct Rule {
    std::vector<std::string> models;  // exact; empty: every model
    std::vector<Target> targets;
  };
  Meta meta;
  std::string pool;
  std::vector<Rule> rules;
};
Result<InferenceModelRewrite> ReadInferenceModelRewrite(const codec::Json& object);

}  // namespace warmpath::k8s
