#include "k8s/cluster.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "k8s/kubeconfig.h"
#include "net/tls_testing.h"

namespace warmpath::k8s {
namespace {

using ::testing::HasSubstr;

constexpr char kKubeconfig[] = R"(
apiVersion: v1
kind: Config
current-context: dev
contexts:
- name: prod
  context: {cluster: east, user: root, namespace: live}
- name: dev
  context: {cluster: west, user: robot, namespace: team-a}
clusters:
- name: west
  cluster:
    server: https://west.example:6443/k8s
    certificate-authority-data: UEVN
    tls-server-name: api.west
- name: east
  cluster:
    server: https://[fd00::1]
    certificate-authority: pki/ca.crt
users:
- name: robot
  user: {token: abc}
- name: root
  user: {client-certificate: /etc/root.crt, client-key-data: S0VZ, tokenFile: token}
)";

struct ClusterTest : ::testing::Test {
  ClusterTest() {
    surroundings.env = [this](const char* name) { return env[name]; };
    surroundings.service_account_dir = directory.Path("sa");
    surroundings.home = directory.Path("home");
  }
  ClusterConfig Found(const std::string& kubeconfig = "") {
    const auto config = FindCluster(kubeconfig, surroundings);
    EXPECT_TRUE(config) << config.error().message;
    EXPECT_TRUE(ClusterConfigured(kubeconfig, surroundings));
    return config.value_or(ClusterConfig{});
  }
  std::string Error(const std::string& kubeconfig = "") {
    const auto config = FindCluster(kubeconfig, surroundings);
    EXPECT_FALSE(config);
    return config ? "" : config.error().message;
  }
  // Of the text with one part replaced.
  std::string ErrorWith(const std::string& part, const std::string& other) {
    std::string text = kKubeconfig;
    const size_t at = text.find(part);
    EXPECT_NE(at, text.npos) << part;
    text.replace(at, part.size(), other);
    const auto config = ReadKubeconfig({{"file", text}});
    EXPECT_FALSE(config) << other;
    return config ? "" : config.error().message;
  }

