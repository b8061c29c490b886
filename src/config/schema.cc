#include "config/schema.h"

#include <cstdint>

namespace warmpath::config {

using namespace scheduling;  // NOLINT: the short forms of a schema table

namespace {

ParameterSchema PluginRef(std::string name) {
  return Object(std::move(name), {Required(String("pluginRef"))});
}

ParameterSchema Band(std::string name) {
  return Object(std::move(name), {Integer("priority"), SizeOf("maxBytes"), SizeOf("maxRequests"),
                                  String("fairnessPolicyRef"), String("orderingPolicyRef")});
}

ParameterSchema Int32(std::string name, int32_t min, int32_t max) {
  ParameterSchema schema = Integer(std::move(name), min);
  schema.max = max;
  return schema;
}

// A metric's name with optional labels: name{label=value,...}.
ParameterSchema MetricSpec(std::string name) {
  return String(std::move(name));
}

// What an object of the Kubernetes API carries beside its spec.
ParameterSchema Metadata() {
  return Object("metadata",
                {Required(String("name")), String("namespace"), String("creationTimestamp"),
                 StringMap("labels"), StringMap("annotations"), Any("uid"), Any("resourceVersion"),
                 Any("generation"), Any("generateName"), Any("selfLink"), Any("managedFields"),
                 Any("ownerReferences"), Any("finalizers"), Any("deletionTimestamp"),
                 Any("deletionGracePeriodSeconds")});
}

ParameterSchema PolicyVersion() {
  return Required(
      String("apiVersion", {"llm-d.ai/v1alpha2", "inference.networking.x-k8s.io/v1alpha2"}));
}

ParameterSchema PoolRef() {
  return Object("poolRef", {String("group"), String("kind"), Required(String("name"))});
}

}  // namespace

const ParameterList& EndpointPickerSchema() {
  static const auto* schema = new ParameterList{
      Required(
          String("apiVersion", {"llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"})),
      Required(String("kind", {"EndpointPickerConfig"})),
      List("featureGates", String("")),
      List("plugins", Object("", {String("name"), String("type"), Any("parameters")})),
      List("schedulingProfiles",
           Object("", {String("name"),
                       List("plugins", Object("", {String("pluginRef"), Number("weight")}))})),
      Object("dataLayer",
             {Bool("injectDefaults"),
              List("sources",
                   Object("", {Required(String("pluginRef")), List("extractors", PluginRef(""))})),
              PluginRef("discovery"), PluginRef("peerDiscovery"),
              String("crossReplicaSyncerPluginRef"), DurationOf("crossReplicaSyncInterval")}),
      Object("flowControl", {SizeOf("maxBytes"), SizeOf("maxRequests"),
                             DurationOf("defaultRequestTTL"), DurationOf("noEndpointRequestTTL"),
                             Band("defaultPriorityBand"), Band("defaultNegativePriorityBand"),
                             List("priorityBands", Band("")), String("usageLimitPolicyPluginRef"),
                             PluginRef("saturationDetector"), Bool("enableEviction")}),
      Object("requestHandler", {List("parsers", PluginRef(""))}),
      PluginRef("saturationDetector"),
      PluginRef("parser"),
  };
  return *schema;
}

const ParameterList& MetricsExtractorSchema() {
  static const auto* schema = new ParameterList{
      String("engineLabelKey"), String("defaultEngine"),
      List("engineConfigs",
           Object("", {Required(String("name")), MetricSpec("queuedRequestsSpec"),
                       MetricSpec("runningRequestsSpec"), MetricSpec("kvUsageSpec"),
                       MetricSpec("loraSpec"), MetricSpec("cacheInfoSpec"),
                       String("cacheBlockSizeLabelName"), String("cacheNumBlocksLabelName"),
                       MetricSpec("cacheBlockSizeSpec"), MetricSpec("cacheNumBlocksSpec"),
                       List("customMetrics", Object("", {Required(String("attributeKey")),
                                                         Required(MetricSpec("metricSpec"))}))}))};
  return *schema;
}

const ParameterList& ObjectiveSchema() {
  static const auto* schema = new ParameterList{
      PolicyVersion(),
      Required(String("kind", {"InferenceObjective"})),
      Required(Metadata()),
      Required(Object("spec", {PoolRef(), Int32("priority", INT32_MIN, INT32_MAX)})),
      Any("status"),
  };
  return *schema;
}

const ParameterList& ModelRewriteSchema() {
  static const auto* schema = new ParameterList{
      PolicyVersion(),
      Required(String("kind", {"InferenceModelRewrite"})),
      Required(Metadata()),
      Required(Object(
          "spec",
          {PoolRef(),
           Required(List(
               "rules",
               Object("", {List("matches", Object("", {Required(Object(
                                                          "model", {String("type", {"Exact"}),
                                                                    Required(String("value"))}))})),
                           List("targets", Object("", {Required(String("modelRewrite")),
                                                       Int32("weight", 1, 1'000'000)}))})))})),
      Any("status"),
  };
  return *schema;
}

const ParameterList& ObjectListSchema() {
  static const auto* schema = new ParameterList{
      Required(String("apiVersion",
                      {"v1", "llm-d.ai/v1alpha2", "inference.networking.x-k8s.io/v1alpha2"})),
      Required(String("kind", {"List", "InferenceObjectiveList", "InferenceModelRewriteList"})),
      Any("metadata"),
      Required(List("items", Any(""))),
  };
  return *schema;
}

}  // namespace warmpath::config
