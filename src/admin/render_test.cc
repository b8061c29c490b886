#include "admin/render.h"

#include <gtest/gtest.h>

namespace warmpath::admin {
namespace {

codec::Json Parse(std::string_view text) {
  auto json = codec::ParseJson(text);
  EXPECT_TRUE(json) << json.error().message;
  return *json;
}

TEST(RenderEndpoints, ShowsOneLineEachAndWhatToChange) {
  const std::string text = RenderEndpoints(Parse(R"({"endpoints":[
    {"name":"a","url":"http://h:1","state":"healthy","models":[{"id":"m"}],"block_size":16,"blocks":12,
     "capacity_blocks":400,"events":{"connected":true,"last_seq":7,"received":8,"gaps":0,"errors":1},
     "load":{"running":2,"waiting":1,"kv_usage":0.25},"prediction":{"exact":3,"requests":4},
     "token_parity":{"equal":4,"checked":4},"notes":[{"code":"hybrid","text":"hybrid: over-predicts"}]},
    {"name":"b\u001b[2J","url":"http://h:2","state":"unhealthy","reason":"connection refused",
     "events":{"connected":false,"silent":true}}]})"));
  EXPECT_EQ(text,
            "NAME   URL         STATE      MODELS  BLOCK  RESIDENT  CAPACITY  EVENTS  SEQ  "
            "RECEIVED  GAPS  ERRORS  RUN  WAIT    KV  PREDICTED  PARITY\n"
            "a      http://h:1  healthy    m          16        12       400  live      7  "
            "       8     0       1    2     1  0.25      75.0%  100.0%\n"
            "b?[2J  http://h:2  unhealthy  -           -         -         -  silent    -  "
            "       -     -       -    -     -     -          -       -\n"
            "\n"
            "a: hybrid: over-predicts\n"
            "b?[2J: connection refused\n");
}

TEST(RenderEndpoints, SurvivesAnAnswerOfAnotherShape) {
  for (const char* text :
       {"{}", "[]", "null", R"({"endpoints":3})", R"({"endpoints":[3,null,{"events":[]}]})"}) {
    EXPECT_FALSE(RenderEndpoints(Parse(text)).empty());
    EXPECT_FALSE(RenderExplain(Parse(text)).empty());
  }
}

constexpr std::string_view kExplanation = R"("model":"m","prompt_tokens":200,"tokens_note":null,
  "weights":{"prefix":2,"queue":1.5},"endpoints":[
  {"name":"a","url":"http://h:1","block_size":16,"matched_blocks":0,"cached_tokens":0,
   "expected_cached_tokens":0,"scores":{"prefix":0},"total":null,"filtered_by":"some-filter"},
  {"name":"b","url":"http://h:2","block_size":16,"matched_blocks":10,"cached_tokens":160,
   "expected_cached_tokens":160,"scores":{"prefix":1,"queue":0.5},"total":2.75,"filtered_by":null}],
  "chosen":"b","why":"warmest: 160 of 200 tokens")";

TEST(RenderExplain, ShowsEveryEndpointWithItsScores) {
  EXPECT_EQ(RenderExplain(Parse("{" + std::string(kExplanation) + "}")),
            "model m, 200 prompt tokens -> b (warmest: 160 of 200 tokens)\n"
            "\n"
            "   ENDPOINT  URL         BLOCK  MATCHED  CACHED  EXPECTED  prefix x2  queue x1.5  "
            "TOTAL  FILTERED BY\n"
            "   a         http://h:1     16        0       0         0      0.000           -      "
            "-  some-filter\n"
            "*  b         http://h:2     16       10     160       160      1.000       0.500  "
            "2.750  -\n");
}

TEST(RenderExplain, SaysWhatBecameOfAServedRequest) {
  const std::string text =
      RenderExplain(Parse("{\"request_id\":\"r-1\"," + std::string(kExplanation) +
                          R"(,"status":200,"aborted":true,"attempts":2,
      "delivered_cached_tokens":144,"decision_ms":0.25,"first_byte_ms":12.5,"total_ms":null})"));
  EXPECT_NE(text.find("request r-1: model m, 200 prompt tokens -> b"), std::string::npos) << text;
  EXPECT_NE(
      text.find("status 200 (client went away), 2 attempt(s), engine reported 144 cached tokens; "
                "decided in 0.25 ms, first byte 12.5 ms, total - ms\n"),
      std::string::npos)
      << text;
}

}  // namespace
}  // namespace warmpath::admin
