#include "app/tokenizer_loader.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "base/hash.h"
#include "base/log.h"
#include "net/http_server.h"
#include "net/testing.h"
#include "prompt/tiny_tokenizer.h"
#include "routing/director_testing.h"

namespace warmpath::app {
namespace {

namespace fs = std::filesystem;
using net::testing::Eventually;

// A Director without a tokenizer, and a hub that has the tiny one under the names in `models`.
class TokenizerLoaderTest : public routing::DirectorTest {
 protected:
  void SetUp() override {
    director_.SetEncoderAbsent("none yet");
    root_ = fs::temp_directory_path() / ("warmpath-loader-" + RandomUuid());
    fs::create_directories(root_);
    setenv("HF_HUB_CACHE", (root_ / "hub").c_str(), 1);
    hub_ = net::HttpServer::Listen(
               hub_loop_, {"127.0.0.1", 0}, {},
               [this](std::shared_ptr<net::HttpExchange> exchange) { Answer(std::move(exchange)); })
               .value();
    hub_loop_.Start();
    options_.hub.endpoint = "http://127.0.0.1:" + std::to_string(hub_->port());
    options_.hub.cache = root_ / "hub";
    options_.hub.attempts = 1;
    options_.first_pause = options_.max_pause = std::chrono::milliseconds(1);
  }
  void TearDown() override {
    loader_.reset();
    hub_->Stop(Duration::zero());
    hub_loop_.Stop();
    unsetenv("HF_HUB_CACHE");
    fs::remove_all(root_);
  }

  void Answer(std::shared_ptr<net::HttpExchange> exchange) {
    const std::string target = exchange->request().target;
    std::string model;
    {
      MutexLock lock(mutex_);
      asked_.push_back(target);
      model = has_;
    }
    if (silent_) {
      held_.push_back(std::move(exchange));
    } else if (!model.empty() && target == "/" + model + "/resolve/main/tokenizer.json") {
      exchange->Respond(200, {{"X-Repo-Commit", std::string(40, 'a')}},
                        prompt::TinyTokenizerJson());
    } else {
      exchange->Respond(404, {}, "");
    }
  }
  void HubHas(const std::string& model) {
    MutexLock lock(mutex_);
    has_ = model;
  }
  // The first `count` tokenizers asked for, as soon as there were so many.
  std::vector<std::string> Asked(size_t count) {
    std::vector<std::string> models;
    Eventually([&] {
      models.clear();
      MutexLock lock(mutex_);
      for (const std::string& target : asked_) {
        const size_t end = target.find("/resolve/main/tokenizer.json");
        if (end != std::string::npos && models.size() < count) {
          models.push_back(target.substr(1, end - 1));
        }
      }
      return models.size() == count;
    });
    return models;
  }
  TokenizerLoader& Start() {
    loader_ = std::make_unique<TokenizerLoader>(options_, director_, metrics_,
                                                [this](const auto&) { ++loaded_; });
    return *loader_;
  }
  static fleet::Snapshot Serving(const std::vector<fleet::ServedModel>& models) {
    fleet::Snapshot snapshot;
    for (const fleet::ServedModel& model : models) {
      auto endpoint = std::make_shared<fleet::Endpoint>();
      endpoint->models = {model};
      snapshot.endpoints.push_back(std::move(endpoint));
    }
    return snapshot;
  }
  bool Reaches(std::string_view state) {
    return Eventually([&] { return loader_->info().state == state; });
  }

