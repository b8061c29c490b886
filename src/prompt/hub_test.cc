#include "prompt/hub.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <iterator>
#include <map>
#include <optional>
#include <thread>

#include "base/hash.h"
#include "base/log.h"
#include "base/mutex.h"
#include "net/http_server.h"
#include "net/testing.h"
#include "prompt/hub_url.h"
#include "prompt/tokenizer.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;
using net::testing::Eventually;
using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr const char* kCommit = "0123456789abcdef0123456789abcdef01234567";
constexpr const char* kTag = "89abcdef0123456789abcdef0123456789abcdef";
const std::string kToken = "hf_secret";

std::string Read(const fs::path& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

// A hub of the test's own: answers by path, and remembers what it was asked.
class FakeHub {
 public:
  struct Reply {
    int status = 200;
    net::Headers headers{};
    std::string body{};
    bool silent = false;  // never answers
  };
  using Script = std::function<Reply(const net::HttpRequest&)>;

  explicit FakeHub(Script script) : script_(std::move(script)) {
    server_ = net::HttpServer::Listen(loop_, {"127.0.0.1", 0}, {},
                                      [this](std::shared_ptr<net::HttpExchange> exchange) {
                                        Answer(std::move(exchange));
                                      })
                  .value();
    loop_.Start();
  }
  ~FakeHub() {
    server_->Stop(Duration::zero());
    loop_.Stop();
  }
  std::string url() const { return "http://127.0.0.1:" + std::to_string(server_->port()); }
  std::vector<net::HttpRequest> requests() const {
    MutexLock lock(mutex_);
    return requests_;
  }
  size_t Count(std::string_view target) const {
    size_t count = 0;
    for (const auto& request : requests()) count += request.target == target ? 1 : 0;
    return count;
  }

 private:
  void Answer(std::shared_ptr<net::HttpExchange> exchange) {
    {
      MutexLock lock(mutex_);
      requests_.push_back(exchange->request());
    }
    Reply reply = script_(exchange->request());
    if (reply.silent) {
      held_.push_back(std::move(exchange));
    } else {
      exchange->Respond(reply.status, std::move(reply.headers), std::move(reply.body));
    }
  }

  const Script script_;
  mutable Mutex mutex_;
  std::vector<net::HttpRequest> requests_ GUARDED_BY(mutex_);
  net::Loop loop_{"hub"};
  std::unique_ptr<net::HttpServer> server_;
  std::vector<std::shared_ptr<net::HttpExchange>> held_;  // the loop's
};

FakeHub::Reply Missing() {
  return {404, {{"X-Error-Code", "EntryNotFound"}, {"X-Repo-Commit", kCommit}}};
}

// tokenizer.json and tokenizer_config.json of org/model, nothing else.
FakeHub::Reply Model(const net::HttpRequest& request) {
  const net::Headers headers = {{"X-Repo-Commit", kCommit},
                                {"ETag", std::string("W/\"") + kTag + "\""}};
  if (request.target == "/org/model/resolve/main/tokenizer.json") return {200, headers, "{}"};
  if (request.target == std::string("/org/model/resolve/") + kCommit + "/tokenizer_config.json") {
    return {200, {{"X-Repo-Commit", kCommit}}, R"({"a":1})"};
  }
  return Missing();
}

class Hub : public testing::Test {
 protected:
  static constexpr const char* kVariables[] = {
      "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",       "XDG_CACHE_HOME", "HOME",
      "HF_TOKEN",     "HF_ENDPOINT",           "HF_HUB_OFFLINE"};
  void SetUp() override {
    root_ = fs::temp_directory_path() / ("warmpath-hub-" + RandomUuid());
    fs::create_directories(root_);
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      saved_.emplace_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      unsetenv(name);
    }
    options_.cache = root_ / "hub";
    options_.first_pause = milliseconds(1);
    options_.max_pause = milliseconds(5);
    setenv("HF_HUB_CACHE", options_.cache.c_str(), 1);
  }
  void TearDown() override {
    for (size_t i = 0; i < std::size(kVariables); ++i) {
      if (saved_[i]) {
        setenv(kVariables[i], saved_[i]->c_str(), 1);
      } else {
        unsetenv(kVariables[i]);
      }
    }
    fs::remove_all(root_);
  }
  void Serve(FakeHub::Script script) {
    hub_ = std::make_unique<FakeHub>(std::move(script));
    options_.endpoint = hub_->url();
  }
  Result<std::string> Download(const std::string& name = "org/model") {
    return DownloadTokenizer(options_, ParseHubName(name).value(), stop_.get_token());
  }
  // The message of a download that must fail.
  std::string Failure(Code code, const std::string& name = "org/model") {
    const auto got = Download(name);
    if (got) return "it succeeded";
    EXPECT_EQ(got.error().code, code) << got.error().message;
    return got.error().message;
  }
  static bool Says(const std::string& message, std::string_view what) {
    return message.find(what) != std::string::npos;
  }

  fs::path root_;
  HubOptions options_;
  std::stop_source stop_;
  std::unique_ptr<FakeHub> hub_;
  std::vector<std::optional<std::string>> saved_;
};

