#include "fleet/name_resolver.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <string>
#include <vector>

namespace warmpath::fleet {
namespace {

TEST(NameResolver, AsksTheSystem) {
  const auto found = SystemLookup("localhost");
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_THAT(*found, testing::AnyOf(testing::Contains("127.0.0.1"), testing::Contains("::1")));
  EXPECT_THAT(SystemLookup("::1").value(), testing::ElementsAre("::1"));
  const auto none = SystemLookup("no..name");
  ASSERT_FALSE(none);
  EXPECT_THAT(none.error().message, testing::HasSubstr("cannot resolve no..name"));
}

TEST(NameResolver, OneHangingNameHoldsUpNoOther) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  NameResolver resolver([&](const std::string& host) -> Result<std::vector<std::string>> {
    if (host == "hangs") released.wait();
    return std::vector<std::string>{host + "!"};
  });
  std::promise<std::string> hung;
  std::promise<std::string> quick;
  const auto tell = [](std::promise<std::string>& promise) {
    return [&](Result<std::vector<std::string>> answer) { promise.set_value(answer->at(0)); };
  };
  resolver.Resolve("hangs", tell(hung));
  resolver.Resolve("quick", tell(quick));
  EXPECT_EQ(quick.get_future().get(), "quick!");
  release.set_value();
  EXPECT_EQ(hung.get_future().get(), "hangs!");
}

TEST(NameResolver, StopsWhileALookupHangs) {
  auto release = std::make_shared<std::promise<void>>();
  auto entered = std::make_shared<std::promise<void>>();
  auto left = std::make_shared<std::promise<void>>();
  std::atomic<int> answers{0};
  {
    NameResolver resolver(
        [entered, left, released = std::make_shared<std::future<void>>(release->get_future())](
            const std::string&) -> Result<std::vector<std::string>> {
          entered->set_value();
          released->wait();
          left->set_value();
          return std::vector<std::string>{"10.0.0.1"};
        });
    resolver.Resolve("hangs", [&](Result<std::vector<std::string>>) { ++answers; });
    entered->get_future().get();
  }
  release->set_value();
  left->get_future().get();
  EXPECT_EQ(answers, 0);
}

}  // namespace
}  // namespace warmpath::fleet
