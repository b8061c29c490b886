#include "fleet/scrape.h"

#include <gtest/gtest.h>

#include <string>

namespace warmpath::fleet {
namespace {

TEST(ParseLoad, SumsRanksAndTakesTheMeanUsage) {
  const auto load = ParseLoad(
      "# HELP vllm:num_requests_running running\n"
      "# TYPE vllm:num_requests_running gauge\n"
      "vllm:num_requests_running{engine=\"0\",model_name=\"m\"} 3.0\n"
      "vllm:num_requests_running{engine=\"1\",model_name=\"m\"} 1.0\n"
      "vllm:num_requests_waiting{engine=\"0\",model_name=\"m\"} 2.0\n"
      "vllm:num_requests_waiting{engine=\"1\",model_name=\"m\"} 5.0\n"
      "vllm:num_requests_waiting_by_reason{engine=\"0\",reason=\"capacity\"} 2.0\n"
      "vllm:kv_cache_usage_perc{engine=\"0\"} 0.5\n"
      "vllm:kv_cache_usage_perc{engine=\"1\"} 0.25\n"
      "vllm:cache_config_info{block_size=\"16\",enable_prefix_caching=\"True\",engine=\"0\","
      "num_gpu_blocks=\"400\"} 1.0\n"
      "vllm:cache_config_info{block_size=\"16\",enable_prefix_caching=\"True\",engine=\"1\","
      "num_gpu_blocks=\"400\"} 1.0\n");
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->running, 4);
  EXPECT_EQ(load->waiting, 7);
  EXPECT_DOUBLE_EQ(load->kv_usage, 0.375);
  EXPECT_EQ(load->block_size, 16u);
  EXPECT_EQ(load->kv_blocks, 400u);
  EXPECT_EQ(load->ranks, 2u);
  EXPECT_TRUE(load->prefix_caching);
}

TEST(ParseLoad, PrefersTodaysUsageNameAndKnowsTheOldOne) {
  const auto old = ParseLoad("vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.75\n");
  ASSERT_TRUE(old);
  EXPECT_DOUBLE_EQ(old->kv_usage, 0.75);
  const auto both = ParseLoad("vllm:kv_cache_usage_perc 0.5\nvllm:gpu_cache_usage_perc 0.75\n");
  ASSERT_TRUE(both);
  EXPECT_DOUBLE_EQ(both->kv_usage, 0.5);
}

TEST(ParseLoad, ReadsSglang) {
  const auto load = ParseLoad(
      "sglang:num_running_reqs{model_name=\"m\"} 2\nsglang:num_queue_reqs{model_name=\"m\"} 9\n"
      "sglang:token_usage{model_name=\"m\"} 0.25\n"
      "sglang:cache_config_info{page_size=\"64\",num_pages=\"1000\"} 1\n");
  ASSERT_TRUE(load);
  EXPECT_EQ(load->running, 2);
  EXPECT_EQ(load->ranks, 0u);
  EXPECT_EQ(load->waiting, 9);
  EXPECT_DOUBLE_EQ(load->kv_usage, 0.25);
  EXPECT_EQ(load->block_size, 64u);
  EXPECT_EQ(load->kv_blocks, 1000u);
}

TEST(ParseLoad, BelievesNoNonsense) {
  const auto load = ParseLoad(
      "vllm:num_requests_running NaN\nvllm:num_requests_running -4\nvllm:num_requests_waiting 1\n"
      "vllm:kv_cache_usage_perc 17\n"
      "vllm:cache_config_info{block_size=\"99999999999\",num_gpu_blocks=\"None\","
      "enable_prefix_caching=\"False\"} 1\nthis is not a sample\n");
  ASSERT_TRUE(load) << load.error().message;
  EXPECT_EQ(load->running, 0);
  EXPECT_EQ(load->waiting, 1);
  EXPECT_EQ(load->kv_usage, 1);
  EXPECT_EQ(load->block_size, 0u);
  EXPECT_EQ(load->kv_blocks, 0u);
  EXPECT_FALSE(load->prefix_caching);
}

TEST(ParseLoad, SaysSoWhenThePageHasNoLoad) {
  const auto load = ParseLoad("process_cpu_seconds_total 1\n");
  ASSERT_FALSE(load);
  EXPECT_EQ(load.error().code, Code::kUnsupported);
}

TEST(ParseModels, TellsAdaptersFromTheBaseModel) {
  const auto models = ParseModels(
      R"({"object":"list","data":[)"
      R"({"id":"Qwen/Qwen3-0.6B","object":"model","root":"Qwen/Qwen3-0.6B","parent":null},)"
      R"({"id":"sql","root":"/models/adapters/sql","parent":"Qwen/Qwen3-0.6B"},)"
      R"({"id":""},{"id":7},3]})");
  ASSERT_TRUE(models) << models.error().message;
  ASSERT_EQ(models->size(), 2u);
  EXPECT_FALSE((*models)[0].is_adapter());
  EXPECT_TRUE((*models)[1].is_adapter());
  EXPECT_EQ((*models)[1].root, "/models/adapters/sql");
}

TEST(ParseModels, RefusesWhatIsNoModelList) {
  for (const char* body :
       {"", "{}", R"({"data":{}})", R"({"data":[]})", "[1,2", R"({"data":[{"id":null}]})"}) {
    EXPECT_FALSE(ParseModels(body)) << body;
  }
}

TEST(ParseModels, StopsAtItsLimit) {
  std::string body = R"({"data":[)";
  for (size_t i = 0; i < kMaxServedModels + 10; ++i) {
    body += (i ? "," : "") + std::string(R"({"id":"m)") + std::to_string(i) + "\"}";
  }
  body += "]}";
  const auto models = ParseModels(body);
  ASSERT_TRUE(models);
  EXPECT_EQ(models->size(), kMaxServedModels);
}

TEST(ParseVersion, ReadsTheVersion) {
  EXPECT_EQ(ParseVersion(R"({"version":"0.14.1"})").value(), "0.14.1");
  EXPECT_FALSE(ParseVersion(R"({"v":1})"));
  EXPECT_EQ(ParseVersion("{\"version\":\"" + std::string(1000, 'x') + "\"}").value().size(), 128u);
}

}  // namespace
}  // namespace warmpath::fleet