  fs::path root_;
  TokenizerLoaderOptions options_;
  net::Loop hub_loop_{"hub"};
  std::unique_ptr<net::HttpServer> hub_;
  Mutex mutex_;
  std::string has_ GUARDED_BY(mutex_);
  std::vector<std::string> asked_ GUARDED_BY(mutex_);
  std::atomic<bool> silent_{false};
  std::vector<std::shared_ptr<net::HttpExchange>> held_;  // the hub's loop's
  std::atomic<int> loaded_{0};
  std::unique_ptr<TokenizerLoader> loader_;
};

TEST_F(TokenizerLoaderTest, ADirectoryIsLoadedBeforeAnythingListens) {
  prompt::WriteTinyTokenizer(root_ / "tiny");
  options_.source = (root_ / "tiny").string();
  ASSERT_TRUE(Start().LoadExplicit());
  EXPECT_TRUE(loader_->settled());
  EXPECT_EQ(loader_->info().state, "loaded");
  EXPECT_EQ(loader_->info().source, "directory");
  EXPECT_NE(director_.encoder(), nullptr);
  EXPECT_EQ(loaded_, 1);
}

TEST_F(TokenizerLoaderTest, ADirectoryThatIsNotThereIsAMistakeInTheFlag) {
  options_.source = (root_ / "gone").string();
  const Status status = Start().LoadExplicit();
  ASSERT_FALSE(status);
  EXPECT_EQ(status.error().code, Code::kInvalidArgument);
  EXPECT_NE(status.error().message.find("--tokenizer"), std::string::npos);
}

TEST_F(TokenizerLoaderTest, ANameIsTriedUntilTheHubHasIt) {
  options_.source = "org/model";
  const LogCapture log;
  EXPECT_TRUE(Start().LoadExplicit());
  ASSERT_TRUE(Reaches("failed"));
  EXPECT_TRUE(loader_->settled()) << "readiness waits for one attempt";
  EXPECT_NE(loader_->info().reason.find("has no tokenizer.json of org/model"), std::string::npos);
  EXPECT_NE(director_.encoder_note().find("has no tokenizer.json"), std::string::npos);
  EXPECT_EQ(Asked(3).size(), 3u);
  HubHas("org/model");
  ASSERT_TRUE(Reaches("loaded"));
  EXPECT_EQ(loader_->info().source, "hub");
  EXPECT_TRUE(Rendered("warmpath_tokenizer_state{state=\"loaded\"} 1"));
  EXPECT_TRUE(Rendered("warmpath_tokenizer_state{state=\"failed\"} 0"));
  EXPECT_NE(director_.encoder(), nullptr);
  EXPECT_EQ(loaded_, 1);
  const std::string text = log.text();
  for (const char* line : {"tokenizer loading", "tokenizer failed", "tokenizer loaded"}) {
    const size_t at = text.find(line);
    ASSERT_NE(at, std::string::npos) << line;
    EXPECT_EQ(text.find(line, at + 1), std::string::npos) << "said once: " << line;
  }
}

TEST_F(TokenizerLoaderTest, WhatTheEngineLoadedIsAskedForBeforeTheNameItServes) {
  Start().OnFleet(Serving({{"prod/chat", "org/model", ""}}));
  EXPECT_EQ(Asked(2), (std::vector<std::string>{"org/model", "prod/chat"}));
  HubHas("org/model");
  ASSERT_TRUE(Reaches("loaded"));
  EXPECT_EQ(loader_->info().name, "org/model");
}

TEST_F(TokenizerLoaderTest, NamesWithoutAnOwnerAreNobodysBusiness) {
  Start().OnFleet(Serving({{"our-secret-model", "/models/ours", ""}}));
  ASSERT_TRUE(Reaches("failed"));
  MutexLock lock(mutex_);
  EXPECT_TRUE(asked_.empty());
}

TEST_F(TokenizerLoaderTest, AdaptersNameNoTokenizer) {
  Start().OnFleet(Serving({{"sql", "org/adapter", "base"}}));
  EXPECT_EQ(loader_->info().state, "waiting");
  EXPECT_FALSE(loader_->settled());
}

TEST_F(TokenizerLoaderTest, ADirectoryThatAppearsLaterIsFound) {
  const std::string directory = (root_ / "volume").string();
  Start().OnFleet(Serving({{"m", directory, ""}}));
  ASSERT_TRUE(Reaches("failed"));
  prompt::WriteTinyTokenizer(root_ / "unfinished");
  fs::rename(root_ / "unfinished", directory);
  ASSERT_TRUE(Reaches("loaded"));
  EXPECT_EQ(loader_->info().source, "directory");
  EXPECT_EQ(loader_->info().directory, directory);
}

TEST_F(TokenizerLoaderTest, AnotherEngineOfTheModelAddsItsName) {
  Start().OnFleet(Serving({{"m", "/models/m", ""}}));
  ASSERT_TRUE(Reaches("failed"));
  HubHas("org/model");
  loader_->OnFleet(Serving({{"other", "org/other", ""}, {"m", "org/model", ""}}));
  ASSERT_TRUE(Reaches("loaded"));
  EXPECT_EQ(loader_->info().name, "org/model");
  MutexLock lock(mutex_);
  for (const std::string& target : asked_) EXPECT_TRUE(target.starts_with("/org/model/")) << target;
}

TEST_F(TokenizerLoaderTest, AModelThatIsNotServedAnyMoreIsForgotten) {
  Start().OnFleet(Serving({{"old/model", "", ""}}));
  ASSERT_TRUE(Reaches("failed"));
  HubHas("new/model");
  loader_->OnFleet(Serving({}));
  loader_->OnFleet(Serving({{"new/model", "", ""}}));
  ASSERT_TRUE(Reaches("loaded"));
  EXPECT_EQ(loader_->info().name, "new/model");
}

TEST_F(TokenizerLoaderTest, ALongFirstLoadHoldsUpReadinessForALimitedTimeOnly) {
  silent_ = true;
  options_.source = "org/model";
  options_.settle_after = std::chrono::hours(1);
  EXPECT_TRUE(Start().LoadExplicit());
  EXPECT_EQ(Asked(1).size(), 1u);
  EXPECT_FALSE(loader_->settled());
  EXPECT_EQ(loader_->info().state, "loading");
  loader_.reset();  // and a stop does not wait for the hub
  options_.settle_after = Duration::zero();
  EXPECT_TRUE(Start().LoadExplicit());
  EXPECT_TRUE(loader_->settled());
}

}  // namespace
}  // namespace warmpath::app
