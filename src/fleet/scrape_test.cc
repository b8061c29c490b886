#include "fleet/scrape.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
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

ScrapedLoad ReadAs(const std::string& engine, std::string_view page,
                   const ScrapeConfig& config = {}) {
  LoadReaders readers(config);
  std::map<std::string, std::string> labels;
  if (!engine.empty()) labels[config.engine_label] = engine;
  const auto load = readers.For(labels).reader->Read(page);
  EXPECT_TRUE(load) << load.error().message;
  return load.value_or(ScrapedLoad{});
}

constexpr std::string_view kTritonPage =
    "nv_trt_llm_request_metrics{model=\"m\",request_type=\"waiting\",version=\"1\"} 3\n"
    "nv_trt_llm_request_metrics{model=\"m\",request_type=\"scheduled\",version=\"1\"} 5\n"
    "nv_trt_llm_request_metrics{model=\"m\",request_type=\"max\",version=\"1\"} 512\n"
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"fraction\"} 0.25\n"
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"tokens_per\"} 64\n"
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"max\"} 6239\n"
    "nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type=\"used\"} 7\n"
    "nv_inference_pending_request_count{model=\"a\"} 2\n"
    "nv_inference_pending_request_count{model=\"b\"} 4\n"
    "nv_inference_exec_count{model=\"a\"} 1\n";

TEST(LoadReader, ReadsEveryBuiltInEngine) {
  const ScrapedLoad trtllm =
      ReadAs("trtllm-serve",
             "trtllm_num_requests_waiting 4\ntrtllm_num_requests_running 2\n"
             "trtllm_kv_cache_utilization 0.75\ntrtllm_kv_cache_tokens_per_block 32\n"
             "trtllm_kv_cache_max_blocks 1000\n");
  EXPECT_EQ(trtllm.waiting, 4);
  EXPECT_EQ(trtllm.running, 2);
  EXPECT_DOUBLE_EQ(trtllm.kv_usage, 0.75);
  EXPECT_EQ(trtllm.block_size, 32u);
  EXPECT_EQ(trtllm.kv_blocks, 1000u);

  const ScrapedLoad triton_llm = ReadAs("triton-tensorrt-llm", kTritonPage);
  EXPECT_EQ(triton_llm.waiting, 3);
  EXPECT_EQ(triton_llm.running, 5);
  EXPECT_DOUBLE_EQ(triton_llm.kv_usage, 0.25);
  EXPECT_EQ(triton_llm.block_size, 64u);
  EXPECT_EQ(triton_llm.kv_blocks, 6239u);

  const ScrapedLoad triton = ReadAs("triton", kTritonPage);
  EXPECT_EQ(triton.waiting, 6);
  EXPECT_EQ(triton.running, 1);
  EXPECT_EQ(triton.block_size, 0u);

  EXPECT_EQ(ReadAs("sglang", "sglang:num_queue_reqs 9\n").waiting, 9);
  EXPECT_EQ(ReadAs("vllm", "vllm:num_requests_waiting 8\n").waiting, 8);
}

