#include "app/cluster_access.h"

#include <gtest/gtest.h>

#include <future>

namespace warmpath::app {
namespace {

using admin::AdminAccess;

class FakeReviewer final : public k8s::AccessReviewer {
 public:
  explicit FakeReviewer(net::Loop& loop) : loop_(loop) {}
  void Check(std::string token, std::string verb, std::string path,
             std::function<void(k8s::Access)> done) override {
    EXPECT_TRUE(loop_.InLoop());
    asked = token + " " + verb + " " + path;
    done(answer);
  }
  std::string asked;
  k8s::Access answer = k8s::Access::kAllowed;

 private:
  net::Loop& loop_;
};

AdminAccess Ask(const admin::AdminAuthorize& authorize) {
  std::promise<AdminAccess> answer;
  authorize("token", "post", "/api/v1/explain",
            [&](AdminAccess access) { answer.set_value(access); });
  return answer.get_future().get();
}

TEST(ClusterAccess, TheReviewersAnswerCrossesTheLoops) {
  net::Loop control{"control"};
  auto reviewer = std::make_shared<FakeReviewer>(control);
  const auto authorize = MakeAuthorize(control, reviewer);
  control.Start();
  for (const auto& [given, expected] : std::vector<std::pair<k8s::Access, AdminAccess>>{
           {k8s::Access::kAllowed, AdminAccess::kAllowed},
           {k8s::Access::kUnauthenticated, AdminAccess::kUnauthenticated},
           {k8s::Access::kForbidden, AdminAccess::kForbidden},
           {k8s::Access::kUnavailable, AdminAccess::kUnavailable}}) {
    control.Run([&, access = given] { reviewer->answer = access; });
    EXPECT_EQ(Ask(authorize), expected);
  }
  control.Run([&] {
    EXPECT_EQ(reviewer->asked, "token get /metrics") << "one permission for the whole port";
    reviewer.reset();
  });
  EXPECT_EQ(Ask(authorize), AdminAccess::kUnavailable);
  control.Stop();
}

}  // namespace
}  // namespace warmpath::app