TEST_F(Hub, FillsTheCacheSoThatTheNameIsFoundThere) {
  Serve(Model);
  const auto got = Download();
  ASSERT_TRUE(got) << got.error().message;
  const fs::path model = options_.cache / "models--org--model";
  EXPECT_EQ(*got, (model / "snapshots" / kCommit).string());
  EXPECT_EQ(Read(model / "refs" / "main"), kCommit);
  EXPECT_EQ(Read(model / "blobs" / kTag), "{}");
  EXPECT_EQ(fs::read_symlink(fs::path(*got) / "tokenizer.json"), fs::path("../../blobs") / kTag);
  EXPECT_EQ(Read(fs::path(*got) / "tokenizer_config.json"), R"({"a":1})");
  EXPECT_FALSE(fs::exists(fs::path(*got) / "config.json")) << "optional, and the model has none";
  EXPECT_EQ(FindTokenizerDirectory("org/model").value(), *got);
  EXPECT_EQ(FindTokenizerDirectory(std::string("org/model@") + kCommit).value(), *got);
  for (const auto& entry : fs::recursive_directory_iterator(options_.cache)) {
    EXPECT_EQ(entry.path().string().find("incomplete"), std::string::npos) << entry.path();
  }
}

TEST_F(Hub, ASecondDownloadReplacesWhatIsThere) {
  Serve(Model);
  ASSERT_TRUE(Download());
  std::ofstream(options_.cache / "models--org--model" / "blobs" / kTag) << "spoiled";
  const auto again = Download();
  ASSERT_TRUE(again) << again.error().message;
  EXPECT_EQ(Read(fs::path(*again) / "tokenizer.json"), "{}");
}

TEST_F(Hub, TheRestIsTakenFromTheCommitOfTheFirstFile) {
  Serve(Model);
  ASSERT_TRUE(Download());
  const auto requests = hub_->requests();
  EXPECT_EQ(requests.front().target, "/org/model/resolve/main/tokenizer.json");
  for (size_t i = 1; i < requests.size(); ++i) {
    EXPECT_TRUE(requests[i].target.starts_with(std::string("/org/model/resolve/") + kCommit + "/"))
        << requests[i].target;
  }
}

TEST_F(Hub, ARevisionIsOneSegmentOfTheAddressAndARefInTheCache) {
  Serve([](const net::HttpRequest& request) -> FakeHub::Reply {
    if (request.target == "/org/model/resolve/refs%2Fpr%2F1/tokenizer.json") {
      return {200, {{"X-Repo-Commit", kCommit}}, "{}"};
    }
    return Missing();
  });
  const auto got = Download("org/model@refs/pr/1");
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(Read(options_.cache / "models--org--model" / "refs" / "refs" / "pr" / "1"), kCommit);
  EXPECT_EQ(FindTokenizerDirectory("org/model@refs/pr/1").value(), *got);
}

