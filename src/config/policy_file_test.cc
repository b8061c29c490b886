#include "config/policy_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

namespace warmpath::config {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

routing::Policies Load(const std::string& text) {
  auto policies = LoadPolicyText(text, "p.yaml");
  EXPECT_TRUE(policies) << policies.error().message;
  return policies ? std::move(*policies) : routing::Policies();
}
std::string ErrorOf(const std::string& text) {
  const auto policies = LoadPolicyText(text, "p.yaml");
  if (policies) return "loaded";
  EXPECT_EQ(policies.error().message.find('\n'), std::string::npos);
  EXPECT_EQ(policies.error().code, Code::kInvalidArgument);
  return policies.error().message;
}

std::string Objective(const std::string& name, const std::string& spec) {
  return "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceObjective\nmetadata: {name: " + name +
         "}\nspec: " + spec + "\n";
}
std::string Rewrite(const std::string& spec, const std::string& metadata = "{name: r}") {
  return "apiVersion: llm-d.ai/v1alpha2\nkind: InferenceModelRewrite\nmetadata: " + metadata +
         "\nspec: " + spec + "\n";
}

TEST(PolicyFile, ReadsObjectivesOfBothGroupsFromSeveralDocuments) {
  const auto policies = Load(Objective("high", "{poolRef: {name: pool}, priority: 10}") + "---\n" +
                             "apiVersion: inference.networking.x-k8s.io/v1alpha2\n"
                             "kind: InferenceObjective\nmetadata: {name: batch}\n"
                             "spec: {priority: -5}\n---\n" +
                             Objective("plain", "{poolRef: {name: pool}}") + "---\n");
  EXPECT_THAT(policies.priorities,
              ElementsAre(Pair("batch", -5), Pair("high", 10), Pair("plain", 0)));
  EXPECT_THAT(policies.rewrites, IsEmpty());
}

TEST(PolicyFile, ReadsRewrites) {
  const auto policies = Load(R"(apiVersion: llm-d.ai/v1alpha2
kind: InferenceModelRewrite
metadata:
  name: canary
  creationTimestamp: 2026-03-01T12:00:00Z
spec:
  poolRef: {group: inference.networking.k8s.io, kind: InferencePool, name: pool}
  rules:
  - matches:
    - model: {type: Exact, value: chat}
    - model: {value: chat-latest}
    targets:
    - {modelRewrite: v1, weight: 90}
    - {modelRewrite: v2, weight: 10}
  - targets:
    - modelRewrite: base
  - matches:
    - model: {value: as-is}
)");
  ASSERT_EQ(policies.rewrites.size(), 1u);
  const routing::ModelRewrite& rewrite = policies.rewrites[0];
  EXPECT_EQ(rewrite.name, "canary");
  EXPECT_EQ(rewrite.created_s, 1772366400);
  ASSERT_EQ(rewrite.rules.size(), 3u);
  EXPECT_THAT(rewrite.rules[0].models, ElementsAre("chat", "chat-latest"));
  EXPECT_EQ(rewrite.rules[0].targets[0].model, "v1");
  EXPECT_EQ(rewrite.rules[0].targets[0].weight, 90u);
  EXPECT_EQ(rewrite.rules[0].targets[1].weight, 10u);
  EXPECT_THAT(rewrite.rules[1].models, IsEmpty());
  EXPECT_EQ(rewrite.rules[1].targets[0].weight, 1u);
  EXPECT_THAT(rewrite.rules[2].targets, IsEmpty());
}

TEST(PolicyFile, ReadsWhatTheKubernetesApiPrints) {
  const auto policies = Load(R"(apiVersion: v1
kind: List
metadata: {resourceVersion: ""}
items:
- apiVersion: llm-d.ai/v1alpha2
  kind: InferenceObjective
  metadata:
    name: high
    namespace: prod
    uid: 0f0f
    resourceVersion: "12"
    generation: 1
    creationTimestamp: "2026-03-01T12:00:00Z"
    annotations: {a: b}
    managedFields: [{manager: kubectl}]
  spec: {poolRef: {name: pool}, priority: 7}
  status: {conditions: []}
)");
  EXPECT_THAT(policies.priorities, ElementsAre(Pair("high", 7)));
  EXPECT_THAT(Load("").priorities, IsEmpty());
  EXPECT_THAT(
      Load("kind: InferenceObjectiveList\napiVersion: llm-d.ai/v1alpha2\nitems: []\n").priorities,
      IsEmpty());
}

TEST(PolicyFile, ReadsTimesWithFractionsAndOffsets) {
  const auto created = [](const std::string& time) {
    const auto policies =
        Load(Rewrite("{rules: []}", "{name: r, creationTimestamp: \"" + time + "\"}"));
    return policies.rewrites.empty() ? -1 : policies.rewrites[0].created_s;
  };
  EXPECT_EQ(created("1970-01-01T00:00:10Z"), 10);
  EXPECT_EQ(created("1970-01-01T01:00:10.5+01:00"), 10);
  EXPECT_EQ(created("1969-12-31T23:30:10-00:30"), 10);
  EXPECT_EQ(created("2024-02-29T00:00:00Z"), 1709164800);
  for (const char* wrong :
       {"2023-02-29T00:00:00Z", "2024-01-01", "yesterday", "2024-01-01T00:00:00",
        "2024-01-01T24:00:00Z", "2024-01-01T00:00:00.Z", "2024-01-01T00:00:00+0100"}) {
    EXPECT_THAT(ErrorOf(Rewrite("{rules: []}",
                                std::string("{name: r, creationTimestamp: \"") + wrong + "\"}")),
                HasSubstr("p.yaml:3: metadata.creationTimestamp: must be a time"))
        << wrong;
  }
}

TEST(PolicyFile, ErrorsNameFileLineAndPath) {
  EXPECT_EQ(ErrorOf("apiVersion: v1\nkind: Pod\n"),
            "p.yaml:2: kind: 'Pod' is unknown; allowed: InferenceObjective, "
            "InferenceModelRewrite, List");
  EXPECT_EQ(ErrorOf("a: 1\n"), "p.yaml:1: kind: is missing");
  EXPECT_EQ(ErrorOf("- 1\n"), "p.yaml:1: must be a map");
  EXPECT_EQ(ErrorOf("a: [1\n").substr(0, 7), "p.yaml:");
  EXPECT_EQ(ErrorOf("apiVersion: llm-d.ai/v1\nkind: InferenceObjective\n"),
            "p.yaml:1: apiVersion: 'llm-d.ai/v1' is unknown; allowed: llm-d.ai/v1alpha2, "
            "inference.networking.x-k8s.io/v1alpha2");
  EXPECT_EQ(ErrorOf(Objective("o", "{prio: 1}")),
            "p.yaml:4: spec.prio: unknown field; allowed: poolRef, priority");
  EXPECT_THAT(ErrorOf(Objective("o", "{priority: 3000000000}")),
              HasSubstr("p.yaml:4: spec.priority: must be between"));
  EXPECT_THAT(ErrorOf(Objective("o", "{priority: high}")),
              HasSubstr("p.yaml:4: spec.priority: must be a whole number"));
  EXPECT_EQ(ErrorOf(Objective("\"\"", "{}")),
            "p.yaml:3: metadata.name: must have 1 to 253 characters");
  EXPECT_EQ(ErrorOf(Objective("o", "{}") + "---\n" + Objective("o", "{}")),
            "p.yaml:8: metadata.name: InferenceObjective 'o' is given twice");
  EXPECT_EQ(ErrorOf("kind: List\napiVersion: v1\nitems:\n- kind: Pod\n"),
            "p.yaml:4: items[0].kind: 'Pod' is unknown; allowed: InferenceObjective, "
            "InferenceModelRewrite, List");
  EXPECT_EQ(ErrorOf(Rewrite("{}")), "p.yaml:4: spec.rules: is missing");
  EXPECT_EQ(ErrorOf(Rewrite("{rules: [{matches: [{model: {value: \"\"}}]}]}")),
            "p.yaml:4: spec.rules[0].matches[0].model.value: must not be empty");
  EXPECT_THAT(ErrorOf(Rewrite("{rules: [{matches: [{model: {type: Regex, value: a}}]}]}")),
              HasSubstr("model.type: 'Regex' is unknown; allowed: Exact"));
  EXPECT_EQ(ErrorOf(Rewrite("{rules: [{targets: []}]}")),
            "p.yaml:4: spec.rules[0].targets: must not be empty");
  EXPECT_THAT(ErrorOf(Rewrite("{rules: [{targets: [{modelRewrite: a, weight: 0}]}]}")),
              HasSubstr("targets[0].weight: must be between 1 and"));
  EXPECT_EQ(
      ErrorOf(Rewrite("{rules: [{targets: [{modelRewrite: a, weight: 1}, {modelRewrite: b}]}]}")),
      "p.yaml:4: spec.rules[0].targets: weights: all targets of a rule have one, or none has");
}

TEST(PolicyFile, IsBounded) {
  std::string many = "kind: List\napiVersion: v1\nitems:\n";
  for (int i = 0; i <= 10'000; ++i) {
    many += "- {kind: InferenceObjective, apiVersion: llm-d.ai/v1alpha2, metadata: {name: o" +
            std::to_string(i) + "}, spec: {}}\n";
  }
  EXPECT_THAT(ErrorOf(many), HasSubstr("items[10000]: more than 10000 objects"));
  EXPECT_THAT(ErrorOf(std::string((1 << 20) + 1, '\n')), HasSubstr("p.yaml:1: "));
  EXPECT_EQ(LoadPolicyFile("/no/such/file").error().code, Code::kNotFound);
}

}  // namespace
}  // namespace warmpath::config
