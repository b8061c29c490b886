#include "fleet/endpoints_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <fstream>
#include <string>

namespace warmpath::fleet {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::StartsWith;

Result<std::vector<EndpointSpec>> Parse(std::string_view text,
                                        const EndpointsFileDefaults& defaults = {}) {
  return ParseEndpointsFile(text, "f.yaml", defaults);
}

std::string ErrorOf(std::string_view text) {
  const auto specs = Parse(text);
  if (specs) return "accepted";
  EXPECT_EQ(specs.error().message.find('\n'), std::string::npos);
  return specs.error().message;
}

TEST(EndpointsFile, ReadsLlmdsFormat) {
  const auto specs = Parse(
      "endpoints:\n"
      "- name: a\n"
      "  namespace: team\n"
      "  address: 10.0.0.5\n"
      "  port: \"8000\"\n"
      "  labels:\n"
      "    llm-d.ai/role: decode\n"
      "    number: 1\n"
      "- {name: b, address: 10.0.0.6, port: 8001}\n");
  ASSERT_TRUE(specs) << specs.error().message;
  ASSERT_EQ(specs->size(), 2u);
  const EndpointSpec& a = specs->front();
  EXPECT_EQ(a.name, "a");
  EXPECT_EQ(a.ns, "team");
  EXPECT_EQ(a.url.ToString(), "http://10.0.0.5:8000");
  EXPECT_EQ(a.labels.at("llm-d.ai/role"), "decode");
  EXPECT_EQ(a.labels.at("number"), "1");
  EXPECT_EQ(a.events, "tcp://10.0.0.5:5557");
  EXPECT_EQ(a.replay, "");
  EXPECT_EQ(specs->back().ns, "default");
  EXPECT_EQ(specs->back().url.address.port, 8001);
}

TEST(EndpointsFile, ReadsOurKeysIpv6AndNames) {
  const auto specs = Parse(
      "endpoints:\n"
      "- {name: a, address: 'FD00:0:0::5', port: 8000}\n"
      "- {name: b, address: '[fd00::6]', port: 8000, events: none}\n"
      "- {name: c, address: engine-0.engines.svc, port: 8000, dp: 2,\n"
      "   events: 'tcp://engine-0:6000', replay: 'tcp://engine-0:6100'}\n",
      {5557, 5657});
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_EQ((*specs)[0].url.ToString(), "http://[fd00::5]:8000");
  EXPECT_EQ((*specs)[0].events, "tcp://[fd00::5]:5557");
  EXPECT_EQ((*specs)[0].replay, "tcp://[fd00::5]:5657");
  EXPECT_EQ((*specs)[1].url.address.host, "fd00::6");
  EXPECT_EQ((*specs)[1].events, "");
  EXPECT_EQ((*specs)[2].url.address.host, "engine-0.engines.svc");
  EXPECT_EQ((*specs)[2].data_parallel, 2);
  EXPECT_EQ((*specs)[2].events, "tcp://engine-0:6000");
  EXPECT_EQ((*specs)[2].replay, "tcp://engine-0:6100");
}

TEST(EndpointsFile, GuessesNoEventsOnASharedHostOrWithoutAPort) {
  const std::string text =
      "endpoints:\n- {name: a, address: 127.0.0.1, port: 1}\n"
      "- {name: b, address: 127.0.0.1, port: 2, events: 'tcp://127.0.0.1:6000'}\n"
      "- {name: c, address: 127.0.0.2, port: 1}\n";
  const auto specs = Parse(text);
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_EQ((*specs)[0].events, "");
  EXPECT_EQ((*specs)[1].events, "tcp://127.0.0.1:6000");
  EXPECT_EQ((*specs)[2].events, "tcp://127.0.0.2:5557");
  EXPECT_EQ(Parse(text, {0, 0})->back().events, "");
}

TEST(EndpointsFile, AnEmptyListIsAListAndNothingElseIs) {
  ASSERT_TRUE(Parse("endpoints: []"));
  EXPECT_TRUE(Parse("endpoints: []")->empty());
  EXPECT_EQ(ErrorOf(""), "f.yaml:1: must be a map with the list endpoints");
  EXPECT_EQ(ErrorOf("# nothing\n{}\n"), "f.yaml:2: endpoints: is missing");
  EXPECT_EQ(ErrorOf("\nendpoints:\n"), "f.yaml:2: endpoints: must be a list ([] for an empty one)");
}

TEST(EndpointsFile, NamesAreUniqueWithinTheirNamespace) {
  const auto specs = Parse(
      "endpoints:\n- {name: a, address: 10.0.0.1, port: 1}\n"
      "- {name: a, namespace: x, address: 10.0.0.2, port: 1}\n"
      "- {name: b, namespace: x, address: 10.0.0.3, port: 1}\n");
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_EQ((*specs)[0].name, "a");
  EXPECT_EQ((*specs)[1].name, "x/a");
  EXPECT_EQ((*specs)[2].name, "b");
  EXPECT_EQ(ErrorOf("endpoints:\n- {name: a, address: 10.0.0.1, port: 1}\n"
                    "- {name: a, address: 10.0.0.2, port: 1}\n"),
            "f.yaml:3: endpoints[1].name: default/a is already endpoints[0]");
  EXPECT_EQ(ErrorOf("endpoints:\n- {name: a, address: '::1', port: 1}\n"
                    "- {name: b, address: '0:0::1', port: 1}\n"),
            "f.yaml:3: endpoints[1].address: [::1]:1 is already endpoints[0]");
}

TEST(EndpointsFile, ErrorsSayWhereAndWhat) {
  const auto entry = [](const std::string& rest) {
    return ErrorOf("endpoints:\n- name: a\n  address: 10.0.0.1\n  port: 80\n  " + rest);
  };
  EXPECT_EQ(ErrorOf("endpoints:\n- name: a\n  address: 10.0.0.1\n"),
            "f.yaml:2: endpoints[0].port: is missing");
  EXPECT_EQ(entry("prot: 1\n"),
            "f.yaml:5: endpoints[0].prot: unknown field; allowed: name, namespace, address, port, "
            "labels, events, replay, dp");
  EXPECT_THAT(entry("dp: 0\n"), StartsWith("f.yaml:5: endpoints[0].dp: must be a whole number"));
  EXPECT_THAT(entry("dp: [1]\n"), HasSubstr("endpoints[0].dp"));
  EXPECT_THAT(entry("namespace: a/b\n"), HasSubstr("endpoints[0].namespace: must be"));
  EXPECT_THAT(entry("namespace: {a: b}\n"), HasSubstr("namespace: must be a string"));
  EXPECT_THAT(entry("labels: x\n"), HasSubstr("labels: must be a map of strings"));
  EXPECT_THAT(entry("labels: {a: [b]}\n"), HasSubstr("endpoints[0].labels.a: must be printable"));
  EXPECT_THAT(entry("events: ipc:///x\n"), HasSubstr("\"ipc:///x\": must be tcp://HOST:PORT"));
  EXPECT_THAT(entry("events: tcp://h:65535\n  dp: 2\n"), HasSubstr("port out of range"));
  EXPECT_THAT(ErrorOf("endpoints: [3]"), HasSubstr("f.yaml:1: endpoints[0]: must be a map"));
  EXPECT_THAT(ErrorOf("endpoints: []\nother: 1\n"),
              HasSubstr("f.yaml:2: other: unknown field; allowed: endpoints"));
  EXPECT_EQ(ErrorOf("\"a\\nb\": 1\n"), "f.yaml:1: a?b: unknown field; allowed: endpoints");
  EXPECT_THAT(ErrorOf("endpoints: [\n"), StartsWith("f.yaml:"));
  EXPECT_THAT(ErrorOf("- 1\n"), HasSubstr("must be a map"));
  for (const char* address : {"10.0.0.256", "10.0.0", "1", "a b", "http://x", "x:80", "-x", "''",
                              "fe80::1%eth0", "[10.0.0.1]"}) {
    EXPECT_THAT(
        ErrorOf("endpoints:\n- {name: a, port: 1, address: \"" + std::string(address) + "\"}\n"),
        HasSubstr("f.yaml:2: endpoints[0].address: "))
        << address;
  }
  for (const char* port : {"0", "65536", "-1", "x", "80.5", "'80 '", "''"}) {
    EXPECT_THAT(ErrorOf("endpoints:\n- {name: a, address: h, port: " + std::string(port) + "}\n"),
                HasSubstr("endpoints[0].port: "))
        << port;
  }
}

TEST(EndpointsFile, RefusesOverlappingEvents) {
  EXPECT_EQ(ErrorOf("endpoints:\n"
                    "- {name: a, address: 10.0.0.1, port: 1, dp: 2, events: 'tcp://h:6000'}\n"
                    "- name: b\n  address: 10.0.0.2\n  port: 1\n  events: tcp://h:6001\n"),
            "f.yaml:6: endpoints[1].events: tcp://h:6001 overlaps with tcp://h:6000 of "
            "endpoints[0] (rank r uses port + r)");
}

TEST(EndpointsFile, IsBounded) {
  EXPECT_THAT(ErrorOf("endpoints: []" + std::string(kMaxEndpointsFileBytes, '\n')),
              AllOf(HasSubstr("f.yaml: "), HasSubstr("1 MiB")));
  std::string text = "endpoints:\n";
  for (size_t i = 0; i < kMaxEndpoints; ++i) {
    text += "- {name: e" + std::to_string(i) + ", address: 10.1." + std::to_string(i / 250) + "." +
            std::to_string(i % 250) + ", port: 8000, labels: {r: d}}\n";
  }
  ASSERT_LT(text.size(), kMaxEndpointsFileBytes);
  const auto specs = Parse(text);
  ASSERT_TRUE(specs) << specs.error().message;
  EXPECT_EQ(specs->size(), kMaxEndpoints);
  EXPECT_THAT(ErrorOf(text + "- {name: x, address: h, port: 1}\n"), HasSubstr("at most 10000"));
}

TEST(EndpointsFile, LoadsFromDisk) {
  const std::string path = testing::TempDir() + "/endpoints_file_test.yaml";
  EXPECT_THAT(LoadEndpointsFile(path + ".none", {}).error().message,
              HasSubstr("endpoints_file_test.yaml.none: No such file"));
  EXPECT_FALSE(LoadEndpointsFile(testing::TempDir(), {}));
  std::ofstream(path) << "endpoints:\n- {name: a, address: h, port: 1}\n- {}\n";
  EXPECT_EQ(LoadEndpointsFile(path, {}).error().message,
            path + ":3: endpoints[1].name: is missing");
  std::ofstream(path) << "endpoints:\n- {name: a, address: h, port: 1}\n";
  EXPECT_EQ(LoadEndpointsFile(path, {})->size(), 1u);
  std::remove(path.c_str());
}

}  // namespace
}  // namespace warmpath::fleet