TEST_F(Hub, TheTokenStaysWithTheHubWhenAFileLiesElsewhere) {
  FakeHub store([](const net::HttpRequest&) -> FakeHub::Reply {
    return {200, {{"ETag", "\"of-the-store\""}}, "{}"};
  });
  const std::string sha = Hex(Sha256("{}"));
  Serve([&](const net::HttpRequest& request) -> FakeHub::Reply {
    if (request.target != "/org/model/resolve/main/tokenizer.json") return Missing();
    return {302,
            {{"Location", store.url() + "/bytes?signature=x"},
             {"X-Repo-Commit", kCommit},
             {"X-Linked-ETag", "\"" + sha + "\""}}};
  });
  options_.token = kToken;
  const LogCapture log;
  const auto got = Download();
  ASSERT_TRUE(got) << got.error().message;
  for (const auto& request : hub_->requests()) {
    EXPECT_EQ(request.headers.Get("Authorization"), "Bearer " + kToken);
  }
  ASSERT_EQ(store.requests().size(), 1u);
  EXPECT_EQ(store.requests()[0].target, "/bytes?signature=x");
  EXPECT_FALSE(store.requests()[0].headers.Get("Authorization"));
  EXPECT_EQ(Read(options_.cache / "models--org--model" / "blobs" / sha), "{}");
  EXPECT_EQ(log.text().find(kToken), std::string::npos);
}

TEST_F(Hub, ARedirectOnTheHubItselfIsFollowedWithTheToken) {
  Serve([](const net::HttpRequest& request) -> FakeHub::Reply {
    if (request.target == "/org/model/resolve/main/tokenizer.json") {
      return {307, {{"Location", "/api/resolve-cache/x?y=1"}, {"X-Repo-Commit", kCommit}}};
    }
    if (request.target == "/api/resolve-cache/x?y=1") return {200, {}, "{}"};
    return Missing();
  });
  options_.token = kToken;
  ASSERT_TRUE(Download());
  EXPECT_EQ(hub_->Count("/api/resolve-cache/x?y=1"), 1u);
  EXPECT_EQ(hub_->requests()[1].headers.Get("Authorization"), "Bearer " + kToken);
}

TEST_F(Hub, RedirectsEnd) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply { return {302, {{"Location", "/again"}}}; });
  EXPECT_TRUE(Says(Failure(Code::kInternal), "more than 5 redirects"));
  EXPECT_EQ(hub_->requests().size(), 6u) << "and are not tried again";
}

TEST_F(Hub, ContentThatIsNotWhatTheHubAnnouncedIsRefused) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply {
    return {200, {{"X-Repo-Commit", kCommit}, {"X-Linked-ETag", Hex(Sha256("other"))}}, "{}"};
  });
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "not what the hub announced"));
  EXPECT_FALSE(FindTokenizerDirectory("org/model"));
}

TEST_F(Hub, TriesAgainAfterPassingFaults) {
  int faults = 0;
  Serve([&](const net::HttpRequest& request) -> FakeHub::Reply {
    if (faults < 2) return {faults++ == 0 ? 503 : 429, {{"Retry-After", "1000"}}};
    return Model(request);
  });
  const auto got = Download();
  ASSERT_TRUE(got) << got.error().message;
  EXPECT_EQ(hub_->Count("/org/model/resolve/main/tokenizer.json"), 3u);
}

TEST_F(Hub, GivesUpAfterTheAttemptsGiven) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply { return {500}; });
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "answered 500 for tokenizer.json of org/model"));
  EXPECT_EQ(hub_->requests().size(), 3u);
}

TEST_F(Hub, SaysWhereNobodyAnswers) {
  Serve(Model);
  const std::string url = hub_->url();
  hub_.reset();
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), url));
}

