// Types that configure other parts of the program: producers, parsers, data sources. Their
// parameters are checked here and read by config; they take no part in scheduling.
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

PluginType Passive(std::string name, ParameterList parameters = {}, std::string note = "") {
  return {std::move(name), Role::kPassive, std::move(parameters), {}, std::move(note)};
}

ParameterSchema Size(std::string name) {
  return Object(std::move(name), {Integer("width", 1), Integer("height", 1)});
}

ParameterSchema Factor() {
  return Object("dynamic", {Integer("factor", 1)});
}

// The backend that makes pseudo tokens.
ParameterSchema EstimateParameters() {
  return Object(
      "estimate",
      {Object("image", {String("mode", {"", "dynamic", "static"}), Size("defaultResolution"),
                        Object("static", {Integer("staticToken", 0)}), Factor()}),
       Object(
           "video",
           {Size("defaultResolution"), Number("defaultDuration", 0),
            Object("tokensPerFrame",
                   {String("mode", {"", "dynamic", "static"}),
                    Object("static", {Integer("numTokensPerFrame", 0)}), Factor()}),
            Object("frames",
                   {String("mode", {"", "sampled", "strided"}), Integer("minFrames", 0),
                    Integer("maxFrames", 0),
                    Object("sampled", {Number("sampleFPS", 0), Integer("temporalPatchSize", 0)}),
                    Object("strided", {Number("defaultSourceFPS", 0), Integer("frameStride", 1)})}),
            Integer("maxVideoTokens", 0)})});
}

ParameterList TokenProducerParameters() {
  return {String("modelName"),
          Object("vllm", {String("url"), DurationOf("timeout"), DurationOf("mmTimeout")}),
          EstimateParameters(), Any("udsTokenizerConfig")};
}

ParameterList ScrapeParameters() {
  ParameterSchema port = Integer("port", 0);
  port.max = 65'535;
  return {String("scheme", {"http", "https"}),
          String("path"),
          port,
          Bool("insecureSkipVerify"),
          String("caCertPath"),
          String("clientCertPath"),
          String("clientKeyPath"),
          DurationOf("interval")};
}

ParameterList ExtractorParameters() {
  ParameterList engine = {String("name"), String("cacheBlockSizeLabelName"),
                          String("cacheNumBlocksLabelName")};
  for (const char* spec : {"queuedRequestsSpec", "runningRequestsSpec", "kvUsageSpec", "loraSpec",
                           "cacheInfoSpec", "cacheBlockSizeSpec", "cacheNumBlocksSpec"}) {
    engine.push_back(String(spec));
  }
  engine.push_back(List("customMetrics", Object("", {Required(String("attributeKey")),
                                                     Required(String("metricSpec"))})));
  return {String("engineLabelKey"), String("defaultEngine"),
          List("engineConfigs", Object("", std::move(engine)))};
}

PluginType InflightLoadProducer() {
  PluginType type = Passive("inflight-load-producer",
                            {Bool("addEstimatedOutputTokens"), Number("outputRatio", 0),
                             Integer("maxEstimatedOutputTokens", 0),
                             String("prefixMatchInfoProducerName"), Bool("syncCrossReplicaState")},
                            "counts are kept by the router itself, by exact matches where known; "
                            "replicas do not share them");
  type.references = ReferencesIn({"prefixMatchInfoProducerName"});
  return type;
}

}  // namespace

std::vector<PluginType> PassiveTypes() {
  const std::string in_process =
      "prompts are tokenized in process; the tokenizer is that of --tokenizer, "
      "else of the served model";
  const std::string verified =
      "insecureSkipVerify and the certificate paths have no effect: https engines are verified";
  return {
      Passive("token-producer", TokenProducerParameters(), in_process),
      Passive("tokenizer", TokenProducerParameters(), "deprecated: use token-producer"),
      InflightLoadProducer(),
      Passive("metrics-data-source", ScrapeParameters(), verified),
      Passive("core-metrics-extractor", ExtractorParameters()),
      Passive("models-data-source", ScrapeParameters(),
              "the router always asks engines for their models; parameters have no effect"),
      Passive("models-data-extractor"),
      Passive("endpoint-notification-source"),
      Passive("k8s-notification-source"),
      Passive("file-discovery", {Required(String("path")), Bool("watchFile")}),
      Passive("openai-parser"),
      Passive("anthropic-parser", {}, "messages are routed by load"),
      Passive("vllmhttp-parser"),
      Passive("passthrough-parser"),
  };
}

}  // namespace warmpath::scheduling
