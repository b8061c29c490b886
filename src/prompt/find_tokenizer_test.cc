#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "prompt/tokenizer.h"

namespace warmpath::prompt {
namespace {

namespace fs = std::filesystem;

// Points the Hugging Face variables into an empty directory and restores them afterwards.
class FindTokenizer : public testing::Test {
 protected:
  static constexpr const char* kVariables[] = {"HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME",
                                               "XDG_CACHE_HOME", "HOME"};

  void SetUp() override {
    root_ = fs::temp_directory_path() / ("warmpath-find-" + std::to_string(getpid()));
    fs::remove_all(root_);
    fs::create_directories(root_);
    for (const char* name : kVariables) {
      const char* value = std::getenv(name);
      saved_.emplace_back(value == nullptr ? std::nullopt : std::optional<std::string>(value));
      unsetenv(name);
    }
    setenv("HOME", (root_ / "home").c_str(), 1);
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

  fs::path Snapshot(const fs::path& cache, const std::string& folder, const std::string& revision) {
    const fs::path dir = cache / folder / "snapshots" / revision;
    fs::create_directories(dir);
    std::ofstream(dir / "tokenizer.json") << "{}";
    return dir;
  }

  fs::path root_;
  std::vector<std::optional<std::string>> saved_;
};

TEST_F(FindTokenizer, TakesADirectoryAsItIs) {
  std::ofstream(root_ / "tokenizer.json") << "{}";
  EXPECT_EQ(FindTokenizerDirectory(root_.string()).value(), root_.string());
  fs::remove(root_ / "tokenizer.json");
  EXPECT_EQ(FindTokenizerDirectory(root_.string()).error().code, Code::kNotFound);
}

TEST_F(FindTokenizer, FindsTheSnapshotThatMainNames) {
  const fs::path cache = root_ / "home" / ".cache" / "huggingface" / "hub";
  const fs::path old = Snapshot(cache, "models--Qwen--Qwen3-0.6B", "aaa");
  Snapshot(cache, "models--Qwen--Qwen3-0.6B", "bbb");
  fs::create_directories(cache / "models--Qwen--Qwen3-0.6B" / "refs");
  std::ofstream(cache / "models--Qwen--Qwen3-0.6B" / "refs" / "main") << "aaa\n";
  EXPECT_EQ(FindTokenizerDirectory("Qwen/Qwen3-0.6B").value(), old.string());
}

TEST_F(FindTokenizer, WithoutMainTakesTheNewestSnapshotThatHasATokenizer) {
  const fs::path cache = root_ / "hub";
  setenv("HF_HUB_CACHE", cache.c_str(), 1);
  const fs::path old = Snapshot(cache, "models--gpt2", "aaa");
  const fs::path newer = Snapshot(cache, "models--gpt2", "bbb");
  fs::last_write_time(old, fs::last_write_time(newer) - std::chrono::hours(1));
  fs::create_directories(cache / "models--gpt2" / "snapshots" / "ccc");
  EXPECT_EQ(FindTokenizerDirectory("gpt2").value(), newer.string());
}

TEST_F(FindTokenizer, HfHomeHoldsAHub) {
  setenv("HF_HOME", (root_ / "hf").c_str(), 1);
  const fs::path dir = Snapshot(root_ / "hf" / "hub", "models--a--b", "r");
  EXPECT_EQ(FindTokenizerDirectory("a/b").value(), dir.string());
}

TEST_F(FindTokenizer, SaysWhereItLooked) {
  const auto found = FindTokenizerDirectory("no/model");
  ASSERT_FALSE(found.has_value());
  EXPECT_EQ(found.error().code, Code::kNotFound);
  EXPECT_NE(found.error().message.find("models--no--model"), std::string::npos);
  EXPECT_FALSE(FindTokenizerDirectory("").has_value());
  EXPECT_FALSE(FindTokenizerDirectory("../../etc/x").has_value());
}

}  // namespace
}  // namespace warmpath::prompt
