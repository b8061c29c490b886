#include "k8s/objects.h"

#include <gtest/gtest.h>

namespace warmpath::k8s {
namespace {

codec::Json J(std::string_view text) {
  return codec::ParseJson(text).value();
}

TEST(ReadPod, TakesWhatServingNeeds) {
  const auto pod = ReadPod(J(R"({
    "metadata": {"name": "ms-0", "namespace": "ns", "uid": "u-1", "resourceVersion": "7",
      "creationTimestamp": "2026-01-31T08:00:00Z",
      "labels": {"llm-d.ai/role": "decode", "empty": ""},
      "annotations": {"llm-d.ai/active-ports": "8000", "kubectl.kubernetes.io/large": "x"}},
    "status": {"podIP": "10.0.0.5", "hostIP": "10.1.0.1",
      "conditions": [{"type": "Initialized", "status": "False"}, {"type": "Ready", "status": "True"}],
      "initContainerStatuses": [{"restartCount": 9}],
      "containerStatuses": [{"restartCount": 1}, {"restartCount": 2}]}})"));
  ASSERT_TRUE(pod) << pod.error().message;
  EXPECT_EQ(pod->meta.name, "ms-0");
  EXPECT_EQ(pod->meta.ns, "ns");
  EXPECT_EQ(pod->meta.uid, "u-1");
  EXPECT_EQ(pod->meta.resource_version, "7");
  EXPECT_EQ(pod->meta.created_s, 1'769'846'400);
  EXPECT_EQ(pod->meta.labels.at("llm-d.ai/role"), "decode");
  EXPECT_EQ(pod->meta.labels.at("empty"), "");
  EXPECT_EQ(pod->meta.annotations.size(), 1u);
  EXPECT_EQ(pod->ip, "10.0.0.5");
  EXPECT_EQ(pod->restarts, 3u);
  EXPECT_TRUE(pod->serving());
}

TEST(ReadPod, IsNotServingWhileAnythingIsMissing) {
  const auto serving = [](std::string_view metadata, std::string_view status) {
    return ReadPod(J(R"({"metadata": {"name": "p")" + std::string(metadata) + R"(}, "status": {)" +
                     std::string(status) + "}}"))
        .value()
        .serving();
  };
  const std::string ready = R"("conditions": [{"type": "Ready", "status": "True"}])";
  EXPECT_TRUE(serving("", ready + R"(, "podIP": "10.0.0.5")"));
  EXPECT_TRUE(serving("", ready + R"(, "podIPs": [{"ip": "fd00::1"}])"));
  EXPECT_FALSE(serving("", ready));
  EXPECT_FALSE(serving("", R"("podIP": "10.0.0.5")"));
  EXPECT_FALSE(serving(
      "", R"("conditions": [{"type": "Ready", "status": "Unknown"}], "podIP": "10.0.0.5")"));
  EXPECT_FALSE(serving(R"(, "deletionTimestamp": "2026-01-31T08:00:00Z")",
                       ready + R"(, "podIP": "10.0.0.5")"));
}

TEST(ReadPod, RefusesOnlyWhatHasNoName) {
  EXPECT_TRUE(ReadPod(J(R"({"metadata": {"name": "p"}})")));
  EXPECT_TRUE(ReadPod(J(R"({"metadata": {"name": "p"}, "status": {"conditions": null}})")));
  for (const char* bad : {"{}", "[]", "null", R"({"metadata": {}})", R"({"metadata": {"name": 1}})",
                          R"({"metadata": {"name": "a b"}})", R"({"metadata": {"name": "a\n"}})"}) {
    EXPECT_FALSE(ReadPod(J(bad))) << bad;
  }
}

TEST(ReadInferencePool, ReadsBothVersions) {
  const auto v1 = ReadInferencePool(J(R"({"metadata": {"name": "p"}, "spec": {
    "selector": {"matchLabels": {"a": "b"}}, "targetPorts": [{"number": 8000}, {"number": 8001}],
    "appProtocol": "kubernetes.io/h2c"}})"));
  ASSERT_TRUE(v1) << v1.error().message;
  EXPECT_EQ(v1->match_labels, (std::map<std::string, std::string>{{"a", "b"}}));
  EXPECT_EQ(v1->target_ports, (std::vector<uint16_t>{8000, 8001}));
  EXPECT_EQ(v1->app_protocol, "kubernetes.io/h2c");

  const auto v1alpha2 = ReadInferencePool(J(R"({"metadata": {"name": "p"}, "spec": {
    "selector": {"a": "b", "matchLabels": "x"}, "targetPortNumber": 8000,
    "extensionRef": {"name": "epp"}}})"));
  ASSERT_TRUE(v1alpha2) << v1alpha2.error().message;
  EXPECT_EQ(v1alpha2->match_labels.size(), 2u);
  EXPECT_EQ(v1alpha2->target_ports, std::vector<uint16_t>{8000});
  EXPECT_EQ(v1alpha2->app_protocol, "http");
}

TEST(ReadInferencePool, NamesTheFieldThatIsWrong) {
  const auto error = [](std::string_view spec) {
    const auto pool =
        ReadInferencePool(J(R"({"metadata": {"name": "p"}, "spec": )" + std::string(spec) + "}"));
    return pool ? "none" : pool.error().message;
  };
  const std::string selector = R"({"selector": {"matchLabels": {}}, )";
  EXPECT_EQ(error(selector + R"("targetPorts": [{"number": 1}]})"), "none");
  EXPECT_NE(error(selector + R"("targetPorts": []})").find("spec.targetPorts"), std::string::npos);
  EXPECT_NE(error(selector + R"("targetPorts": [{"number": 0}]})").find("1..65535"),
            std::string::npos);
  EXPECT_NE(error(selector + R"("targetPorts": [{"number": 1}, {"number": 1}]})").find("twice"),
            std::string::npos);
  std::string nine = "[";
  for (int i = 1; i <= 9; ++i)
    nine += (i > 1 ? "," : "") + ("{\"number\":" + std::to_string(i)) + "}";
  EXPECT_NE(error(selector + "\"targetPorts\":" + nine + "]}").find("1 to 8"), std::string::npos);
  EXPECT_NE(error(R"({"targetPorts": [{"number": 1}]})").find("matchLabels"), std::string::npos);
  EXPECT_NE(error(R"({"selector": {"a": 1}, "targetPortNumber": 8000})").find("spec.selector"),
            std::string::npos);
}

TEST(ReadInferenceObjective, FillsInTheApisDefaults) {
  const auto objective = ReadInferenceObjective(
      J(R"({"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "p"}}})"));
  ASSERT_TRUE(objective);
  EXPECT_EQ(objective->pool.name, "p");
  EXPECT_EQ(objective->pool.group, "inference.networking.k8s.io");
  EXPECT_EQ(objective->pool.kind, "InferencePool");
  EXPECT_EQ(objective->priority, 0);
  const auto negative = ReadInferenceObjective(J(
      R"({"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "p", "group": "g"}, "priority": -5}})"));
  EXPECT_EQ(negative->priority, -5);
  EXPECT_EQ(negative->pool.group, "g");
  EXPECT_FALSE(ReadInferenceObjective(J(R"({"metadata": {"name": "o"}, "spec": {}})")));
  EXPECT_FALSE(ReadInferenceObjective(
      J(R"({"metadata": {"name": "o"}, "spec": {"poolRef": {"name": "p"}, "priority": 3e9}})")));
}

