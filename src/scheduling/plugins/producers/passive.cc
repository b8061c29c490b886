// Types that configure other parts of the program: producers, parsers, data sources. Their
// parameters are checked here and read by config; they take no part in scheduling.
#include "scheduling/plugins/plugins.h"

namespace warmpath::scheduling {
namespace {

PluginType Passive(std::string name, ParameterList parameters = {}, std::string note = "") {
  return {std::move(name), Role::kPassive, std::move(parameters), {}, std::move(note)};
}

ParameterList TokenProducerParameters() {
  return {String("modelName"),
          Object("vllm", {String("url"), DurationOf("timeout"), DurationOf("mmTimeout")}),
          Any("estimate"), Any("udsTokenizerConfig")};
}

}  // namespace

std::vector<PluginType> PassiveTypes() {
  const std::string in_process =
      "prompts are tokenized in process; the tokenizer comes from --tokenizer";
  const std::string own_scraping =
      "engines are scraped by the router itself; parameters have no effect";
  return {
      Passive("token-producer", TokenProducerParameters(), in_process),
      Passive("tokenizer", TokenProducerParameters(), in_process),
      Passive("inflight-load-producer",
              {Bool("addEstimatedOutputTokens"), Number("outputRatio", 0),
               Integer("maxEstimatedOutputTokens", 0), String("prefixMatchInfoProducerName"),
               Bool("syncCrossReplicaState")}),
      Passive("metrics-data-source",
              {String("scheme", {"http", "https"}), String("path"), Integer("port", 0),
               Bool("insecureSkipVerify"), String("caCertPath"), String("clientCertPath"),
               String("clientKeyPath"), DurationOf("interval")},
              own_scraping),
      Passive("core-metrics-extractor",
              {String("engineLabelKey"), String("defaultEngine"), Any("engineConfigs")},
              own_scraping),
      Passive("models-data-source", {Any("scheme"), Any("path"), Any("insecureSkipVerify")},
              own_scraping),
      Passive("models-data-extractor", {}, own_scraping),
      Passive("endpoint-notification-source"),
      Passive("k8s-notification-source"),
      Passive("openai-parser"),
      Passive("anthropic-parser"),
      Passive("vllmhttp-parser"),
      Passive("passthrough-parser"),
  };
}

}  // namespace warmpath::scheduling