  net::testing::TestDirectory directory;
  std::map<std::string, std::string> env;
  Surroundings surroundings;
};

TEST_F(ClusterTest, AKubeconfigGivesItsCurrentContext) {
  const std::string path = directory.Write("config", kKubeconfig);
  const ClusterConfig config = Found(path);
  EXPECT_EQ(config.server.ToString(), "https://west.example:6443/k8s");
  EXPECT_EQ(config.source, path + ", context \"dev\"");
  EXPECT_EQ(config.ns, "team-a");
  EXPECT_EQ(config.ca_pem, "PEM");
  EXPECT_EQ(config.ca_file, "");
  EXPECT_EQ(config.tls_server_name, "api.west");
  EXPECT_EQ(config.token, "abc");
  EXPECT_TRUE(config.verify);
}

TEST_F(ClusterTest, PathsStartAtTheFileThatNamesThem) {
  std::string text = kKubeconfig;
  text.replace(text.find("current-context: dev"), 20, "current-context: prod");
  const ClusterConfig config = Found(directory.Write("x/config", text));
  EXPECT_EQ(config.server.address.host, "fd00::1");
  EXPECT_EQ(config.server.address.port, 443);
  EXPECT_EQ(config.ca_file, directory.Path("x/pki/ca.crt"));
  EXPECT_EQ(config.cert_file, "/etc/root.crt");
  EXPECT_EQ(config.key_pem, "KEY");
  EXPECT_EQ(config.token_file, directory.Path("x/token"));
  EXPECT_EQ(config.ns, "live");
}

TEST_F(ClusterTest, FilesOfTheListAreMergedTheFirstWins) {
  const std::string first = directory.Write("a/one", R"(
current-context: mine
users: [{name: robot, user: {tokenFile: t}}]
)");
  const std::string second = directory.Write("b/two", R"(
current-context: dev
contexts: [{name: mine, context: {cluster: west, user: robot}}]
users: [{name: robot, user: {token: other}}]
)");
  const std::string third = directory.Write("three", kKubeconfig);
  env["KUBECONFIG"] = directory.Path("missing") + ":" + first + "::" + second + ":" + third;
  const ClusterConfig config = Found();
  EXPECT_EQ(config.source, second + ", context \"mine\"");
  EXPECT_EQ(config.server.address.host, "west.example");
  EXPECT_EQ(config.token, "");
  EXPECT_EQ(config.token_file, directory.Path("a/t"));
  EXPECT_EQ(config.ns, "");
}

TEST_F(ClusterTest, APodUsesItsServiceAccount) {
  env["KUBERNETES_SERVICE_HOST"] = "fd00::1";
  env["KUBERNETES_SERVICE_PORT"] = "6443";
  directory.Write("home/.kube/config", kKubeconfig);
  directory.Write("sa/token", "t");
  directory.Write("sa/namespace", "team-b\n");
  ClusterConfig config = Found();
  EXPECT_EQ(config.source, "in-cluster");
  EXPECT_EQ(config.server.ToString(), "https://[fd00::1]:6443");
  EXPECT_EQ(config.token_file, directory.Path("sa/token"));
  EXPECT_EQ(config.ca_file, "");
  EXPECT_EQ(config.ns, "team-b");
  directory.Write("sa/ca.crt", "x");
  env["KUBERNETES_SERVICE_PORT"] = "";
  config = Found();
  EXPECT_EQ(config.ca_file, directory.Path("sa/ca.crt"));
  EXPECT_EQ(config.server.address.port, 443);
  env["KUBERNETES_SERVICE_PORT"] = "tcp://10.0.0.1:443";
  EXPECT_THAT(Error(), HasSubstr("in-cluster: KUBERNETES_SERVICE_PORT is no port"));
}

TEST_F(ClusterTest, PlacesAreLookedAtInOrder) {
  EXPECT_FALSE(ClusterConfigured("", surroundings));
  EXPECT_EQ(Error(),
            "no Kubernetes API is configured: no kubeconfig is named; KUBECONFIG is not set; "
            "KUBERNETES_SERVICE_HOST is not set; " +
                directory.Path("home/.kube/config") + " does not exist");
  env["KUBERNETES_SERVICE_HOST"] = "10.0.0.1";
  EXPECT_FALSE(ClusterConfigured("", surroundings));
  EXPECT_THAT(Error(), HasSubstr("KUBERNETES_SERVICE_HOST is set, but " +
                                 directory.Path("sa/token") + " does not exist"));
  const std::string home = directory.Write("home/.kube/config", kKubeconfig);
  EXPECT_EQ(Found().source, home + ", context \"dev\"");
  directory.Write("sa/token", "t");
  EXPECT_EQ(Found().source, "in-cluster");
  env["KUBECONFIG"] = directory.Write("env", kKubeconfig);
  EXPECT_EQ(Found().source, env["KUBECONFIG"] + ", context \"dev\"");
  const std::string flag = directory.Write("flag", kKubeconfig);
  EXPECT_EQ(Found(flag).source, flag + ", context \"dev\"");
  EXPECT_THAT(Error(directory.Path("nothing")), HasSubstr("nothing: No such file"));
  env["KUBECONFIG"] = "/nowhere/a:/nowhere/b";
  EXPECT_EQ(Error(), "KUBECONFIG: none of its files exists: /nowhere/a:/nowhere/b");
}

TEST_F(ClusterTest, WhatIsNotSupportedIsRefusedByName) {
  for (const auto& [user, what] :
       std::map<std::string, std::string>{{"exec: {command: aws}", "exec is not supported"},
                                          {"auth-provider: {name: gcp}", "auth-provider is not"},
                                          {"username: me", "username is not supported"},
                                          {"as: admin", "as is not supported"}}) {
    EXPECT_THAT(ErrorWith("{token: abc}", "{" + user + "}"),
                ::testing::AllOf(HasSubstr("file:22: user \"robot\": " + what),
                                 HasSubstr("(of context \"dev\")")));
  }
  EXPECT_THAT(ErrorWith("tls-server-name: api.west", "proxy-url: http://proxy:3128"),
              HasSubstr("file:15: cluster \"west\": proxy-url is not supported"));
}

TEST_F(ClusterTest, ErrorsNameTheFileTheEntryAndTheField) {
  EXPECT_EQ(ErrorWith("current-context: dev", "current-context: ''"),
            "file: current-context is not set");
  EXPECT_EQ(ErrorWith("current-context: dev", "current-context: test"),
            "file: no context \"test\" among contexts (prod, dev)");
  EXPECT_EQ(ErrorWith("cluster: west", "cluster: north"),
            "file: no cluster \"north\" among clusters (west, east) (of context \"dev\")");
  EXPECT_EQ(ErrorWith("user: robot", "user: nobody"),
            "file: no user \"nobody\" among users (robot, root) (of context \"dev\")");
  EXPECT_THAT(ErrorWith("https://west.example:6443/k8s", "ftp://x"),
              HasSubstr("cluster \"west\": server: "));
  EXPECT_THAT(ErrorWith("server: https://west.example:6443/k8s", "x: y"),
              HasSubstr("server is missing"));
  EXPECT_THAT(ErrorWith("UEVN", "U$VN"), HasSubstr("certificate-authority-data: not base64"));
  EXPECT_THAT(ErrorWith("tls-server-name: api.west", "insecure-skip-tls-verify: true"),
              HasSubstr("insecure-skip-tls-verify together with certificate-authority"));
  EXPECT_THAT(ErrorWith("tls-server-name: api.west", "insecure-skip-tls-verify: [1]"),
              HasSubstr("insecure-skip-tls-verify must be true or false"));
  EXPECT_THAT(ErrorWith("{token: abc}", "{token: [a]}"), HasSubstr("token must be a text"));
  EXPECT_THAT(ErrorWith("{token: abc}", "{client-key-data: S0VZ}"),
              HasSubstr("client-key without client-certificate"));
  EXPECT_THAT(ErrorWith("{token: abc}", "7"), HasSubstr("user must hold fields"));
  EXPECT_THAT(ErrorWith("users:\n", "users: 7\nothers:\n"), HasSubstr("users must be a list"));
  EXPECT_THAT(ErrorWith("kind: Config", "kind: [Config"), HasSubstr("file: line "));
  EXPECT_EQ(ReadKubeconfig({{"f", "- a"}}).error().message, "f: not a kubeconfig");
  EXPECT_EQ(ReadKubeconfig({{"f", ""}, {"g", ""}}).error().message,
            "f, g: current-context is not set");
}

TEST_F(ClusterTest, AContextWithoutUserHasNoCredentials) {
  const auto config = ReadKubeconfig({{"f", R"({"current-context": "a",
    "contexts": [{"name": "a", "context": {"cluster": "c"}}],
    "clusters": [{"name": "c", "cluster": {"server": "http://127.0.0.1:8001",
                  "insecure-skip-tls-verify": true}}]})"}});
  ASSERT_TRUE(config);
  EXPECT_FALSE(config->server.tls);
  EXPECT_FALSE(config->verify);
  EXPECT_EQ(config->token, "");
}

TEST(DecodeBase64, ReadsTheStandardAlphabet) {
  EXPECT_EQ(DecodeBase64("").value(), "");
  EXPECT_EQ(DecodeBase64("QQ==").value(), "A");
  EXPECT_EQ(DecodeBase64("QUI=").value(), "AB");
  EXPECT_EQ(DecodeBase64("QU\n JD\r\n").value(), "ABC");
  EXPECT_EQ(DecodeBase64("+/+/").value(), "\xfb\xff\xbf");
  for (const char* text : {"Q", "QQ", "QQ=", "QQ=A", "QQ===", "====", "Q-==", "QUJD="}) {
    EXPECT_FALSE(DecodeBase64(text)) << text;
  }
}

}  // namespace
}  // namespace warmpath::k8s
