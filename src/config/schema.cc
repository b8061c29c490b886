#include "config/schema.h"

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

}  // namespace

const ParameterList& EndpointPickerSchema() {
  static const auto* schema = new ParameterList{
      Required(
          String("apiVersion", {"llm-d.ai/v1alpha1", "inference.networking.x-k8s.io/v1alpha1"})),
      Required(String("kind", {"EndpointPickerConfig"})),
      List("featureGates", String("")),
      List("plugins", Object("", {String("name"), Required(String("type")), Any("parameters")})),
      List("schedulingProfiles",
           Object("", {Required(String("name")),
                       List("plugins",
                            Object("", {Required(String("pluginRef")), Number("weight")}))})),
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

}  // namespace warmpath::config
