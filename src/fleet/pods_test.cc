#include "fleet/pods.h"

#include <gtest/gtest.h>

#include <memory>

namespace warmpath::fleet {
namespace {

k8s::Pod MakePod(const std::string& name, const std::string& ip) {
  k8s::Pod pod;
  pod.meta.name = name;
  pod.meta.ns = "ns";
  pod.meta.uid = "u-" + name;
  pod.ip = ip;
  pod.ready = true;
  return pod;
}

class EndpointsOfPodsTest : public ::testing::Test {
 protected:
  EndpointsOfPodsTest() {
    view_.synced = view_.pool_exists = true;
    view_.target_ports = {8000};
  }
  void Add(const k8s::Pod& pod) { view_.pods.push_back(std::make_shared<k8s::Pod>(pod)); }
  std::vector<EndpointSpec> Specs() const { return EndpointsOfPods(view_, defaults_); }
  // "name@host:port", one a line.
  std::string Text() const {
    std::string out;
    for (const EndpointSpec& spec : Specs())
      out += spec.name + "@" + spec.url.address.ToString() + "\n";
    return out;
  }

  k8s::PoolView view_;
  PodDefaults defaults_;
};

TEST_F(EndpointsOfPodsTest, DescribesAPodAsAnEndpoint) {
  k8s::Pod pod = MakePod("ms-0", "10.0.0.5");
  pod.meta.labels = {{"llm-d.ai/role", "decode"}};
  pod.restarts = 3;
  Add(pod);
  defaults_.replay_port = 5600;
  const auto specs = Specs();
  ASSERT_EQ(specs.size(), 1u);
  EXPECT_EQ(specs[0].name, "ms-0");
  EXPECT_EQ(specs[0].ns, "ns");
  EXPECT_EQ(specs[0].url.ToString(), "http://10.0.0.5:8000");
  EXPECT_EQ(specs[0].events, "tcp://10.0.0.5:5557");
  EXPECT_EQ(specs[0].replay, "tcp://10.0.0.5:5600");
  EXPECT_EQ(specs[0].labels, pod.meta.labels);
  EXPECT_EQ(specs[0].incarnation, "u-ms-0#3");
  EXPECT_EQ(specs[0].data_parallel, 1);
}

TEST_F(EndpointsOfPodsTest, LeavesOutPodsThatDoNotServe) {
  k8s::Pod pod = MakePod("unready", "10.0.0.1");
  pod.ready = false;
  Add(pod);
  pod = MakePod("terminating", "10.0.0.2");
  pod.meta.deleting = true;
  Add(pod);
  Add(MakePod("pending", ""));
  Add(MakePod("nonsense", "10.0.0.1.evil"));
  Add(MakePod("good", "10.0.0.4"));
  EXPECT_EQ(Text(), "good@10.0.0.4:8000\n");
  view_.pool_exists = false;
  EXPECT_EQ(Text(), "");
}

TEST_F(EndpointsOfPodsTest, MakesOneEndpointOfEachPort) {
  view_.target_ports = {8000, 8001, 8002};
  Add(MakePod("a", "10.0.0.1"));
  EXPECT_EQ(Text(), "a-rank-0@10.0.0.1:8000\na-rank-1@10.0.0.1:8001\na-rank-2@10.0.0.1:8002\n");
  EXPECT_EQ(Specs()[2].events, "tcp://10.0.0.1:5559");
}

TEST_F(EndpointsOfPodsTest, KeepsToTheActivePorts) {
  view_.target_ports = {8000, 8001, 8002};
  k8s::Pod pod = MakePod("a", "10.0.0.1");
  pod.meta.annotations = {{"llm-d.ai/active-ports", " 8002, 8000,x,9"},
                          {"inference.networking.k8s.io/active-ports", "8001"}};
  Add(pod);
  pod = MakePod("b", "10.0.0.2");
  pod.meta.annotations = {{"inference.networking.k8s.io/active-ports", "8001"}};
  Add(pod);
  pod = MakePod("c", "10.0.0.3");
  pod.meta.annotations = {{"llm-d.ai/active-ports", ""}};
  Add(pod);
  EXPECT_EQ(Text(), "a-rank-0@10.0.0.1:8000\na-rank-2@10.0.0.1:8002\nb-rank-1@10.0.0.2:8001\n");
  EXPECT_EQ(Specs()[1].events, "tcp://10.0.0.1:5559");  // by the port's place in the pool
}

TEST_F(EndpointsOfPodsTest, GivesAnAddressToTheYoungestOfItsPods) {
  k8s::Pod lost = MakePod("lost", "10.0.0.1");
  lost.meta.created_s = 100;
  k8s::Pod heir = MakePod("heir", "10.0.0.1");
  heir.meta.created_s = 200;
  Add(heir);
  Add(lost);
  EXPECT_EQ(Text(), "heir@10.0.0.1:8000\n");
}

TEST_F(EndpointsOfPodsTest, WritesIpv6AddressesAsUrlsNeedThem) {
  defaults_.tls = true;
  Add(MakePod("a", "FD00:0::1"));
  const auto specs = Specs();
  EXPECT_EQ(specs[0].url.ToString(), "https://[fd00::1]:8000");
  EXPECT_EQ(specs[0].events, "tcp://[fd00::1]:5557");
}

TEST_F(EndpointsOfPodsTest, NamesNoEventsAddressThatCannotBe) {
  view_.target_ports = {8000, 8001};
  defaults_.events_port = 65535;
  Add(MakePod("a", "10.0.0.1"));
  EXPECT_EQ(Specs()[0].events, "tcp://10.0.0.1:65535");
  EXPECT_EQ(Specs()[1].events, "");
  defaults_.events_port = 0;
  EXPECT_EQ(Specs()[0].events, "");
}

}  // namespace
}  // namespace warmpath::fleet
