#include "fleet/endpoint.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace warmpath::fleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string ErrorOf(const std::vector<std::string>& flags, bool bind = false) {
  const auto specs = ParseEndpoints(flags, bind);
  if (specs) return "accepted";
  EXPECT_EQ(specs.error().code, Code::kInvalidArgument);
  return specs.error().message;
}

TEST(ParseEndpoints, ReadsEveryKey) {
  const auto specs = ParseEndpoints(
      {"http://10.0.0.5:8000,events=tcp://10.0.0.5:5557,replay=tcp://10.0.0.5:5657,dp=2,name=a,"
       "label.role=decode,label.zone=eu-1"},
      false);
  ASSERT_TRUE(specs) << specs.error().message;
  ASSERT_EQ(specs->size(), 1u);
  const EndpointSpec& spec = specs->front();
  EXPECT_EQ(spec.name, "a");
  EXPECT_EQ(spec.url.ToString(), "http://10.0.0.5:8000");
  EXPECT_EQ(spec.events, "tcp://10.0.0.5:5557");
  EXPECT_EQ(spec.replay, "tcp://10.0.0.5:5657");
  EXPECT_EQ(spec.data_parallel, 2);
  EXPECT_EQ(spec.labels.at("role"), "decode");
  EXPECT_EQ(spec.labels.at("zone"), "eu-1");
}

TEST(ParseEndpoints, DefaultsNameAndEvents) {
  const auto specs = ParseEndpoints({"http://a:8000", "https://b", "http://[::1]:9000"}, false);
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_EQ((*specs)[0].name, "a:8000");
  EXPECT_EQ((*specs)[0].events, "tcp://a:5557");
  EXPECT_EQ((*specs)[1].name, "b:443");
  EXPECT_TRUE((*specs)[1].url.tls);
  EXPECT_EQ((*specs)[2].events, "tcp://[::1]:5557");
  EXPECT_EQ((*specs)[0].data_parallel, 1);
  EXPECT_TRUE((*specs)[0].replay.empty());
}

TEST(ParseEndpoints, RefusesToGuessEventsOnASharedHost) {
  EXPECT_THAT(ErrorOf({"http://h:8000", "http://h:8001"}),
              AllOf(HasSubstr("--endpoint \"http://h:8000\""), HasSubstr("h:8000, h:8001"),
                    HasSubstr("events=")));
  EXPECT_THAT(ErrorOf({"http://h:8000,events=tcp://h:6000", "http://h:8001"}),
              HasSubstr("--endpoint \"http://h:8001\""));
  EXPECT_EQ(ErrorOf({"http://h:8000,events=tcp://h:6000", "http://h:8001,events=tcp://h:6001"}),
            "accepted");
  EXPECT_EQ(ErrorOf({"http://h:8000,events=tcp://h:6000", "http://h:8001,events=none"}),
            "accepted");
}

TEST(ParseEndpoints, LeavesEventsEmptyInBindMode) {
  const auto specs = ParseEndpoints({"http://h:8000", "http://h:8001,events=tcp://h:6001"}, true);
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_TRUE((*specs)[0].events.empty());
  EXPECT_EQ((*specs)[1].events, "tcp://h:6001");
}

TEST(ParseEndpoints, RefusesDuplicates) {
  EXPECT_THAT(ErrorOf({"http://h:80", "http://h"}),
              HasSubstr("same URL as --endpoint \"http://h:80\""));
  EXPECT_THAT(ErrorOf({"http://a,name=x", "http://b,name=x"}),
              HasSubstr("name \"x\" is already used"));
  EXPECT_THAT(ErrorOf({"http://h:1,events=tcp://h:5557,dp=2", "http://h:2,events=tcp://h:5558"}),
              HasSubstr("overlaps"));
  EXPECT_THAT(ErrorOf({"http://h:1,name=a,name=b"}), HasSubstr("name given twice"));
  EXPECT_THAT(ErrorOf({"http://h:1,label.a=1,label.a=2"}), HasSubstr("label.a given twice"));
}

TEST(ParseEndpoints, QuotesTheValueAndSaysWhatIsAllowed) {
  EXPECT_THAT(
      ErrorOf({"http://h:1,evnts=tcp://h:5"}),
      AllOf(HasSubstr("--endpoint \"http://h:1,evnts=tcp://h:5\""),
            HasSubstr("unknown key \"evnts\"; allowed: events, replay, dp, name, label.KEY")));
  EXPECT_THAT(ErrorOf({"http://h:1,fast"}), HasSubstr("\"fast\" is not KEY=VALUE"));
  EXPECT_THAT(ErrorOf({"http://h:1,"}), HasSubstr("is not KEY=VALUE"));
  EXPECT_THAT(ErrorOf({"http://h:1,dp=0"}), HasSubstr("dp=0 must be a whole number 1..1024"));
  EXPECT_THAT(ErrorOf({"http://h:1,dp=x"}), HasSubstr("dp=x"));
  EXPECT_THAT(ErrorOf({"http://h:1,name=a b"}), HasSubstr("name=a b"));
  EXPECT_THAT(ErrorOf({"http://h:1,name="}), HasSubstr("name="));
  EXPECT_THAT(ErrorOf({"http://h:1,label.=x"}), HasSubstr("label."));
  EXPECT_THAT(ErrorOf({"http://h:1,events=ipc:///x"}),
              HasSubstr("events=ipc:///x: must be tcp://HOST:PORT"));
  EXPECT_THAT(ErrorOf({"http://h:1,events=tcp://*:5557"}), HasSubstr("events=tcp://*:5557"));
  EXPECT_THAT(ErrorOf({"http://h:1,events=tcp://h:65535,dp=2"}), HasSubstr("port out of range"));
  EXPECT_THAT(ErrorOf({"http://h:1,replay=h:5"}), HasSubstr("replay=h:5"));
  EXPECT_THAT(ErrorOf({"ftp://h"}), HasSubstr("--endpoint \"ftp://h\""));
  EXPECT_THAT(ErrorOf({""}), HasSubstr("--endpoint \"\""));
}

TEST(Endpoint, FindsModelsByNameAndTheBaseByDefault) {
  Endpoint endpoint;
  endpoint.models = {{"sql", "/m/sql", "base"}, {"base", "base", ""}};
  ASSERT_NE(endpoint.FindModel(""), nullptr);
  EXPECT_EQ(endpoint.FindModel("")->id, "base");
  EXPECT_EQ(endpoint.FindModel("sql")->id, "sql");
  EXPECT_EQ(endpoint.FindModel("other"), nullptr);
}

TEST(DescribeTable, AlignsColumnsAndDefusesNames) {
  auto one = std::make_shared<Endpoint>();
  one->spec = ParseEndpoints({"http://a:8000"}, false).value().front();
  one->health = Health::kHealthy;
  one->models = {{"Qwen/Qwen3\x1b[2J", "", ""}};
  one->load.block_size = 16;
  one->load.kv_blocks = 4096;
  auto two = std::make_shared<Endpoint>();
  two->spec = ParseEndpoints({"http://long-name:8000,events=none"}, false).value().front();
  Snapshot snapshot;
  snapshot.endpoints = {one, two};
  EXPECT_EQ(
      DescribeTable(snapshot),
      "NAME            URL                    STATE    MODELS          BLOCK  BLOCKS  EVENTS\n"
      "a:8000          http://a:8000          healthy  Qwen/Qwen3?[2J     16    4096  "
      "tcp://a:5557\n"
      "long-name:8000  http://long-name:8000  unknown  -                   -       -  -\n");
}

}  // namespace
}  // namespace warmpath::fleet
