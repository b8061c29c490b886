#include "scheduling/plugins/producers/kv_parameters.h"

namespace warmpath::scheduling {

ParameterSchema TokenProcessorParameters() {
  return Object("tokenProcessorConfig",
                {Integer("blockSizeTokens", 0), Integer("blockSize", 0), String("hashSeed"),
                 String("hashAlgorithm", {"", "cbor-fnv", "xxh64"})});
}

ParameterSchema IndexerParameters(bool old_dialect) {
  const ParameterSchema redis =
      Object("redisConfig", {String("address"), String("backendType"), Bool("enableRDMA")});
  ParameterSchema valkey = redis;
  valkey.name = "valkeyConfig";
  ParameterList members = {
      Object("kvBlockIndexConfig",
             {Object("inMemoryConfig", {Integer("size", 0), Integer("podCacheSize", 0)}),
              Object("costAwareMemoryConfig", {SizeOf("size")}), redis, valkey,
              Bool("enableMetrics"), DurationOf("metricsLoggingInterval")}),
      List("kvCacheBackendConfigs", Object("", {Required(String("name")), Number("weight", 0)})),
  };
  if (!old_dialect) {
    members.push_back(Refused(
        "tokenizersPoolConfig",
        "tokenizersPoolConfig is not supported; configure a token-producer plugin instead"));
    return Object("indexerConfig", members);
  }
  members.push_back(
      Object("prefixStoreConfig", {Integer("cacheSize", 0), Integer("blockSize", 0)}));
  members.push_back(TokenProcessorParameters());
  members.push_back(Object(
      "tokenizersPoolConfig",
      {Integer("workersCount", 0), String("huggingFaceToken"), String("tokenizersCacheDir"),
       Number("minPrefixOverlapRatio", 0, 1), String("modelName"),
       Object("hf", {Bool("enabled"), String("huggingFaceToken"), String("tokenizersCacheDir")}),
       Object("local", {String("autoDiscoveryDir"), String("autoDiscoveryTokenizerFileName"),
                        StringMap("modelTokenizerMap")}),
       Object("uds", {String("socketFile")})}));
  return Object("indexerConfig", members);
}

ParameterSchema KvEventsParameters() {
  return Object("kvEventsConfig",
                {String("zmqEndpoint"), String("topicFilter"), Integer("concurrency", 0),
                 String("engineType", {"", "vllm", "sglang"}), Bool("discoverPods"),
                 Object("podDiscoveryConfig", {String("podLabelSelector"), String("labelSelector"),
                                               String("podNamespace"), Integer("socketPort", 0),
                                               Integer("replaySocketPort")})});
}

ParameterList PreciseProducerParameters(bool old_dialect) {
  return {TokenProcessorParameters(), IndexerParameters(old_dialect), KvEventsParameters(),
          Bool("speculativeIndexing"), DurationOf("speculativeTTL")};
}

}  // namespace warmpath::scheduling
