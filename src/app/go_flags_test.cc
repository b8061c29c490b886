#include "app/go_flags.h"

#include <fmt/ranges.h>
#include <gtest/gtest.h>

#include <iterator>
#include <sstream>

#include "base/units.h"

namespace warmpath::app {
namespace {

const std::vector<GoFlag> kFlags = {{"pool-name", false},        {"pool-namespace", false},
                                    {"verbosity", false, {"v"}}, {"grpc-port", false},
                                    {"enable-pprof", true},      {"secure-serving", true}};

std::string Normalized(std::string_view line) {
  std::vector<std::string> arguments;
  for (const auto word : Split(line, ' ')) arguments.emplace_back(word);
  const auto out = NormalizeGoFlags(arguments, kFlags);
  return out ? fmt::format("{}", fmt::join(*out, " ")) : "error: " + out.error().message;
}

TEST(GoFlags, EverySpellingIsTheFlag) {
  EXPECT_EQ(
      Normalized("-poolName gaie -poolNamespace=ns --v 4 --grpcPort 9002 --enablePprof=true"),
      "--pool-name=gaie --pool-namespace=ns --verbosity=4 --grpc-port=9002 --enable-pprof=true");
  EXPECT_EQ(Normalized("--pool-name=gaie -v=5 -grpc-port 0"),
            "--pool-name=gaie --verbosity=5 --grpc-port=0");
}

TEST(GoFlags, BooleansTakeNoSeparateValue) {
  EXPECT_EQ(Normalized("--secure-serving --v 2"), "--secure-serving=true --verbosity=2");
  EXPECT_EQ(Normalized("--secureServing=F"), "--secure-serving=false");
  EXPECT_EQ(Normalized("--secure-serving false"),
            "error: \"false\" is no flag; flags begin with - or --");
  EXPECT_EQ(Normalized("--secure-serving=yes"),
            "error: --secure-serving: invalid boolean value \"yes\"; true or false");
}

TEST(GoFlags, AValueMayLookLikeAFlag) {
  EXPECT_EQ(Normalized("--pool-name -v"), "--pool-name=-v");
  EXPECT_EQ(Normalized("--pool-name=a=b"), "--pool-name=a=b");
  EXPECT_EQ(Normalized("--pool-name="), "--pool-name=");
}

TEST(GoFlags, ErrorsNameTheFlag) {
  EXPECT_EQ(Normalized("--pool-name"), "error: flag needs an argument: --pool-name");
  EXPECT_EQ(Normalized("serve"), "error: \"serve\" is no flag; flags begin with - or --");
}

TEST(GoFlags, WhatIsUnknownIsLeftForTheFlagLibrary) {
  EXPECT_EQ(Normalized("--nope=1 --v=3"), "--nope=1 --verbosity=3");
  EXPECT_EQ(Normalized("--nope 1 --v=3"), "--nope 1 --verbosity=3");
  EXPECT_EQ(Normalized("--v=3 --help --pool-name"), "--verbosity=3 --help --pool-name");
}

TEST(GoFlags, ArgumentsOfAChartNameTheirCommand) {
  const auto implied = [](const std::string& line) {
    std::istringstream in(line);
    return ImpliedCommand({std::istream_iterator<std::string>(in), {}});
  };
  EXPECT_EQ(implied("-poolName gaie-kv-events -poolNamespace ns --v 4 --grpcPort 9002"), "epp");
  EXPECT_EQ(implied("--v=4 --pool-name=gaie"), "epp");
  EXPECT_EQ(implied("--endpoint-selector app=vllm"), "epp");
  EXPECT_EQ(implied("--port=8000 --vllm-port=8200 --connector=nixlv2 -v=5"), "sidecar");
  EXPECT_EQ(implied("-v=5 --secure-proxy=false"), "sidecar");
  EXPECT_EQ(implied("serve --config-file f"), "");
  EXPECT_EQ(implied("--version"), "");
  EXPECT_EQ(implied("--no-such-flag"), "");
  EXPECT_EQ(implied(""), "");
}

}  // namespace
}  // namespace warmpath::app