TEST_F(Hub, ASilentHubIsATimeout) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply { return {.silent = true}; });
  options_.idle_timeout = milliseconds(50);
  options_.attempts = 1;
  Failure(Code::kTimeout);
  options_.idle_timeout = seconds(60);
  options_.file_timeout = milliseconds(50);
  EXPECT_TRUE(Says(Failure(Code::kTimeout), "not complete within"));
}

TEST_F(Hub, EndsWhenStoppedHoweverLongTheHubTakes) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply { return {.silent = true}; });
  std::jthread stopper([this] {
    Eventually([this] { return !hub_->requests().empty(); });
    stop_.request_stop();
  });
  Failure(Code::kCancelled);
  Failure(Code::kCancelled);
}

TEST_F(Hub, AFileOverTheLimitIsRefused) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply {
    return {200, {{"X-Repo-Commit", kCommit}}, std::string(2000, 'x')};
  });
  options_.max_file_bytes = 1999;
  EXPECT_TRUE(Says(Failure(Code::kOutOfBounds), "is larger than"));
}

TEST_F(Hub, SaysWhatToDoAboutAModelThatIsNotGiven) {
  int status = 401;
  std::string code = "GatedRepo";
  Serve([&](const net::HttpRequest&) -> FakeHub::Reply {
    return {status, {{"X-Error-Code", code}}, "Access to model org/model is restricted."};
  });
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "401: org/model is gated"));
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "set HF_TOKEN"));
  code = "RepoNotFound";
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "does not exist there, or is private or gated"));
  options_.token = kToken;
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "not to be had with this HF_TOKEN"));
  status = 403;
  code = "GatedRepo";
  const std::string message = Failure(Code::kUnavailable);
  EXPECT_TRUE(Says(message, "HF_TOKEN's account has no access")) << message;
  EXPECT_FALSE(Says(message, kToken));
  status = 404;
  code = "RepoNotFound";
  EXPECT_TRUE(Says(Failure(Code::kNotFound), "has no model org/model"));
  code = "RevisionNotFound";
  EXPECT_TRUE(Says(Failure(Code::kNotFound, "org/model@v9"), "has no revision v9 of org/model"));
  code = "EntryNotFound";
  EXPECT_TRUE(Says(Failure(Code::kNotFound), "has no tokenizer.json of org/model"));
}

TEST_F(Hub, SomethingElseThanAHubIsNamed) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply { return {200, {}, "<html>"}; });
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "no X-Repo-Commit"));
}

TEST_F(Hub, ACommitThatWouldLeaveTheCacheIsNone) {
  Serve([](const net::HttpRequest&) -> FakeHub::Reply {
    return {200, {{"X-Repo-Commit", "../../../../etc"}}, "{}"};
  });
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "no X-Repo-Commit"));
}

TEST_F(Hub, ACacheThatCannotBeWrittenFailsBeforeAnythingIsAsked) {
  Serve(Model);
  std::ofstream(root_ / "file") << "x";
  options_.cache = root_ / "file";
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "cannot be written by uid"));
  options_.cache.clear();
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "set HF_HOME"));
  options_.cache = root_;
  options_.offline = true;
  EXPECT_TRUE(Says(Failure(Code::kUnavailable), "HF_HUB_OFFLINE"));
  EXPECT_TRUE(hub_->requests().empty());
}

TEST_F(Hub, ReadsItsOptionsFromTheEnvironment) {
  HubOptions options = HubOptionsFromEnvironment();
  EXPECT_EQ(options.endpoint, "https://huggingface.co");
  EXPECT_EQ(options.cache, options_.cache);
  EXPECT_EQ(options.token, "");
  EXPECT_FALSE(options.offline);
  setenv("HF_TOKEN", " hf_x\n", 1);
  setenv("HF_ENDPOINT", "http://mirror/hf", 1);
  setenv("HF_HUB_OFFLINE", "True", 1);
  options = HubOptionsFromEnvironment();
  EXPECT_EQ(options.endpoint, "http://mirror/hf");
  EXPECT_EQ(options.token, "hf_x");
  EXPECT_TRUE(options.offline);
}

