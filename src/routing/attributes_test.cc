#include "routing/attributes.h"

#include <gtest/gtest.h>

namespace warmpath::routing {
namespace {

fleet::Endpoint At(const std::string& host, uint16_t port) {
  fleet::Endpoint endpoint;
  endpoint.spec.url.address = {host, port};
  return endpoint;
}

TEST(RoutingHeaders, LlmdsNameWinsOverTheOlderAlias) {
  const RoutingHeaders headers = ReadRoutingHeaders({
      {"X-Gateway-Inference-Objective", "old"},
      {"x-llm-d-inference-objective", "new"},
      {"x-gateway-inference-fairness-id", "tenant"},
      {"x-llm-d-inference-fairness-id", " "},
      {"x-gateway-model-name-rewrite", "other"},
  });
  EXPECT_EQ(headers.objective, "new");
  EXPECT_EQ(headers.fairness_id, "tenant");
  EXPECT_EQ(headers.model_rewrite, "other");
}

TEST(RoutingHeaders, WithoutAnyTheFlowIsTheDefaultOne) {
  const RoutingHeaders headers = ReadRoutingHeaders({});
  EXPECT_EQ(headers.objective, "");
  EXPECT_EQ(headers.fairness_id, "default-flow");
  EXPECT_EQ(headers.model_rewrite, "");
  const std::string endless(100'000, 'x');
  EXPECT_EQ(ReadRoutingHeaders({{"x-llm-d-inference-objective", endless}}).objective.size(), 256u);
}

TEST(Subset, NamesAddressesWithAndWithoutPort) {
  const Subset subset({"10.0.0.1:8000", " 10.0.0.2 ", "[fd00::1]:8000", "[fd00::2]", "fd00:0::3",
                       "", "10.0.0.4:bad", ":"});
  EXPECT_TRUE(subset.Contains(At("10.0.0.1", 8000)));
  EXPECT_FALSE(subset.Contains(At("10.0.0.1", 8001)));
  EXPECT_TRUE(subset.Contains(At("10.0.0.2", 1)));
  EXPECT_TRUE(subset.Contains(At("fd00:0:0::1", 8000)));
  EXPECT_FALSE(subset.Contains(At("fd00::1", 8001)));
  EXPECT_TRUE(subset.Contains(At("fd00::2", 5)));
  EXPECT_TRUE(subset.Contains(At("fd00::3", 5)));
  EXPECT_FALSE(subset.Contains(At("10.0.0.4", 8000)));
  EXPECT_FALSE(Subset({}).Contains(At("10.0.0.1", 8000)));
}

}  // namespace
}  // namespace warmpath::routing
