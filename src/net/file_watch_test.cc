#include "net/file_watch.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <atomic>
#include <filesystem>

#include "net/testing.h"
#include "net/tls_testing.h"

namespace warmpath::net {
namespace {

using std::chrono::milliseconds;
using testing::Eventually;
using testing::TestDirectory;

class FileWatchTest : public ::testing::Test {
 protected:
  FileWatchTest() { loop_.Start(); }
  ~FileWatchTest() override {
    loop_.Run([this] { watch_.reset(); });
  }
  void Watch(std::vector<std::string> names) {
    for (std::string& name : names) name = directory_.Path(name);
    loop_.Run([&] {
      watch_ = std::make_unique<FileWatch>(
          loop_, std::move(names), [this] { ++changes_; }, milliseconds(1));
    });
  }
  // Enough turns of the watch for it to have told what there is to tell.
  void LetItLook() {
    std::atomic<int> turns{0};
    Timer timer;
    loop_.Run([&] { timer = loop_.Every(milliseconds(1), [&] { ++turns; }); });
    EXPECT_TRUE(Eventually([&] { return turns >= 20; }));
    loop_.Run([&] { timer.Cancel(); });
  }
  bool Changes(int count) {
    return Eventually([&] { return changes_ >= count; });
  }

  TestDirectory directory_;
  Loop loop_{"watch"};
  std::unique_ptr<FileWatch> watch_;
  std::atomic<int> changes_{0};
};

TEST_F(FileWatchTest, TellsOfNewContentOnce) {
  directory_.Write("a", "one");
  directory_.Write("b", "one");
  Watch({"a", "b"});
  LetItLook();
  EXPECT_EQ(changes_, 0);
  directory_.Write("a", "two");
  EXPECT_TRUE(Changes(1));
  LetItLook();
  EXPECT_EQ(changes_, 1);
  directory_.Write("b", "six");
  EXPECT_TRUE(Changes(2));
  LetItLook();
  EXPECT_EQ(changes_, 2);
}

TEST_F(FileWatchTest, SeesAChangeInPlaceOfTheSameSize) {
  const std::string path = directory_.Write("a", "one");
  Watch({"a"});
  std::ofstream(path) << "two";
  EXPECT_TRUE(Changes(1));
}

TEST_F(FileWatchTest, TheSameContentWrittenAgainIsNoChange) {
  directory_.Write("a", "one");
  Watch({"a"});
  directory_.Write("a", "one");
  LetItLook();
  EXPECT_EQ(changes_, 0);
}

TEST_F(FileWatchTest, AMissingFileChangesNothingUntilItIsBack) {
  directory_.Write("a", "one");
  Watch({"a", "later"});
  std::filesystem::remove(directory_.Path("a"));
  LetItLook();
  EXPECT_EQ(changes_, 0);
  directory_.Write("a", "one");
  LetItLook();
  EXPECT_EQ(changes_, 0);
  directory_.Write("later", "");
  EXPECT_TRUE(Changes(1));
}

TEST_F(FileWatchTest, SeesTheLinksThatKubernetesSwaps) {
  namespace fs = std::filesystem;
  directory_.Write("..v1/tls.crt", "one");
  directory_.Write("..v2/tls.crt", "two");
  fs::create_directory_symlink("..v1", directory_.Path("..data"));
  fs::create_symlink("..data/tls.crt", directory_.Path("tls.crt"));
  Watch({"tls.crt"});
  LetItLook();
  EXPECT_EQ(changes_, 0);
  fs::create_directory_symlink("..v2", directory_.Path("..data_tmp"));
  fs::rename(directory_.Path("..data_tmp"), directory_.Path("..data"));
  EXPECT_TRUE(Changes(1));
}

TEST_F(FileWatchTest, WhatIsNoFileIsMissing) {
  std::filesystem::create_directory(directory_.Path("directory"));
  ASSERT_EQ(mkfifo(directory_.Path("pipe").c_str(), 0600), 0);
  Watch({"directory", "pipe"});
  LetItLook();
  EXPECT_EQ(changes_, 0);
}

TEST_F(FileWatchTest, MayBeEndedFromItsOwnCallback) {
  directory_.Write("a", "one");
  loop_.Run([&] {
    watch_ = std::make_unique<FileWatch>(
        loop_, std::vector{directory_.Path("a")},
        [this] {
          watch_.reset();
          ++changes_;
        },
        milliseconds(1));
  });
  directory_.Write("a", "two");
  EXPECT_TRUE(Changes(1));
  directory_.Write("a", "three");
  LetItLook();
  EXPECT_EQ(changes_, 1);
}

}  // namespace
}  // namespace warmpath::net