TEST_F(Hub, ATokenThatWouldBreakTheHeaderIsRefused) {
  Serve(Model);
  options_.token = "hf_x\r\nX-Other: 1";
  const std::string message = Failure(Code::kInvalidArgument);
  EXPECT_TRUE(Says(message, "HF_TOKEN is no token"));
  EXPECT_FALSE(Says(message, "hf_x"));
}

TEST(HubName, TakesNamesAndRevisions) {
  EXPECT_EQ(ParseHubName("Qwen/Qwen3-0.6B")->repo, "Qwen/Qwen3-0.6B");
  EXPECT_EQ(ParseHubName("Qwen/Qwen3-0.6B")->revision, "main");
  EXPECT_TRUE(ParseHubName("a/b")->has_owner());
  EXPECT_FALSE(ParseHubName("gpt2")->has_owner());
  EXPECT_EQ(ParseHubName("a/b@v1.0")->revision, "v1.0");
  EXPECT_EQ(ParseHubName("a/b@v1.0")->ToString(), "a/b@v1.0");
  for (const char* bad : {"", "/models/qwen", "./qwen", "../x/y", "a/..", "a/b/c", "a//b", "a b",
                          "a/b?c", "a/b@", "a/b@../x", "a/b@x/../y", "-a/b", "a\\b"}) {
    EXPECT_FALSE(ParseHubName(bad)) << bad;
  }
}

TEST(HubAddress, EndpointsMayLieUnderAPath) {
  const auto at = FileAddress("https://mirror.test:8443/hf/", {"a/b"}, "v1", "tokenizer.json");
  ASSERT_TRUE(at) << at.error().message;
  EXPECT_EQ(at->ToString(), "https://mirror.test:8443/hf/a/b/resolve/v1/tokenizer.json");
  EXPECT_FALSE(FileAddress("ftp://mirror", {"a/b"}, "v1", "x"));
}

TEST(HubAddress, RedirectsLeadToWebAddressesOnly) {
  const HubAddress from = *FileAddress("https://hub.test/base", {"a/b"}, "v1", "x");
  const auto to = [&](std::string_view location) {
    const auto address = RedirectAddress(from, location);
    return address ? address->url.ToString() + address->target : address.error().message;
  };
  EXPECT_EQ(to("/c/d?e=f"), "https://hub.test/c/d?e=f") << "from the host's root";
  EXPECT_EQ(to("https://cdn.test/x?s=1&t=%20#frag"), "https://cdn.test/x?s=1&t=%20");
  EXPECT_EQ(to("//cdn.test/x"), "https://cdn.test/x");
  EXPECT_EQ(to("https://cdn.test?x"), "https://cdn.test/?x");
  EXPECT_EQ(to("https://cdn.test"), "https://cdn.test/");
  for (const char* bad : {"", "x", "ftp://a/b", "file:///etc/passwd", "https://u:p@h/", "http://",
                          "/a b", "/a\r\nX: y", "https://"}) {
    EXPECT_FALSE(RedirectAddress(from, bad)) << bad;
  }
  EXPECT_NE(to("http://hub.test/x").find("from https to http"), std::string::npos);
  EXPECT_EQ(from.ToString().find('?'), std::string::npos);
}

TEST(HubAddress, OneOriginIsOneSchemeHostAndPort) {
  const net::Url hub = *net::ParseUrl("https://Hub.test");
  EXPECT_TRUE(SameOrigin(hub, *net::ParseUrl("https://hub.test/x")));
  EXPECT_FALSE(SameOrigin(hub, *net::ParseUrl("https://hub.test:8443")));
  EXPECT_FALSE(SameOrigin(hub, *net::ParseUrl("http://hub.test:443")));
  EXPECT_FALSE(SameOrigin(hub, *net::ParseUrl("https://hub.test.evil")));
}

}  // namespace
}  // namespace warmpath::prompt