TEST(ReadInferenceModelRewrite, ReadsRules) {
  const auto rewrite = ReadInferenceModelRewrite(J(R"({"metadata": {"name": "r"}, "spec": {
    "poolRef": {"name": "p"}, "rules": [
      {"matches": [{"model": {"type": "Exact", "value": "a"}}, {"model": {"value": "b"}}],
       "targets": [{"modelRewrite": "x", "weight": 3}, {"modelRewrite": "y"}]},
      {"targets": [{"modelRewrite": "z"}]}, {}]}})"));
  ASSERT_TRUE(rewrite) << rewrite.error().message;
  ASSERT_EQ(rewrite->rules.size(), 3u);
  EXPECT_EQ(rewrite->rules[0].models, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(rewrite->rules[0].targets[0].weight, 3u);
  EXPECT_EQ(rewrite->rules[0].targets[1].weight, 1u);
  EXPECT_TRUE(rewrite->rules[1].models.empty());
  EXPECT_TRUE(rewrite->rules[2].targets.empty());
}

TEST(ReadInferenceModelRewrite, NeverTurnsAMatchItCannotReadIntoOneOfEverything) {
  for (const char* rule : {R"({"matches": [{"model": {"value": ""}}]})", R"({"matches": [{}]})",
                           R"({"matches": [{"model": {"type": "Prefix", "value": "a"}}]})",
                           R"({"targets": [{"modelRewrite": ""}]})",
                           R"({"targets": [{"modelRewrite":"x","weight":0}]})",
                           R"({"targets": [{"modelRewrite": "x", "weight": 1000001}]})", "1"}) {
    EXPECT_FALSE(ReadInferenceModelRewrite(
        J(R"({"metadata": {"name": "r"}, "spec": {"poolRef": {"name": "p"}, "rules": [)" +
          std::string(rule) + "]}}")))
        << rule;
  }
  // Not a list at all: also no match of everything.
  EXPECT_FALSE(ReadInferenceModelRewrite(J(
      R"({"metadata": {"name": "r"}, "spec": {"poolRef": {"name": "p"}, "rules": [{"matches": 1}]}})")));
}

}  // namespace
}  // namespace warmpath::k8s
