#include "sim/options.h"

#include <gtest/gtest.h>

namespace warmpath::sim {
namespace {

TEST(KvEventsConfig, ReadsTheEnginesJson) {
  auto config = ParseKvEventsConfig(
      R"({"enable_kv_cache_events":true,"publisher":"zmq","endpoint":"tcp://*:6000","replay_endpoint":"tcp://*:6100","buffer_steps":8,"topic":"kv@a@m"})");
  ASSERT_TRUE(config);
  EXPECT_TRUE(config->enable_kv_cache_events);
  EXPECT_EQ(config->endpoint, "tcp://*:6000");
  EXPECT_EQ(config->replay_endpoint, "tcp://*:6100");
  EXPECT_EQ(config->buffer_steps, 8u);
  EXPECT_EQ(config->topic, "kv@a@m");
}

TEST(KvEventsConfig, DefaultsAreTheEngines) {
  auto config = ParseKvEventsConfig("{}");
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->enable_kv_cache_events);
  EXPECT_EQ(config->endpoint, "tcp://*:5557");
  EXPECT_EQ(config->buffer_steps, 10'000u);
}

TEST(KvEventsConfig, RefusesUnknownAndIllTypedMembers) {
  EXPECT_FALSE(ParseKvEventsConfig(R"({"endpiont":"tcp://*:1"})"));
  EXPECT_FALSE(ParseKvEventsConfig(R"({"buffer_steps":"many"})"));
  EXPECT_FALSE(ParseKvEventsConfig(R"({"publisher":"kafka"})"));
  EXPECT_FALSE(ParseKvEventsConfig("[]"));
  EXPECT_FALSE(ParseKvEventsConfig("{"));
}

TEST(LoraModule, TakesBothForms) {
  EXPECT_EQ(ParseLoraModule("sql=/a/sql")->path, "/a/sql");
  EXPECT_EQ(ParseLoraModule(R"({"name":"sql","path":"/a/sql","base_model_name":"m"})")->name,
            "sql");
  EXPECT_FALSE(ParseLoraModule("sql"));
}

TEST(OffsetEndpoint, RaisesThePort) {
  EXPECT_EQ(*OffsetEndpoint("tcp://*:5557", 3), "tcp://*:5560");
  EXPECT_EQ(*OffsetEndpoint("tcp://*:0", 3), "tcp://*:0");
  EXPECT_EQ(*OffsetEndpoint("inproc://kv", 1), "inproc://kv_dp1");
  EXPECT_FALSE(OffsetEndpoint("tcp://*:65535", 1));
}

TEST(ValidateSimOptions, RefusesOverlappingPortRanges) {
  SimOptions options;
  options.kv_events.enable_kv_cache_events = true;
  options.kv_events.replay_endpoint = "tcp://*:5558";
  EXPECT_TRUE(ValidateSimOptions(options));
  options.count = 2;
  auto status = ValidateSimOptions(options);
  ASSERT_FALSE(status);
  EXPECT_NE(status.error().message.find("overlap"), std::string::npos) << status.error().message;
  options.kv_events.replay_endpoint = "tcp://*:5657";
  EXPECT_TRUE(ValidateSimOptions(options));
  options.data_parallel_size = 60;
  EXPECT_FALSE(ValidateSimOptions(options));
}

TEST(ValidateSimOptions, ThePromptMustFitIntoTheCache) {
  SimOptions options;
  options.num_gpu_blocks = 65;
  options.max_model_len = 1024;
  EXPECT_TRUE(ValidateSimOptions(options));
  options.max_model_len = 1025;
  EXPECT_FALSE(ValidateSimOptions(options));
}

}  // namespace
}  // namespace warmpath::sim