TEST(LoadReader, TheLabelDecidesAndWithoutItThePageDoes) {
  constexpr std::string_view kBoth =
      "vllm:num_requests_waiting 1\nsglang:num_queue_reqs 2\nmine_waiting{kind=\"a\"} 3\n"
      "mine_waiting{kind=\"b\"} 30\n";
  EXPECT_EQ(ReadAs("vllm", kBoth).waiting, 1);
  EXPECT_EQ(ReadAs("sglang", kBoth).waiting, 2);
  EXPECT_EQ(ReadAs("", kBoth).waiting, 1);
  EXPECT_EQ(ReadAs("", "sglang:num_queue_reqs 2\n").waiting, 2);

  ScrapeConfig config;
  config.engine_label = "engine";
  config.default_engine = "mine";
  EngineMetrics mine;
  mine.engine = "mine";
  mine.queued = {"mine_waiting", {{"kind", "a"}}};
  config.engines.push_back(mine);
  EXPECT_EQ(ReadAs("", kBoth, config).waiting, 3);
  EXPECT_EQ(ReadAs("sglang", kBoth, config).waiting, 2);
  EXPECT_EQ(ReadAs("", "vllm:num_requests_waiting 1\n", config).waiting, 1);

  LoadReaders readers(config);
  const EngineChoice unknown = readers.For({{"engine", "none-such"}});
  EXPECT_FALSE(unknown.known);
  EXPECT_EQ(unknown.reader->Read(kBoth)->waiting, 3);
  EXPECT_TRUE(readers.For({{"engine", "triton"}}).known);
  EXPECT_EQ(readers.For({{"engine", "triton"}}).reader, readers.For({{"engine", "triton"}}).reader);
  EXPECT_EQ(readers.For({{"engine", "triton"}}).reader->health_path(), "/v2/health/ready");
  EXPECT_FALSE(readers.For({{"engine", "triton"}}).reader->Read(kBoth));
}

TEST(LoadReader, TakesTheNewestAdapterSeries) {
  const ScrapedLoad load =
      ReadAs("vllm",
             "vllm:num_requests_running 1\n"
             "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"old\","
             "waiting_lora_adapters=\"\"} 1.7e9\n"
             "vllm:lora_requests_info{max_lora=\"4\",running_lora_adapters=\"sql, chat\","
             "waiting_lora_adapters=\"sql,law,\"} 1.8e9\n"
             "vllm:lora_requests_info{max_lora=\"9\",running_lora_adapters=\"stale\","
             "waiting_lora_adapters=\"\"} 1.6e9\n"
             "vllm:lora_requests_info{max_lora=\"9\",running_lora_adapters=\"nan\"} NaN\n");
  EXPECT_THAT(load.active_adapters, testing::ElementsAre("sql", "chat"));
  EXPECT_THAT(load.waiting_adapters, testing::ElementsAre("law"));
  EXPECT_EQ(load.max_adapters, 4u);
}

TEST(LoadReader, BoundsAdapters) {
  std::string names;
  for (size_t i = 0; i < kMaxAdaptersListed + 10; ++i) names += "a" + std::to_string(i) + ",";
  const ScrapedLoad load =
      ReadAs("",
             "vllm:num_requests_running 1\nvllm:lora_requests_info{max_lora=\"99999999999\","
             "running_lora_adapters=\"" +
                 names + std::string(5000, 'x') + "\"} 1\n");
  EXPECT_EQ(load.active_adapters.size(), kMaxAdaptersListed);
  EXPECT_EQ(load.max_adapters, kMaxAdaptersListed);
}

TEST(LoadReader, ReadsCustomSeries) {
  ScrapeConfig config;
  EngineMetrics own = *FindEngine(config, "vllm");
  own.custom["temperature"] = ParseMetricSpec("gpu_temperature{gpu=0}").value();
  own.custom["absent"] = ParseMetricSpec("none_such").value();
  config.engines.push_back(own);
  const ScrapedLoad load = ReadAs("",
                                  "vllm:num_requests_running 1\ngpu_temperature{gpu=\"0\"} -7\n"
                                  "gpu_temperature{gpu=\"1\"} 80\n"
                                  "gpu_temperature{gpu=\"0\",x=\"y\"} NaN\n",
                                  config);
  EXPECT_THAT(load.custom, testing::ElementsAre(testing::Pair("temperature", -7)));
}

TEST(LoadReader, BelievesNoNonsenseOfOtherEngines) {
  const ScrapedLoad load = ReadAs("trtllm-serve",
                                  "trtllm_num_requests_waiting 1\ntrtllm_kv_cache_utilization 9\n"
                                  "trtllm_kv_cache_tokens_per_block 1e300\n"
                                  "trtllm_kv_cache_max_blocks +Inf\n");
  EXPECT_EQ(load.kv_usage, 1);
  EXPECT_EQ(load.block_size, 0u);
  EXPECT_EQ(load.kv_blocks, 0u);
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
